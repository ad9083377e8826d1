"""Figure 11: Inception V3 for batches of 1 to 128."""

from __future__ import annotations

from iosfarm.reproduce import paper
from iosfarm.reproduce.frameworks import framework_latencies
from iosfarm.reproduce.lab import Lab
from iosfarm.reproduce.latencies import attempt, variant
from iosfarm.reproduce.result import Column, Draft, Kind, ratio

FRAMEWORKS = ("tensorrt", "taso")
"""Those that the paper, or its repository, runs with batches."""

COLUMNS = (
    Column(key="batch", heading="batch"),
    *(Column(key=name, heading=name, kind=Kind.SECONDS) for name in ("sequential", "greedy", *FRAMEWORKS)),
    Column(key="ios_both", heading="ios-both", kind=Kind.SECONDS),
    Column(key="images_per_second", heading="ios-both images/s"),
    Column(key="speedup", heading="speed-up", kind=Kind.RATIO),
    *(
        Column(key=f"paper_{name}", heading=f"paper {name.replace('_', '-')}", kind=Kind.SECONDS, paper=True)
        for name in ("sequential", "tensorrt", "ios_both")
    ),
    Column(key="paper_speedup", heading="paper speed-up", kind=Kind.RATIO, paper=True),
)


def batch_sizes(draft: Draft, lab: Lab) -> None:
    """Inception V3 for batches of 1 to 128: the larger the batch, the less there is to gain."""
    for batch, published in paper.BATCH_SIZES.items():
        graph = lab.network("inception_v3", batch)
        found = attempt(draft, f"batch {batch}", lambda g=graph: lab.search(g, variant("ios_both")))  # type: ignore[misc]
        ours = {name: found.seconds(name) if found else None for name in ("sequential", "greedy", "optimised")}
        theirs = framework_latencies(lab, graph, FRAMEWORKS)
        for name, (_, reason) in theirs.items():
            if reason:
                draft.note(f"{name}: {reason}")
        best = ours["optimised"]
        draft.add(
            batch=batch,
            sequential=ours["sequential"],
            greedy=ours["greedy"],
            **{name: seconds for name, (seconds, _) in theirs.items()},
            ios_both=best,
            images_per_second=round(batch / best, 1) if best else None,
            speedup=ratio(ours["sequential"], best),
            **{f"paper_{name}": value for name, value in published.items()},
            paper_speedup=published["sequential"] / published["ios_both"],
        )
