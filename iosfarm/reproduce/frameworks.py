"""Figures that set other frameworks beside ours: `iosfarm.compare` runs them, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from iosfarm.ir.graph import Graph
from iosfarm.reproduce import paper
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.latencies import MEAN, attempt, schedule_latencies, variant
from iosfarm.reproduce.result import Column, Draft, Kind, geometric_mean, ratio

if TYPE_CHECKING:
    from iosfarm.ir.schedule import Schedule

MORE = ("torch", "torch_compile", "torch_cuda_graph", "onnxruntime", "openvino", "jax", "tvm", "taso_style")
"""Frameworks beside the paper's."""

TUNED = "tvm_tuned"
OURS = "ios"
"""The schedule of IOS-Both, timed in turns with the others."""

FRAMEWORKS_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="framework", heading="framework", kind=Kind.TEXT),
    Column(key="seconds", heading="latency", kind=Kind.SECONDS),
    Column(key="relative", heading="ios-both is faster by", kind=Kind.RATIO),
    Column(key="paper_seconds", heading="paper", kind=Kind.SECONDS, paper=True),
    Column(key="paper_relative", heading="paper ios-both is faster by", kind=Kind.RATIO, paper=True),
    Column(key="reason", heading="why not", kind=Kind.TEXT),
)


def frameworks(draft: Draft, lab: Lab) -> None:
    """The four networks in other frameworks, on the same device, beside IOS-Both."""
    names = (*paper.FRAMEWORKS, *MORE, TUNED)
    ours: dict[str, list[float | None]] = {name: [] for name in (*names, "ios_both")}
    for network in paper.NETWORKS:
        graph = lab.network(network)
        best = schedule_latencies(draft, lab, network)["ios_both"]
        published = paper.LATENCIES[network]
        found = _all_latencies(draft, lab, graph)
        best = found[OURS][0] or best  # in turns with the others, where they ran
        for name in names:
            seconds, reason = found[name]
            ours[name].append(seconds)
            _add(draft, network, name, seconds, best, published.get(name), published["ios_both"], reason)
        ours["ios_both"].append(best)
        _add(draft, network, "ios_both", best, best, published["ios_both"], published["ios_both"], "")
    best = geometric_mean(ours["ios_both"])
    theirs = {n: geometric_mean([paper.LATENCIES[net].get(n) for net in paper.NETWORKS]) for n in ours}
    for name, values in ours.items():
        _add(draft, MEAN, name, geometric_mean(values), best, theirs[name], theirs["ios_both"], "")


INTRA_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="sequential", heading="intra only: sequential", kind=Kind.SECONDS),
    Column(key="tvm_tuned", heading="intra only: tvm, tuned kernels", kind=Kind.SECONDS),
    Column(key="greedy", heading="inter: greedy", kind=Kind.SECONDS),
    Column(key="ios_both", heading="inter: ios-both", kind=Kind.SECONDS),
    Column(key="inter_gain", heading="gain of inter", kind=Kind.RATIO),
    Column(key="paper_tvm_tuned", heading="paper tvm tuned", kind=Kind.SECONDS, paper=True),
    Column(key="paper_ios_both", heading="paper ios-both", kind=Kind.SECONDS, paper=True),
)


def intra_inter(draft: Draft, lab: Lab) -> None:
    """Parallelism inside of operators (better kernels, one at a time) against parallelism between operators."""
    for network in paper.NETWORKS:
        ours = schedule_latencies(draft, lab, network)
        seconds, reason = _all_latencies(draft, lab, lab.network(network))[TUNED]
        if seconds is None:
            draft.note(f"tvm, tuned kernels: {reason}")
        draft.add(
            network=network,
            sequential=ours.get("sequential"),
            tvm_tuned=seconds,
            greedy=ours.get("greedy"),
            ios_both=ours["ios_both"],
            inter_gain=ratio(ours.get("sequential"), ours["ios_both"]),
            paper_tvm_tuned=paper.AUTO_TUNED[network],
            paper_ios_both=paper.LATENCIES[network]["ios_both"],
        )
    hours = paper.AUTO_TUNING_SECONDS / 3600
    draft.note(f"the paper's tuning of all four took {hours:.0f} hours on eight GPUs, its searches {_search_hours()}")


def _search_hours() -> str:
    return f"{sum(paper.SEARCH_SECONDS.values()) / 3600:.1f} hours on one"


def _all_latencies(draft: Draft, lab: Lab, graph: Graph) -> Mapping[str, tuple[float | None, str]]:
    """Of every framework and of IOS-Both; figures that need some of them share one comparison."""
    found = attempt(draft, f"{graph.name}, ios_both", lambda: lab.search(graph, variant("ios_both")))
    names = (*paper.FRAMEWORKS, *MORE, TUNED, OURS)
    return framework_latencies(lab, graph, names, found.schedule if found else None, draft)


def framework_latencies(
    lab: Lab, graph: Graph, names: Sequence[str], schedule: Schedule | None = None, draft: Draft | None = None
) -> Mapping[str, tuple[float | None, str]]:
    """Latency of each framework, or why there is none: there is always a row. schedule: of `ios`. draft: is told how
    ours stands to the fastest of the others, and where the difference is.

    Raises:
        Stopped.
    """
    if lab.info().device.simulated or lab.device.startswith("replay:"):
        return dict.fromkeys(names, (None, "frameworks run on real devices only"))
    from iosfarm.compare.document import NetworkRows
    from iosfarm.compare.remembering import remembered_run
    from iosfarm.compare.settings import Watch

    lab.check()
    watch = Watch(stop=lab.stop)
    rows = remembered_run(graph, names, lab.info(), schedule=schedule, database=lab.database, watch=watch)
    lab.check()
    if draft is not None and (verdict := NetworkRows.of(graph, rows, complete=True).verdict()):
        draft.note(f"{graph.name}: {verdict}")
    return {row.framework: (row.seconds, _reason(str(row.status), row.reason)) for row in rows}


def _reason(status: str, reason: str) -> str:
    return f"{status}: {reason}" if reason else ""


def _add(
    draft: Draft,
    network: str,
    name: str,
    seconds: float | None,
    best: float | None,
    published: float | None,
    published_best: float | None,
    reason: str,
) -> None:
    draft.add(
        network=network,
        framework=name.replace("_", "-"),
        seconds=seconds,
        relative=ratio(seconds, best),
        paper_seconds=published,
        paper_relative=ratio(published, published_best),
        reason=reason or None,
    )
