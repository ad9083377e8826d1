"""`ReplayRuntime`: times from a recording, numbers from the reference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import count
from typing import NoReturn, Self

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import Infeasible, IosfarmError, UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.operators import Shape
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.kernels.computed import Compute, ComputedExecutable
from iosfarm.kernels.given import given_parameters, given_stage_parameters, random_stage_parameters
from iosfarm.kernels.replay.recording import PREFIX, Entry, Recording, find, read
from iosfarm.kernels.runtime import Array, Weights
from iosfarm.kernels.steady import reference_stage

STEADY = Entry((1e-4,))
"""The reference stage, where it was not recorded: a recording does not drift."""


class NotRecorded(IosfarmError):  # noqa: N818 - what it says of a stage, as `Infeasible`
    """The recording does not have this stage, so there is no answer."""


class ReplayRuntime:
    """The device `replay:SOURCE`. Sample number n of a stage is the recorded one of that number, over and over.

    A whole schedule takes what its stages took, one after the other: how they went together was not recorded.

    Raises:
        UsageError: there is no such recording.
    """

    layout = "nhwc"
    forms = ("stages",)

    def __init__(self, recording: Recording, source: str) -> None:
        self._recording = recording
        self._source = source
        self._reference = reference_stage(self.layout).key
        self._closed = False

    @classmethod
    def from_spec(cls, text: str) -> Self:
        """The runtime of `replay:SOURCE`."""
        source = text.removeprefix(PREFIX)
        return cls(read(find(source)), source)

    def fingerprint(self) -> tuple[Device, Environment]:
        """The recorded ones, but for the kind of device: what is replayed is not measured again."""
        device, environment = self._recording.device, self._recording.environment
        hard = {**environment.hard, "replayed": device.kind}
        facts = {"replayed": device.kind, **device.properties}
        return Device("replay", device.model, facts, {"source": self._source}), Environment(hard, environment.soft)

    def prepare(self, stage: Stage, weights: Sequence[Mapping[str, Array]] | None = None) -> ReplayExecutable:
        """See `Runtime.prepare`.

        Raises:
            NotRecorded: the stage was not recorded.
        """
        self._check_open()
        if stage.layout != self.layout:
            raise UsageError(f"the stage's layout is {stage.layout}", hint=f"replayed devices run {self.layout}")
        known = None if weights is None else given_stage_parameters(stage, weights)

        def compute(inputs: Sequence[Array]) -> list[Array]:
            # Loaded on first use: telling the time needs no torch.
            from iosfarm.kernels.reference import run_stage

            return run_stage(stage, known or random_stage_parameters(stage), inputs)

        return ReplayExecutable(self._entry(stage).samples, stage.inputs, compute)

    def prepare_schedule(self, graph: Graph, schedule: Schedule, weights: Weights) -> ReplayExecutable:
        """See `Runtime.prepare_schedule`.

        Raises:
            NotRecorded: one of the stages was not recorded.
        """
        self._check_open()
        placed = schedule.place(graph, self.layout)
        for operator in graph.operators:
            given_parameters(graph.parameters(operator), weights, f"{operator.name}.")

        def compute(inputs: Sequence[Array]) -> list[Array]:
            from iosfarm.kernels.reference import run_graph

            return run_graph(graph, weights, inputs)

        seconds = sum(statistics.median(self._entry(item.stage).samples) for item in placed)
        return ReplayExecutable((seconds,), tuple(graph.shape(i.name) for i in graph.inputs), compute)

    def close(self) -> None:
        """See `Runtime.close`."""
        self._closed = True

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a runtime: open one where it is used")

    def _entry(self, stage: Stage) -> Entry:
        entry = self._recording.entries.get(stage.key)
        if entry is None and stage.key == self._reference:
            return STEADY
        if entry is None:
            hint = "search with the settings that were recorded, or measure on the device itself"
            raise NotRecorded(f"{stage.describe()} was not recorded", where=f"{PREFIX}{self._source}", hint=hint)
        if entry.infeasible:
            raise Infeasible(entry.infeasible)
        return entry

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the runtime is closed")


class ReplayExecutable(ComputedExecutable):
    """See `Executable`."""

    def __init__(self, samples: Sequence[float], inputs: Sequence[Shape], compute: Compute) -> None:
        super().__init__(inputs, compute)
        self._samples = samples
        self._next = count()

    def time(self, repeats: int) -> list[float]:
        """See `Executable.time`."""
        self._check_open()
        if repeats < 1:
            raise ValueError(f"cannot time {repeats} executions")
        return [self._samples[next(self._next) % len(self._samples)] for _ in range(repeats)]
