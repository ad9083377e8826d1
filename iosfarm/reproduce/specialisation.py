"""Table 3 and Figure 10: schedules are made for a batch size and a device, and are slower elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iosfarm.ir.errors import Infeasible
from iosfarm.ir.graph import Graph
from iosfarm.ir.schedule import Schedule, ScheduledStage
from iosfarm.reproduce import paper
from iosfarm.reproduce.drawing import drawable
from iosfarm.reproduce.lab import Found, Lab
from iosfarm.reproduce.latencies import attempt, variant
from iosfarm.reproduce.result import Column, Draft, Kind, Scalar
from iosfarm.search.chains import width
from iosfarm.search.parts import cut

NETWORK = "inception_v3"

COLUMNS = (
    Column(key="what", heading="specialised for", kind=Kind.TEXT),
    Column(key="executed_on", heading="executed on", kind=Kind.TEXT),
    Column(key="optimised_for", heading="optimised for", kind=Kind.TEXT),
    Column(key="seconds", heading="latency", kind=Kind.SECONDS),
    Column(key="slower", heading="slower than its own", kind=Kind.SHARE),
    Column(key="paper_seconds", heading="paper", kind=Kind.SECONDS, paper=True),
    Column(key="paper_slower", heading="paper slower", kind=Kind.SHARE, paper=True),
)

BLOCK_COLUMNS = (
    Column(key="executed_on", heading="batch", kind=Kind.NUMBER),
    Column(key="optimised_for", heading="optimised for batch"),
    Column(key="stages", heading="stages"),
    Column(key="seconds", heading="last block", kind=Kind.SECONDS),
    Column(key="slower", heading="slower than its own", kind=Kind.SHARE),
    Column(key="paper_slower", heading="paper slower", kind=Kind.SHARE, paper=True),
)


@dataclass(frozen=True)
class Place:
    """Where a schedule is found and run: a batch size on a device. published: its name in the paper's table."""

    device: str
    batch: int
    label: str
    published: object


def table3(draft: Draft, lab: Lab) -> None:
    """Inception V3 under schedules that were optimised for other batch sizes, and for another device.

    Latencies are sums of the stages' own: so every schedule is known where it was not found, too.
    """
    batches = [Place(lab.device, batch, f"batch {batch}", batch) for batch in paper.SPECIALISED_BATCHES]
    _square(draft, lab, "batch size", batches)
    devices = [_place(spec) for spec in (partner(lab.device), lab.device)]
    _square(draft, lab, "device", devices)
    for place in devices:
        if lab.info(place.device).device.simulated and not lab.info().device.simulated:
            draft.note(f"{place.label}: simulated")
    draft.note("latencies are sums of stages")


def last_block(draft: Draft, lab: Lab) -> None:
    """The last block of Inception V3 under the schedules for batch 1 and for batch 32, and how they look."""
    batches = (1, 32)
    graphs = {batch: lab.network(NETWORK, batch) for batch in batches}
    schedules = {batch: found.schedule for batch in batches if (found := _found(draft, lab, graphs[batch]))}
    for executed, graph in graphs.items():
        own: float | None = None
        for optimised in sorted(schedules, key=lambda batch: batch != executed):  # its own first
            block = _block(graph, schedules[optimised])
            times = _stage_seconds(draft, lab, graph, schedules[optimised])
            if times is None:
                continue
            chosen = [time for stage, time in zip(schedules[optimised].stages, times, strict=True) if stage in block]
            seconds = sum(chosen)
            own = seconds if optimised == executed else own
            draft.add(
                executed_on=executed,
                optimised_for=optimised,
                stages=len(block),
                seconds=seconds,
                slower=seconds / own - 1 if own else None,
                paper_slower=paper.LAST_BLOCK_SPEEDUPS[executed] - 1 if optimised != executed else 0.0,
            )
            if optimised == executed:
                drawing = drawable(graph, f"optimised for batch {optimised}", block, chosen)
                draft.data.setdefault("schedules", []).append(drawing)


def partner(device: str) -> str:
    """The device beside which another one is put: the paper's other one where it is one of the paper's two."""
    return "sim:k80" if device.startswith("sim:v100") else "sim:v100"


def _place(spec: str) -> Place:
    name = spec.split("?")[0].removeprefix("sim:")
    return Place(spec, 1, spec, name)


def _square(draft: Draft, lab: Lab, what: str, places: Sequence[Place]) -> None:
    graphs = {place.label: lab.network(NETWORK, place.batch) for place in places}
    schedules: dict[str, Schedule] = {}
    for place in places:
        graph = graphs[place.label]
        found = attempt(
            draft,
            place.label,
            lambda g=graph, d=place.device: lab.search(g, variant("ios_both"), d),  # type: ignore[misc]
        )
        if found:
            schedules[place.label] = found.schedule
    for place in places:
        graph = graphs[place.label]
        cells: dict[str, float] = {}
        for other in places:
            if other.label in schedules:
                times = _stage_seconds(draft, lab, graph, schedules[other.label], place.device)
                cells |= {other.label: sum(times)} if times else {}
        for other in places:
            _add(draft, what, place, other, cells)


def _add(draft: Draft, what: str, place: Place, other: Place, cells: dict[str, float]) -> None:
    published = paper.SPECIALISATION.get(place.published, {})
    theirs, their_own = published.get(other.published), published.get(place.published)
    ours, own = cells.get(other.label), cells.get(place.label)
    values: dict[str, Scalar] = {
        "what": what,
        "executed_on": place.label,
        "optimised_for": other.label,
        "seconds": ours,
        "slower": ours / own - 1 if ours and own else None,
        "paper_seconds": theirs,
        "paper_slower": theirs / their_own - 1 if theirs and their_own else None,
    }
    draft.add(**values)


def _found(draft: Draft, lab: Lab, graph: Graph) -> Found | None:
    return attempt(draft, f"batch {graph.batch}", lambda: lab.search(graph, variant("ios_both")))


def _stage_seconds(
    draft: Draft, lab: Lab, graph: Graph, schedule: Schedule, device: str | None = None
) -> list[float] | None:
    try:
        return lab.stage_seconds(graph, schedule, device)
    except Infeasible as error:
        draft.note(str(error))
        return None


def _block(graph: Graph, schedule: Schedule) -> list[ScheduledStage]:
    """The stages of the last part that has branches."""
    last = max(part.index for part in cut(graph) if width(part) > 1)
    return [stage for stage in schedule.stages if stage.part == last]
