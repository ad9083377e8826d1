"""Figures of whole networks: schedules side by side, batch sizes, search costs, networks with nothing to gain."""

from __future__ import annotations

from collections.abc import Callable

from iosfarm.db.errors import DatabaseError
from iosfarm.farm.jobs.job import SearchSettings
from iosfarm.farm.output_files import OutputError
from iosfarm.ir.errors import DeviceLost, IosfarmError
from iosfarm.ir.graph import Graph
from iosfarm.reproduce import paper
from iosfarm.reproduce.lab import Found, Lab
from iosfarm.reproduce.random_network import random_network
from iosfarm.reproduce.result import Column, Draft, Kind, geometric_mean, ratio
from iosfarm.search.budget import Budget
from iosfarm.search.space import SpaceSettings

STRATEGIES = {"ios_merge": ("merge",), "ios_parallel": ("concurrent",), "ios_both": ("concurrent", "merge")}
"""What each of the paper's variants of IOS may do in a stage."""

MEAN = "geometric mean"

LARGE_BUDGET = Budget(seconds=180)
"""Of the random network, whose search space is too large to reach a gap of 1% soon."""

SCHEDULES_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    *(Column(key=name, heading=name.replace("_", "-"), kind=Kind.SECONDS) for name in paper.SCHEDULES),
    *(
        Column(key=f"{name}_normalised", heading=f"{name.replace('_', '-')} /best", kind=Kind.RATIO)
        for name in paper.SCHEDULES
    ),
    *(
        Column(key=f"paper_{name}", heading=f"paper {name.replace('_', '-')}", kind=Kind.SECONDS, paper=True)
        for name in paper.SCHEDULES
    ),
)


def variant(name: str, group_size: int = 3, groups: int = 8, budget: Budget | None = None) -> SearchSettings:
    """How a variant of IOS searches: nothing beyond the paper's search space."""
    space = SpaceSettings(group_size, groups, STRATEGIES[name])
    return SearchSettings(space, budget=budget or Budget(), refine=False)


def attempt(draft: Draft, label: str, search: Callable[[], Found]) -> Found | None:
    """A search's answer; where there is none, a note that says why."""
    try:
        found = search()
    except (DatabaseError, OutputError, DeviceLost):
        raise  # not of this search: no other one would fare better
    except IosfarmError as error:
        draft.note(f"{label}: {error}")
        return None
    if found.incomplete:
        reached = "" if found.gap is None else f" at a gap of {found.gap:.1%}"
        draft.note(f"{label}: the budget ended the search{reached}")
    return found


def five_schedules(draft: Draft, lab: Lab) -> None:
    """Sequential, greedy and the three variants of IOS on the four networks; throughput relative to the best."""
    ours: dict[str, list[float | None]] = {name: [] for name in paper.SCHEDULES}
    for network in paper.NETWORKS:
        latencies = schedule_latencies(draft, lab, network)
        for name in paper.SCHEDULES:
            ours[name].append(latencies.get(name))
        _add_schedules(draft, network, latencies, {n: paper.LATENCIES[network][n] for n in paper.SCHEDULES})
    means = {name: geometric_mean(values) for name, values in ours.items()}
    published = {n: geometric_mean([paper.LATENCIES[net][n] for net in paper.NETWORKS]) for n in paper.SCHEDULES}
    _add_schedules(draft, MEAN, means, published)
    draft.note("/best: throughput relative to the best schedule of the network")


def schedule_latencies(draft: Draft, lab: Lab, network: str) -> dict[str, float | None]:
    """Seconds end to end under the paper's five schedules; None where there is none."""
    graph = lab.network(network)
    latencies: dict[str, float | None] = {}
    for name in ("ios_both", "ios_parallel", "ios_merge"):  # the largest space first: the others are part of it
        found = attempt(draft, f"{network}, {name}", lambda n=name: lab.search(graph, variant(n)))  # type: ignore[misc]
        latencies[name] = found.seconds("optimised") if found else None
        if found and name == "ios_both":
            latencies |= {baseline: found.seconds(baseline) for baseline in ("sequential", "greedy")}
    return latencies


