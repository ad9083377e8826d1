"""How long a stage takes on a simulated GPU: an event-driven simulation of kernels that share the device.

The host launches kernels one after the other, the first operator of every group, then the second ones, …; a kernel can
run from when it has been launched and its predecessor in the group has finished. Between two events the running kernels
share the device by processor sharing: where together they would use more than all SMs, or more than all of the memory
system, all are slowed by the same factor in their use of it, and none gets more than it can use alone.

A stage begins with an idle device and the first launch, and ends with a barrier; each stream beyond the first adds a
fork and a join. What is merged, a stage or a group of a mixed one, is one kernel: the merged convolution with its
zero-padded weights. Splitting its output is free: channels are the innermost axis (NHWC), so the pieces are strided
views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import DTYPES
from iosfarm.ir.merge import merged_convolution
from iosfarm.ir.operators import Attributes, Shape, spec
from iosfarm.ir.stage import Stage
from iosfarm.ir.stage_units import StageOperator, StageUnit
from iosfarm.kernels.network import Busy
from iosfarm.kernels.sim.devices import SimDevice
from iosfarm.kernels.sim.kernel import Kernel, describe

MODEL_VERSION = 1
"""Raise it whenever a simulated latency changes: it is part of the environment, so that old ones are not reused."""

_TOLERANCE = 1.005
_ROUNDS = 12
_MOST_SHARED = 50_000

_Description = tuple[Kernel | None, int]  # and bytes of weights and output


class StageModel:
    """Latencies of stages on one device. Descriptions of operators are kept, because searches repeat them."""

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self._known: dict[object, _Description] = {}

    def seconds(self, stage: Stage) -> float:
        """Latency without noise.

        Raises:
            Infeasible: the device lacks the dtype or the memory.
        """
        chains = self._chains(stage)
        return self._barrier(chains) + makespan(chains, self._device.launch)

    def utilisation(self, stage: Stage) -> tuple[float, list[Busy]]:
        """Latency, and what share of the device's arithmetic is in use when; raises as `seconds`."""
        chains = self._chains(stage)
        busy: list[Busy] = []
        end = makespan(chains, self._device.launch, busy.append)
        return self._barrier(chains) + end, busy

    def _barrier(self, chains: Sequence[Sequence[Kernel]]) -> float:
        device = self._device
        return device.barrier + (device.join + device.sync * (len(chains) - 1) if len(chains) > 1 else 0.0)

    def _chains(self, stage: Stage) -> list[list[Kernel]]:
        device = self._device
        if stage.dtype not in device.rates:
            raise Infeasible(f"sim:{device.name} has no {stage.dtype}", hint=f"it has {', '.join(device.rates)}")
        described = [
            [self._merged(stage, s.units)]
            if s.merged
            else [self._describe(stage, o) for unit in s.units for o in unit.operators]
            for s in stage.streams
        ]
        self._check_memory(stage, sum([size for group in described for _, size in group]))
        return [chain for group in described if (chain := [kernel for kernel, _ in group if kernel])]

    def _describe(self, stage: Stage, operator: StageOperator) -> _Description:
        shapes = tuple([stage.shape_of(reference) for reference in operator.references])
        return self._lookup(operator.kind, operator.attributes, shapes, operator.shape, stage.dtype)

    def _merged(self, stage: Stage, units: Sequence[StageUnit]) -> _Description:
        convolutions = [unit.operators[0] for unit in units]
        source = stage.shape_of(convolutions[0].references[0])
        merged = merged_convolution([o.attributes for o in convolutions], (source[2], source[3]))
        if merged is None:
            raise Infeasible("these convolutions cannot be merged into one", where=stage.describe())
        channels = sum(o.shape[1] for o in convolutions)
        attributes = dict(convolutions[0].attributes)
        attributes.update(out_channels=channels, kernel=merged.kernel, padding=merged.padding)
        attributes["bias"] = any(bool(o.attributes["bias"]) for o in convolutions)
        shape = (source[0], channels, *convolutions[0].shape[2:])
        return self._lookup("conv2d", attributes, (source,), shape, stage.dtype)

    def _lookup(
        self, kind: str, attributes: Attributes, shapes: tuple[Shape, ...], output: Shape, dtype: str
    ) -> _Description:
        identity = (kind, tuple(attributes.items()), shapes, dtype)
        known = self._known.get(identity)
        if known is None:
            parameters = spec(kind).parameters(attributes, shapes).values()
            size = DTYPES[dtype] * sum(map(math.prod, (*parameters, output)))
            known = describe(self._device, kind, attributes, shapes, output, dtype), size
            self._known[identity] = known
        return known

    def _check_memory(self, stage: Stage, made: int) -> None:
        needed = made + DTYPES[stage.dtype] * sum(map(math.prod, stage.inputs))
        if needed > self._device.memory:
            raise Infeasible(
                f"needs {needed / 1e9:.1f} GB of memory, has {self._device.memory / 1e9:.0f}",
                where=f"{stage.describe()} on sim:{self._device.name}",
            )


