"""Figure 8: how much of the device is in use over time, under the sequential and under the found schedule."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from iosfarm.ir.schedule import Schedule
from iosfarm.kernels import open_runtime
from iosfarm.kernels.network import Busy, Span, TellsUtilisation, Traceable
from iosfarm.kernels.runtime import Runtime
from iosfarm.reproduce import paper
from iosfarm.reproduce.example import schedules
from iosfarm.reproduce.lab import Lab, NotPossible
from iosfarm.reproduce.latencies import variant
from iosfarm.reproduce.result import Column, Draft, Kind
from iosfarm.zoo.weights import random_weights

CORES = "share of the cores"

NETWORKS = ("sample", "inception_v3")

COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="schedule", heading="schedule", kind=Kind.TEXT),
    Column(key="seconds", heading="latency", kind=Kind.SECONDS),
    Column(key="mean", heading="in use, mean", kind=Kind.SHARE),
    Column(key="relative", heading="over sequential", kind=Kind.RATIO),
    Column(key="gflops", heading="GFLOP/s"),
    Column(key="paper_relative", heading="paper (active warps)", kind=Kind.RATIO, paper=True),
)


def utilisation(draft: Draft, lab: Lab) -> None:
    """The motivating example, as in the paper, and Inception V3."""
    timelines = []
    for network in NETWORKS:
        graph = lab.network(network)
        found = lab.search(graph, variant("ios_both"))
        weights = random_weights(graph)
        work = sum(graph.flops(operator) for operator in graph.operators)
        reference: float | None = None
        runtime = open_runtime(lab.device)
        try:
            for name, schedule in schedules(graph, found, runtime.layout).items():
                lab.check()
                if name == "greedy":
                    continue
                with runtime.prepare_schedule(graph, schedule, weights) as executable:
                    if isinstance(executable, TellsUtilisation):
                        busy, what = executable.utilisation(), "share of the arithmetic rate"
                    elif isinstance(executable, Traceable):
                        busy, what = _of_cores(runtime, schedule, executable.trace()), CORES
                    else:
                        raise NotPossible("this device cannot tell how busy it is", where=lab.device)
                    (seconds,) = executable.time(1)
                end = max(seconds, busy[-1].end)
                mean = sum((b.end - b.begin) * b.share for b in busy) / end
                reference = reference or mean
                label = "ios-both" if name == "optimised" else name
                draft.add(
                    network=network,
                    schedule=label,
                    seconds=end,
                    mean=mean,
                    relative=mean / reference,
                    gflops=round(work / end / 1e9, 1),
                    paper_relative=paper.ACTIVE_WARPS_RATIO if (network, name) == ("sample", "optimised") else None,
                )
                steps = [[b.begin, b.end, round(b.share, 4)] for b in busy]
                timelines.append({"network": network, "schedule": label, "end": end, "what": what, "busy": steps})
        finally:
            runtime.close()
    draft.data["timelines"] = timelines
    draft.note(f"in use: {what} of the device; GFLOP/s: the network's arithmetic over its latency")
    if what == CORES:
        draft.note("a core counts while an operator holds it, be it that its threads wait for each other")


def _of_cores(runtime: Runtime, schedule: Schedule, spans: Sequence[Span]) -> list[Busy]:
    """From when each stream was busy: a group has an equal share of the cores, at least one."""
    cores = runtime.fingerprint()[0].properties.get("cores")
    if not isinstance(cores, int):
        raise NotPossible("this device does not say how many cores it has")
    changes: list[tuple[float, float]] = []
    for span in spans:
        if span.stream is not None:
            share = max(1, cores // len(schedule.stages[span.stage].groups)) / cores
            changes += [(span.begin, share), (span.end, -share)]
    changes.sort()
    busy, level = [], 0.0
    for (begin, change), (end, _) in pairwise(changes):
        level += change
        if end > begin and level > 1e-9:
            busy.append(Busy(begin, end, min(1.0, level)))
    return busy