def _add_schedules(
    draft: Draft, label: str, ours: dict[str, float | None], published: dict[str, float | None] | dict[str, float]
) -> None:
    best = min((value for value in ours.values() if value), default=None)
    draft.add(
        network=label,
        **{name: ours.get(name) for name in paper.SCHEDULES},
        **{f"{name}_normalised": ratio(best, ours.get(name)) for name in paper.SCHEDULES},
        **{f"paper_{name}": value for name, value in published.items()},
    )


COST_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="stages", heading="distinct stages"),
    Column(key="known", heading="known"),
    Column(key="measured", heading="measured by the search"),
    Column(key="gap", heading="gap", kind=Kind.SHARE),
    Column(key="search_s", heading="search s"),
    Column(key="speedup", heading="speed-up", kind=Kind.RATIO),
    Column(key="paper_search_s", heading="paper search s", paper=True),
    Column(key="paper_speedup", heading="paper speed-up", kind=Kind.RATIO, paper=True),
)


def search_cost(draft: Draft, lab: Lab) -> None:
    """What the search of IOS-Both costs: the paper measures every stage, this one what its certificate needs."""
    for network in paper.NETWORKS:
        graph = lab.network(network)
        found = attempt(draft, network, lambda g=graph: lab.search(g, variant("ios_both")))  # type: ignore[misc]
        theirs = paper.LATENCIES[network]
        published = {
            "paper_search_s": paper.SEARCH_SECONDS[network],
            "paper_speedup": theirs["sequential"] / theirs["ios_both"],
        }
        if found is None:
            draft.add(network=network, **published)
            continue
        counts = found.content.counts
        draft.add(
            network=network,
            stages=counts.stages,
            known=counts.found + counts.measured,
            measured=counts.measured,
            gap=found.gap,
            search_s=round(found.content.seconds, 1),
            speedup=ratio(found.seconds("sequential"), found.seconds("optimised")),
            **published,
        )
    draft.note("search s: of this machine, the check of the baselines included; what the database knew costs nothing")
    if lab.info().device.simulated:
        draft.note("a simulated device answers at once: the search on the device itself would take longer")


PLAIN_COLUMNS = (
    Column(key="network", heading="network", kind=Kind.TEXT),
    Column(key="units", heading="units"),
    *(Column(key=name, heading=name.replace("_", "-"), kind=Kind.SECONDS) for name in ("sequential", "greedy")),
    Column(key="ios_both", heading="ios-both", kind=Kind.SECONDS),
    Column(key="speedup", heading="speed-up", kind=Kind.RATIO),
    Column(key="gap", heading="gap", kind=Kind.SHARE),
)


def nothing_to_gain(draft: Draft, lab: Lab) -> None:
    """ResNets and VGG-16: chains, but for the projections of the ResNets, so that next to nothing can run side by
    side. The paper's repository runs the ResNets, and publishes no figures of them.
    """
    for network in ("resnet18", "resnet34", "resnet50", "vgg16"):
        _plain(draft, lab, network, lab.network(network))
    draft.note("what is gained nevertheless comes from groups of several units: fewer barriers between stages")


def random_320(draft: Draft, lab: Lab) -> None:
    """A random network of 320 units, as the paper's repository runs one: the search has a budget, and says its gap."""
    graph = random_network()
    budget = lab.budget if lab.budget != Budget() else LARGE_BUDGET
    _plain(draft, lab, "random 320", graph, variant("ios_both", budget=budget))
    draft.note("wired by the zoo's own generator, Watts-Strogatz (320, 20, 0.75); no latencies of it are published")


def _plain(draft: Draft, lab: Lab, label: str, graph: Graph, settings: SearchSettings | None = None) -> None:
    found = attempt(draft, label, lambda: lab.search(graph, settings or variant("ios_both")))
    ours = {name: found.seconds(name) if found else None for name in ("sequential", "greedy", "optimised")}
    draft.add(
        network=label,
        units=len(graph.units),
        sequential=ours["sequential"],
        greedy=ours["greedy"],
        ios_both=ours["optimised"],
        speedup=ratio(ours["sequential"], ours["optimised"]),
        gap=found.gap if found else None,
    )
