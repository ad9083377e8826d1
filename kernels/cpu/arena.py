"""The memory of a program, planned once: where each of its values always lies, and its steps bound to these places.

Values whose operators cannot be told where to write (see `Prepared`) are not in it: each execution makes them anew.
Such a value may be a view of what it was made of, so that this stays where it is for as long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from iosfarm.ir.operators import Shape
from iosfarm.kernels.cpu.operators.prepared import Prepared, Source, Step, Values
from iosfarm.kernels.cpu.parts import Part
from iosfarm.kernels.cpu.program import Operation, StageProgram
from iosfarm.kernels.memory import plan_values
from iosfarm.kernels.torch_operators import Function

ALIGNMENT = 64
"""Bytes: a line of the cache, and the widest vector."""


@dataclass(frozen=True)
class BoundStage:
    """A stage's groups of steps that may run side by side. units: of each step of each group, the units of the stage
    that it belongs to, by their place in `Stage.units`. dead: slots with memory of their own that nothing reads after.
    """

    groups: tuple[tuple[Step, ...], ...]
    units: tuple[tuple[tuple[int, ...], ...], ...]
    dead: tuple[int, ...]


@dataclass(frozen=True)
class Arena:
    """places: of each slot, the tensor in which its value always lies, None where it has no place. size: bytes of all
    memory that was planned.
    """

    stages: tuple[BoundStage, ...]
    places: tuple[Tensor | None, ...]
    size: int


def place(programs: Sequence[StageProgram], slots: int, kept: Collection[int], dtype: torch.dtype) -> Arena:
    """Plan the memory of stages that run one after the other, their groups side by side, and take it. kept: slots that
    are read after the last stage. What a stage reads and no stage before makes comes with each execution.
    """
    values = _Values(programs)
    sizes = [math.prod(shape) * dtype.itemsize for shape in values.shapes]
    plan = plan_values(sizes, values.touching(kept), _after(programs), ALIGNMENT)
    scratch = _scratch(programs)
    memory = _taken(plan.size + sum(scratch))
    tensors = [
        None if offset < 0 else _tensor(memory, offset, shape, dtype)
        for offset, shape in zip(plan.offsets, values.shapes, strict=True)
    ]
    places = [values.place(slot, tensors) for slot in range(slots)]
    begins = accumulate(scratch, initial=plan.size)
    pieces = [memory[begin : begin + size] for begin, size in zip(begins, scratch, strict=False)]
    stages = []
    for program in programs:
        groups = tuple(
            tuple(_step(o, places, values.whole_of(o, tensors), piece) for o in group)
            for group, piece in zip(program.groups, pieces, strict=False)
        )
        units = tuple(tuple(operation.units for operation in group) for group in program.groups)
        stages.append(BoundStage(groups, units, tuple(slot for slot in program.dead if places[slot] is None)))
    return Arena(tuple(stages), tuple(places), len(memory))


class _Values:
    """What a program's memory is planned for. shapes: of each value."""

    def __init__(self, programs: Sequence[StageProgram]) -> None:
        self.shapes: list[Shape] = []
        self._whole: dict[int, int] = {}
        self._operations = [operation for program in programs for group in program.groups for operation in group]
        self._number: dict[int, int] = {}
        self._inside: dict[int, tuple[Part, Shape]] = {}
        self._made_of: dict[int, frozenset[int]] = {}
        for operation in self._operations:
            if operation.sizes:
                self._add_whole(operation)
            elif operation.inside is not None:
                self._inside[operation.targets[0]] = operation.inside, operation.shape
            elif isinstance(operation.compute, Prepared):
                self._number[operation.targets[0]] = self._add(operation.shape)
        for operation in self._operations:
            if not isinstance(operation.compute, Prepared) and not operation.sizes:
                sources = (self.of(slot) for slot in operation.sources)
                self._made_of[operation.targets[0]] = frozenset[int]().union(*sources)

    def of(self, slot: int) -> frozenset[int]:
        """The values in which a slot's tensor can lie."""
        if slot in self._inside:
            return self.of(self._inside[slot][0].whole)
        return frozenset({self._number[slot]}) if slot in self._number else self._made_of.get(slot, frozenset())

    def touching(self, kept: Collection[int]) -> list[int]:
        """Of each value the operations that touch it; one more after all others touches what is kept."""
        result = [0] * len(self.shapes)
        for number, operation in enumerate(self._operations):
            touched = frozenset[int]().union(*(self.of(slot) for slot in (*operation.sources, *operation.targets)))
            for value in touched | {self._whole.get(slot, -1) for slot in operation.targets} - {-1}:
                result[value] |= 1 << number
        for value in frozenset[int]().union(*(self.of(slot) for slot in kept)):
            result[value] |= 1 << len(self._operations)
        return result

    def place(self, slot: int, tensors: Sequence[Tensor | None]) -> Tensor | None:
        """The tensor of a slot, given those of the values."""
        if slot in self._inside:
            part, shape = self._inside[slot]
            whole = self.place(part.whole, tensors)
            return None if whole is None else whole[:, part.first : part.first + shape[1]]
        return tensors[self._number[slot]] if slot in self._number else None

    def whole_of(self, operation: Operation, tensors: Sequence[Tensor | None]) -> Tensor | None:
        """Where an operation computes what it then hands on in parts; None for others."""
        value = self._whole.get(operation.targets[0])
        return None if value is None else tensors[value]

    def _add(self, shape: Shape) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _add_whole(self, operation: Operation) -> None:
        if isinstance(operation.compute, Prepared):
            self._whole[operation.targets[0]] = self._add(operation.shape)
        batch, _, *size = operation.shape
        for target, channels in zip(operation.targets, operation.sizes, strict=True):
            self._number[target] = self._add((batch, channels, *size))


