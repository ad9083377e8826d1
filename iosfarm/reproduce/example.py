"""The paper's motivating example: three branches under three schedules."""

from __future__ import annotations

from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule
from iosfarm.reproduce import paper
from iosfarm.reproduce.drawing import drawable
from iosfarm.reproduce.lab import Found, Lab
from iosfarm.reproduce.latencies import variant
from iosfarm.reproduce.result import Column, Draft, Kind, ratio
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.parts import cut

COLUMNS = (
    Column(key="schedule", heading="schedule", kind=Kind.TEXT),
    Column(key="stages", heading="stages"),
    Column(key="seconds", heading="latency", kind=Kind.SECONDS),
    Column(key="speedup", heading="speed-up", kind=Kind.RATIO),
    Column(key="paper_seconds", heading="paper (375 channels)", kind=Kind.SECONDS, paper=True),
    Column(key="paper_speedup", heading="paper speed-up", kind=Kind.RATIO, paper=True),
)


def three_schedules(draft: Draft, lab: Lab) -> None:
    """Four convolutions in three branches: one after the other, all that is ready at once, and as IOS finds best."""
    graph = lab.network("sample")
    found = lab.search(graph, variant("ios_both"))
    reference = found.seconds("sequential")
    drawings = []
    for name, schedule in schedules(graph, found, lab.info().layout).items():
        seconds = found.seconds(name)
        published = paper.EXAMPLE.get(name)
        draft.add(
            schedule="ios-both" if name == "optimised" else name,
            stages=len(schedule.stages),
            seconds=seconds,
            speedup=ratio(reference, seconds),
            paper_seconds=published,
            paper_speedup=ratio(paper.EXAMPLE["sequential"], published),
        )
        drawings.append(drawable(graph, name, schedule.stages, lab.stage_seconds(graph, schedule)))
    draft.data["schedules"] = drawings
    draft.note("ours has 384 channels, which is what the paper's utilisation is of; stages as their own latencies")


def schedules(graph: Graph, found: Found, layout: str) -> dict[str, Schedule]:
    """The baselines, and the schedule that was found: where it does not win end to end, one of the baselines again."""
    parts = cut(graph, max_part_size=_part_size(found.content))
    return {
        "sequential": sequential(graph, parts, layout),
        "greedy": greedy(graph, parts, layout),
        "optimised": found.schedule,
    }


def _part_size(content: ScheduleFile) -> int:
    return content.settings.max_part_size