def makespan(chains: Sequence[Sequence[Kernel]], launch: float, watch: Callable[[Busy], None] | None = None) -> float:
    """Seconds from the first launch until the last kernel of all chains has ended; `launch` is host time per kernel.

    watch: is told of each stretch of time in which the same kernels run.
    """
    if len(chains) == 1 and watch is None:
        now = 0.0
        for count, kernel in enumerate(chains[0], 1):
            now = max(now, launch * count) + kernel.alone
        return now
    launched = _launch_times(chains, launch)
    position = [0] * len(chains)
    left: dict[int, float] = {}  # running chain -> share of its kernel that is still to run
    idle = set(range(len(chains)))
    now = 0.0
    while True:
        next_launch = math.inf
        for chain in sorted(idle):
            ready = launched[chain][position[chain]]
            if ready <= now:
                left[chain] = 1.0
                idle.remove(chain)
            elif ready < next_launch:
                next_launch = ready
        if left:
            kernels = tuple([chains[chain][position[chain]] for chain in left])
            before, now = now, _advance(now, next_launch, left, kernels)
            if watch is not None:
                watch(Busy(before, now, _used(kernels)))
        elif idle:
            now = next_launch
        else:
            return now
        for chain in [chain for chain, share in left.items() if share <= 0]:
            del left[chain]
            position[chain] += 1
            if position[chain] < len(chains[chain]):
                idle.add(chain)


def _launch_times(chains: Sequence[Sequence[Kernel]], launch: float) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in chains]
    count = 0
    for depth in range(max(map(len, chains), default=0)):
        for chain, kernels in enumerate(chains):
            if depth < len(kernels):
                count += 1
                times[chain].append(count * launch)
    return times


def _advance(now: float, until: float, left: dict[int, float], kernels: tuple[Kernel, ...]) -> float:
    """Let the running kernels run until the first of them ends, at most `until`; the new time."""
    seconds = _shared(kernels)
    step = min([share * whole for share, whole in zip(left.values(), seconds, strict=True)])
    stopped = now + step > until
    if stopped:
        step = until - now
    for chain, whole in zip(left, seconds, strict=True):
        share = left[chain] - step / whole
        # The kernel that sets the step ends exactly, whatever rounding says.
        left[chain] = share if stopped or share > 1e-12 else 0.0
    return until if stopped else now + step


def _used(kernels: tuple[Kernel, ...]) -> float:
    """Share of the device's arithmetic that kernels use while they run beside each other."""
    pairs = zip(kernels, _shared(kernels), strict=True)
    return min(1.0, sum([kernel.sm_load * kernel.alone / whole for kernel, whole in pairs]))


@lru_cache(maxsize=_MOST_SHARED)
def _shared(kernels: tuple[Kernel, ...]) -> list[float]:
    """Seconds from start to end of each kernel, were all of them to run beside each other all that time.

    Compute and memory of all are stretched by the same two factors. A kernel's latency is not stretched, nor is what
    another resource hides; so the factors grow until the device does no more than it can (to `_TOLERANCE`).
    """
    sm, memory = sum([k.sm_load for k in kernels]), sum([k.memory_load for k in kernels])
    seconds = [k.alone for k in kernels]
    stretch_sm = stretch_memory = 1.0
    for _ in range(_ROUNDS):
        if sm <= _TOLERANCE and memory <= _TOLERANCE:
            break
        stretch_sm *= max(1.0, sm)
        stretch_memory *= max(1.0, memory)
        seconds = [k.latency + max(k.compute * stretch_sm, k.memory * stretch_memory) for k in kernels]
        shares = [k.alone / whole for k, whole in zip(kernels, seconds, strict=True)]
        sm = sum([k.sm_load * share for k, share in zip(kernels, shares, strict=True)])
        memory = sum([k.memory_load * share for k, share in zip(kernels, shares, strict=True)])
    return seconds
