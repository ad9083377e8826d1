"""Choosing among calls that compute the same by timing them, and remembering what was chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from iosfarm.ir.operators import Shape
from iosfarm.ir.plan import Plan
from iosfarm.kernels.cuda.device.gpu import Gpu, rounded
from iosfarm.kernels.cuda.program.steps import Call, Lane
from iosfarm.kernels.cuda.providers.plan_cache import PlanCache

COPIES = 8
"""Executions of a call in one timed graph."""

REPLAYS = 3
"""Replays that are timed; the fastest counts."""

PATTERN = 0x3C
"""Every byte of what is computed with: 0.0115 as float32 and bfloat16, 1.06 as float16. Multiplying zeros would take
less power, and so less time.
"""


@dataclass(frozen=True)
class Trial:
    """Memory to try calls on: addresses of inputs, outputs, weights and scratch memory."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    parameters: int
    workspace: int


class Trials:
    """Times calls on one lane. plans: what was chosen before, by this process or an earlier one.

    most: candidates of each choice; 1 takes the first and times nothing.
    """

    def __init__(self, gpu: Gpu, lane: Lane, plans: PlanCache, most: int) -> None:
        self.lane = lane
        self.plans = plans
        self.most = most
        self._gpu = gpu

    def choose(self, key: str, candidates: Sequence[Call], reads: Sequence[int], writes: Sequence[int]) -> Call:
        """The fastest of some calls, by name; all read and write tensors of these sizes (bytes)."""
        if self.most == 1 or len(candidates) == 1:
            return candidates[0]
        known = self.plans.get(key)
        for call in candidates:
            if known is not None and call.name == known.name:
                return call
        best = self.fastest(candidates, reads, writes)
        if best is None:
            return candidates[0]
        self.plans.put(Plan(key, best[0].name, best[1]))
        return best[0]

    def fastest(self, calls: Iterable[Call], reads: Sequence[int], writes: Sequence[int]) -> tuple[Call, float] | None:
        """The fastest and its seconds; None where none of them runs. A call is prepared only when its turn comes."""
        best: tuple[Call, float] | None = None
        for call in calls:
            with self.memory(call, reads, writes) as trial:
                try:
                    seconds = self.seconds(call, trial)
                except RuntimeError:  # a plan that the library offers and then refuses
                    continue
            if best is None or seconds < best[1]:
                best = call, seconds
        return best

    def seconds(self, call: Call, trial: Trial) -> float:
        """Of one execution: the least of a few replays of a graph with some."""
        gpu, stream = self._gpu, self.lane.stream

        def execute() -> None:
            call.enqueue(self.lane, trial.reads, trial.writes, trial.parameters, trial.workspace)

        execute()
        gpu.synchronize(stream)
        gpu.begin_capture(stream)
        try:
            for _ in range(COPIES):
                execute()
            graph = gpu.end_capture(stream)
        except BaseException:
            gpu.abort_capture(stream)
            raise
        events = [gpu.event(timing=True) for _ in range(REPLAYS + 1)]
        gpu.launch_graph(graph, stream)  # hides the time to launch the others
        gpu.record(events[0], stream)
        for event in events[1:]:
            gpu.launch_graph(graph, stream)
            gpu.record(event, stream)
        gpu.synchronize(stream)
        times = [gpu.elapsed(before, after) for before, after in pairwise(events)]
        return max(min(times), 1e-9) / COPIES

    @contextmanager
    def memory(self, call: Call, reads: Sequence[int], writes: Sequence[int]) -> Iterator[Trial]:
        """Filled tensors of these sizes, and all else that a call needs."""
        taken: list[int] = []

        def take(size: int) -> int:
            taken.append(self._gpu.allocate(rounded(size)))
            return taken[-1]

        def filled(size: int) -> int:
            address = take(size)
            self._gpu.fill(address, PATTERN, rounded(size), self.lane.stream)
            return address

        try:
            yield Trial(
                tuple(filled(size) for size in reads),
                tuple(take(size) for size in writes),
                filled(call.parameters.size),
                take(call.workspace),
            )
        finally:
            self._gpu.synchronize(self.lane.stream)
            for address in taken:
                self._gpu.release(address)


def tensor_bytes(shape: Shape, dtype: str) -> int:
    """Of a dense tensor."""
    return math.prod(shape) * (4 if dtype == "float32" else 2)
