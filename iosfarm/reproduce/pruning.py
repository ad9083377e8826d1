"""Figure 9: what limiting groups costs in latency, and what it saves in search."""

from __future__ import annotations

from iosfarm.reproduce import paper
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.latencies import attempt, variant
from iosfarm.reproduce.result import Column, Draft, Kind

COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="r", heading="r"),
    Column(key="s", heading="s"),
    Column(key="seconds", heading="latency", kind=Kind.SECONDS),
    Column(key="stages", heading="distinct stages"),
    Column(key="measured", heading="measured anew"),
    Column(key="gap", heading="gap", kind=Kind.SHARE),
    Column(key="search_s", heading="search s"),
    Column(key="paper_seconds", heading="paper", kind=Kind.SECONDS, paper=True),
    Column(key="paper_search_s", heading="paper search s", paper=True),
)


def pruning(draft: Draft, lab: Lab) -> None:
    """Groups of at most r units, at most s of them, in Inception V3 and NasNet.

    The widest search goes first: the stages of the others are among its own, so that they measure little.
    """
    for network, published in paper.PRUNING.items():
        graph = lab.network(network)
        for r, s in published:
            label = f"{network}, r={r}, s={s}"
            found = attempt(draft, label, lambda g=graph, r=r, s=s: lab.search(g, variant("ios_both", r, s)))  # type: ignore[misc]
            counts = found.content.counts if found else None
            draft.add(
                network=network,
                r=r,
                s=s,
                seconds=found.seconds("optimised") if found else None,
                stages=counts.stages if counts else None,
                measured=counts.measured if counts else None,
                gap=found.gap if found else None,
                search_s=round(found.content.seconds, 1) if found else None,
                paper_seconds=published[r, s] / 1e3,
                paper_search_s=paper.PRUNING_SEARCH_SECONDS[network][r, s],
            )
    draft.note("distinct stages: what a search that measures everything pays; search s: of this machine, in this order")
