"""Speed-ups of the blocks of Inception V3, one by one."""

from __future__ import annotations

from collections import defaultdict

from iosfarm.reproduce.example import schedules
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.latencies import variant
from iosfarm.reproduce.result import Column, Draft, Kind

COLUMNS = (
    Column(key="block", heading="block", kind=Kind.TEXT),
    Column(key="units", heading="units"),
    Column(key="sequential", heading="sequential", kind=Kind.SECONDS),
    Column(key="greedy", heading="greedy", kind=Kind.SECONDS),
    Column(key="ios_both", heading="ios-both", kind=Kind.SECONDS),
    Column(key="speedup", heading="speed-up", kind=Kind.RATIO),
)


def blockwise(draft: Draft, lab: Lab) -> None:
    """Each block's stages under the sequential, the greedy and the found schedule, as sums of the stages' latencies."""
    graph = lab.network("inception_v3")
    found = lab.search(graph, variant("ios_both"))
    times: dict[str, dict[int, float]] = {}
    units: dict[int, int] = defaultdict(int)
    for name, schedule in schedules(graph, found, lab.info().layout).items():
        times[name] = defaultdict(float)
        for stage, latency in zip(schedule.stages, lab.stage_seconds(graph, schedule), strict=True):
            times[name][stage.part] += latency
            units[stage.part] += sum(map(len, stage.groups)) if name == "sequential" else 0
    rows = [(f"part {part}", count, {name: of[part] for name, of in times.items()}) for part, count in units.items()]
    rows.append(("all", sum(units.values()), {name: sum(of.values()) for name, of in times.items()}))
    for label, count, seconds in rows:
        draft.add(
            block=label,
            units=count,
            sequential=seconds["sequential"],
            greedy=seconds["greedy"],
            ios_both=seconds["optimised"],
            speedup=seconds["sequential"] / seconds["optimised"],
        )
    draft.note("the first and the last part are what comes before and after the blocks, one unit after the other")
