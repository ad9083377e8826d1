"""`SimRuntime`: the Runtime contract over the analytic model. Nothing is executed to tell the time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Self

import numpy as np

from iosfarm.ir.device import Device, Environment
from iosfarm.ir.errors import UsageError
from iosfarm.ir.graph import Graph
from iosfarm.ir.operators import Shape
from iosfarm.ir.schedule import Schedule
from iosfarm.ir.stage import Stage
from iosfarm.kernels.computed import Compute, ComputedExecutable
from iosfarm.kernels.given import given_parameters, given_stage_parameters, random_stage_parameters
from iosfarm.kernels.network import Busy
from iosfarm.kernels.runtime import Array, Weights
from iosfarm.kernels.sim.devices import device
from iosfarm.kernels.sim.faults import Faults, FaultSpec
from iosfarm.kernels.sim.model import MODEL_VERSION, StageModel
from iosfarm.kernels.sim.options import DEFAULT_NOISE, parse_spec


class SimRuntime:
    """The device `sim:NAME`. Sample number n of a stage depends on the seed, the stage and n, and on nothing else.

    noise: standard deviation of the logarithm of a sample; None for the default of 1.5 %. faults: on purpose.

    Raises:
        UsageError: there is no device of that name.
    """

    layout = "nhwc"
    forms = ("stages",)

    def __init__(self, name: str, seed: int = 0, noise: float | None = None, faults: FaultSpec | None = None) -> None:
        self._device = device(name)
        self._seed = seed
        self._noise = DEFAULT_NOISE if noise is None else noise
        self._model = StageModel(self._device)
        self._faults = Faults(faults or FaultSpec(), seed)
        self._closed = False

    @classmethod
    def from_spec(cls, text: str) -> Self:
        """The runtime of `sim:NAME?noise=0&seed=3&kill=0.01`; errors as in `parse_spec`."""
        spec = parse_spec(text)
        return cls(spec.name, spec.seed, spec.noise, spec.faults)

    def fingerprint(self) -> tuple[Device, Environment]:
        kind = f"sim:{self._device.name}"
        return (
            Device(kind, f"{kind} {self._device.model}", {"sms": self._device.sms, "memory": self._device.memory}),
            Environment(
                hard={
                    "runtime": "sim",
                    "model_version": MODEL_VERSION,
                    "precision": "ieee",
                    "timing": "simulated",
                    "noise": self._noise,
                },
                soft={"seed": self._seed},
            ),
        )

    def prepare(self, stage: Stage, weights: Sequence[Mapping[str, Array]] | None = None) -> SimExecutable:
        self._check_open()
        if stage.layout != self.layout:
            raise UsageError(f"the stage's layout is {stage.layout}", hint=f"sim devices run {self.layout}")
        known = None if weights is None else given_stage_parameters(stage, weights)

        def compute(inputs: Sequence[Array]) -> list[Array]:
            # Loaded on first use: telling the time needs no torch.
            from iosfarm.kernels.reference import run_stage

            return run_stage(stage, known or random_stage_parameters(stage), inputs)

        self._faults.strike(stage.key)
        return self._executable(self._model.seconds(stage), stage.key, stage.inputs, compute)

    def prepare_schedule(self, graph: Graph, schedule: Schedule, weights: Weights) -> SimExecutable:
        self._check_open()
        placed = schedule.place(graph, self.layout)
        for operator in graph.operators:
            given_parameters(graph.parameters(operator), weights, f"{operator.name}.")

        def compute(inputs: Sequence[Array]) -> list[Array]:
            from iosfarm.kernels.reference import run_graph

            return run_graph(graph, weights, inputs)

        def utilisation() -> list[Busy]:
            timeline: list[Busy] = []
            begin = 0.0
            for item in placed:
                seconds, busy = self._model.utilisation(item.stage)
                timeline += [Busy(begin + b.begin, begin + b.end, b.share) for b in busy]
                begin += seconds
            return timeline

        seconds = self._faults.factor * sum(self._model.seconds(item.stage) for item in placed)
        key = hashlib.sha256("".join(item.stage.key for item in placed).encode()).hexdigest()
        inputs = tuple(graph.shape(i.name) for i in graph.inputs)
        return SimNetwork(
            seconds * self._faults.factor, self._noise, self._generator(key), inputs, compute, utilisation
        )

    def close(self) -> None:
        self._closed = True

    def _executable(self, seconds: float, key: str, inputs: Sequence[Shape], compute: Compute) -> SimExecutable:
        return SimExecutable(seconds * self._faults.factor, self._noise, self._generator(key), inputs, compute)

    def _generator(self, key: str) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, int(key[:16], 16)]))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the runtime is closed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a runtime: open one where it is used")


class SimExecutable(ComputedExecutable):
    """See `iosfarm.kernels.runtime.Executable`. `seconds` is the latency without noise."""

    def __init__(
        self, seconds: float, noise: float, rng: np.random.Generator, inputs: Sequence[Shape], compute: Compute
    ) -> None:
        super().__init__(inputs, compute)
        self.seconds = seconds
        self._noise = noise
        self._rng = rng

    def time(self, repeats: int) -> list[float]:
        """See `Executable.time`."""
        self._check_open()
        factors = np.exp(self._noise * self._rng.standard_normal(repeats))
        samples: list[float] = (self.seconds * factors).tolist()
        return samples


class SimNetwork(SimExecutable):
    """A whole schedule; see `TellsUtilisation`: the share is that of the device's arithmetic rate, without noise."""

    def __init__(
        self,
        seconds: float,
        noise: float,
        rng: np.random.Generator,
        inputs: Sequence[Shape],
        compute: Compute,
        utilisation: Callable[[], list[Busy]],
    ) -> None:
        super().__init__(seconds, noise, rng, inputs, compute)
        self._utilisation = utilisation

    def utilisation(self) -> list[Busy]:
        self._check_open()
        return self._utilisation()