def _after(programs: Sequence[StageProgram]) -> list[int]:
    """Of each operation those that begin only when it has ended: later ones of its group, and all of later stages."""
    count = sum(len(group) for program in programs for group in program.groups)
    after, end = [], 0
    for program in programs:
        number, end = end, end + sum(map(len, program.groups))
        later = (1 << count + 1) - (1 << end)
        for group in program.groups:
            last = number + len(group)
            for operation in range(number, last):
                after.append(later | (1 << last) - (1 << operation + 1))
            number = last
    return [*after, 0]


def _scratch(programs: Sequence[StageProgram]) -> list[int]:
    """Bytes for each of the groups that run side by side, by their place in a stage: operations use them in turn."""
    result = [0] * max((len(program.groups) for program in programs), default=0)
    for program in programs:
        for number, group in enumerate(program.groups):
            wanted = [operation.compute.scratch for operation in group if isinstance(operation.compute, Prepared)]
            result[number] = max(result[number], -(-max(wanted, default=0) // ALIGNMENT) * ALIGNMENT)
    return result


def _taken(size: int) -> Tensor:
    """So many bytes, aligned."""
    memory = torch.empty(size + ALIGNMENT, dtype=torch.uint8)
    first = -memory.data_ptr() % ALIGNMENT
    return memory[first : first + size]


def _tensor(memory: Tensor, offset: int, shape: Shape, dtype: torch.dtype) -> Tensor:
    """A tensor there; channels last, if it has four dimensions."""
    values = memory[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype)
    if len(shape) != 4:
        return values.view(shape)
    batch, channels, height, width = shape
    return values.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _step(operation: Operation, places: Sequence[Tensor | None], whole: Tensor | None, scratch: Tensor) -> Step:
    compute, slots, (target, *_) = operation.compute, operation.sources, operation.targets
    if isinstance(compute, Prepared):
        sources = [Source(slot, places[slot]) for slot in slots]
        result = places[target] if whole is None else whole
        if result is None:
            raise AssertionError("a value that is computed has a place")
        step = compute.step(sources, result, scratch if compute.scratch else None)
        return step if whole is None else _dividing(step, whole, operation, places)
    if operation.sizes:
        return _divided(compute, operation, places)

    def own(values: Values) -> None:
        values[target] = dense(compute(*[values[slot] for slot in slots]))

    return own


def _dividing(step: Step, whole: Tensor, operation: Operation, places: Sequence[Tensor | None]) -> Step:
    """A step, and then its channels to their places."""
    pairs = _pairs(whole, operation, places)

    def divide(values: Values) -> None:
        step(values)
        for place, piece in pairs:
            place.copy_(piece)

    return divide


def _divided(function: Function, operation: Operation, places: Sequence[Tensor | None]) -> Step:
    """A function's channels to their places."""

    def divide(values: Values) -> None:
        for place, piece in _pairs(function(*[values[slot] for slot in operation.sources]), operation, places):
            place.copy_(piece)

    return divide


def _pairs(whole: Tensor, operation: Operation, places: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor]]:
    targets = [places[target] for target in operation.targets]
    pieces = torch.split(whole, list(operation.sizes), 1)
    return [(target, piece) for target, piece in zip(targets, pieces, strict=True) if target is not None]


def dense(tensor: Tensor) -> Tensor:
    """A tensor whose elements lie in order, channels last: what a stage hands on, whatever reads it."""
    if tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()
