"""The device memory of one executable: its values, and one or more sets of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from iosfarm.ir.errors import DeviceLost
from iosfarm.ir.operators import Attributes
from iosfarm.kernels.cuda.device.gpu import Gpu, rounded
from iosfarm.kernels.cuda.execution.form import Bound, Form
from iosfarm.kernels.cuda.execution.random_values import RandomValues
from iosfarm.kernels.cuda.program.parameters import merged_weights, packed
from iosfarm.kernels.cuda.program.steps import Lane, Step
from iosfarm.kernels.runtime import Array

WeightsOf = Callable[[int], tuple[Attributes, Mapping[str, Array]]]
"""Attributes and weights of an operator by its number."""

MAX_SETS = 16
"""Sets of random weights: with so many, all but small convolutions find theirs in memory, not in the cache."""

SHARE = 0.2
"""Of the memory that is free, for sets of weights beyond the first, and for arenas beyond the first."""

COOLING = 2
"""Second-level caches' worth of memory that is written so that nothing else is left in the cache."""


class Residency:
    """Allocates and fills. weights: None for random ones.

    Raises:
        MemoryError: there is no room just now.
    """

    def __init__(
        self,
        gpu: Gpu,
        lanes: Sequence[Lane],
        form: Form,
        dtype: str,
        random: RandomValues,
        weights: WeightsOf | None,
    ) -> None:
        self._gpu = gpu
        self._lanes = lanes
        self._form = form
        self._dtype = dtype
        self._random = random
        self._weights = weights
        self._taken: list[int] = []
        self._size = sum(step.call.parameters.size for step in form.program.steps)
        try:
            self._arenas = [self._take(max(1, form.memory.size))]
            self._cooling = 0
            self._sets = [self._set()]
            # Memory that is given back must not be written to any more.
            gpu.synchronize(lanes[0].stream)
        except BaseException:
            self.close()
            raise

    def bound(self) -> Bound:
        """The form at its place, with one set of weights."""
        return Bound(self._gpu, self._lanes, self._form, self._arenas[:1], self._sets[:1])

    def fill_inputs(self, arena: int) -> None:
        """Write random inputs."""
        program = self._form.program
        for value in program.inputs:
            address = arena + self._form.memory.offsets[value]
            self._random.input(address, program.values[value].size, self._lanes[0].stream)

    def warm(self, executions: int) -> Bound:
        """For so many executions that follow each other: as many sets of weights as it takes to push each out of the
        cache before it is used again, if there is room; inputs stay. Weights that were given are there once.
        """
        if self._weights is None and self._size:
            enough = math.ceil(2 * self._gpu.facts.l2 / self._size)
            room = int(SHARE * self._gpu.memory_free()) // self._size
            self._more_sets(min(executions, MAX_SETS, enough, room))
        return Bound(self._gpu, self._lanes, self._form, self._arenas[:1], self._sets)

    def cold(self, executions: int) -> Bound:
        """For so many, or as many as there is room for, none of which touches what another has touched."""
        free = SHARE * self._gpu.memory_free()
        executions = min(executions, 1 + int(free) // (rounded(self._form.memory.size) + self._size))
        while len(self._arenas) < executions:
            self._arenas.append(self._take(max(1, self._form.memory.size)))
        if self._size:
            self._more_sets(executions)
        return Bound(self._gpu, self._lanes, self._form, self._arenas, self._sets)

    def cool(self) -> None:
        """Have the cache hold nothing that an execution reads."""
        size = COOLING * self._gpu.facts.l2
        self._cooling = self._cooling or self._take(size)
        self._gpu.fill(self._cooling, 0, size, self._lanes[0].stream)

    def close(self) -> None:
        """Give everything back, once nothing works on it any more."""
        if self._taken:
            with suppress(DeviceLost, RuntimeError):  # on a lost device nothing works
                self._gpu.synchronize(self._lanes[0].stream)
        for address in self._taken:
            self._gpu.release(address)
        self._taken.clear()

    def _take(self, size: int) -> int:
        self._taken.append(self._gpu.allocate(size))
        return self._taken[-1]

    def _more_sets(self, count: int) -> None:
        while len(self._sets) < count:
            self._sets.append(self._set())
        self._gpu.synchronize(self._lanes[0].stream)

    def _set(self) -> list[int]:
        """One more set: the address of each step's block."""
        if not self._size:
            return [0] * len(self._form.program.steps)
        address = self._take(self._size)
        addresses = []
        for step in self._form.program.steps:
            addresses.append(address)
            self._fill(step, address)
            address += step.call.parameters.size
        return addresses

    def _fill(self, step: Step, address: int) -> None:
        block = step.call.parameters
        if not block.parameters:
            return
        if self._weights is None:
            self._random.parameters(block, address, self._lanes[0].stream)
            return
        given = [self._weights(number) for number in step.operators]
        self._gpu.upload(address, packed(block, _joined(step, given, self._form), self._dtype))


def _joined(step: Step, given: Sequence[tuple[Attributes, Mapping[str, Array]]], form: Form) -> Mapping[str, Array]:
    """The weights of a step's operators under the names that its call has for them."""
    if len(given) == 1:
        return given[0][1]
    if any(p.name.startswith("depthwise.") for p in step.call.parameters.parameters):
        (_, depthwise), (_, pointwise) = given
        return {
            **{f"depthwise.{name}": values for name, values in depthwise.items()},
            **{f"pointwise.{name}": values for name, values in pointwise.items()},
        }
    height, width = form.program.values[step.reads[0]].shape[2:]
    return merged_weights([attributes for attributes, _ in given], [w for _, w in given], (height, width))
