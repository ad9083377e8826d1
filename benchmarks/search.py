"""The search by itself: how fast it is, how little it measures, and how good its answers are.

    python benchmarks/search.py [SECTION ...] [--seeds 5] [--rounds 5] [--randwire-graphs FOLDER] [--json]

Sections, all by default:
  space      enumeration and dynamic program with given costs, and keys, in a warm process; as a yardstick the same
             search in plain Python, in turns with ours, which has to find the same. Memory is the most ever held.
  certified  searches from an empty database on the made-up devices of `cost_functions.py`, with noise and the protocol
             that real devices are measured with; a round asks for four stages for each of 64 devices.
  dense      a random network of 320 units (Watts-Strogatz 320, 20, 0.75) on sim:v100.
  again      NasNet on sim:v100 with everything in the database.

All parts of a network, max group size 3, 8 groups, complete endings. --randwire-graphs: the edge lists to wire RandWire
from, instead of the zoo's own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from certified import Outcome, run
from cost_functions import COSTS, latencies
from numpy.typing import NDArray
from plain_search import MULTIPLIER, plain

from iosfarm.farm.api import run_jobs
from iosfarm.farm.jobs.job import Job
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.graph import Graph
from iosfarm.reproduce.tables import paper_network
from iosfarm.search.method import Method
from iosfarm.search.parts import Part, cut
from iosfarm.search.problem import part_signature, problems
from iosfarm.search.space import SpaceSettings, StateSpace, part_space
from iosfarm.search.stage_search import StageSearch
from iosfarm.zoo import load
from iosfarm.zoo.random_graphs import watts_strogatz

R, S = 3, 8
CONCURRENT = SpaceSettings(R, S, ("concurrent",), "complete")
BOTH = SpaceSettings(R, S, ("concurrent", "merge"), "complete")
SECTIONS = ("space", "certified", "dense", "again")
DEVICES = 64
ROUND = {"inception_v3": DEVICES // 2, "nasnet_large": 4 * DEVICES, "randwire": 4 * DEVICES}
"""Stages of a round. Inception V3 has so few that 64 devices would measure what one round's answers make needless."""

RUNS = 38
"""Executions of each stage in the published search."""

Row = dict[str, object]


def compiled(parts: Sequence[Part]) -> tuple[float, int]:
    """Least latency of all parts, and how many transitions there are; equal parts are enumerated once."""
    signatures = [part_signature(part) for part in parts]
    distinct = dict(zip(signatures, parts, strict=True))
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(distinct, pool.map(_solved, distinct.values()), strict=True))
    return sum(found[s][0] for s in signatures), sum(found[s][1] for s in signatures)


def _solved(part: Part) -> tuple[float, int]:
    space: StateSpace = part_space(part, CONCURRENT)
    words: NDArray[np.uint64] = space.endings[:, 0]
    seconds = 1 + (words * np.uint64(MULTIPLIER) >> np.uint64(11)) / 2.0**53
    return space.shortest(seconds)[0], len(space.stage_of)


def network(name: str, graphs: Path | None) -> Graph:
    """A network; RandWire from edge lists where they are given."""
    return paper_network(name, graphs) if name == "randwire" else load(name)


def timed(rounds: int, work: Callable[[], object]) -> list[float]:
    """Seconds of each round."""
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return samples


def space_rows(rounds: int, graphs: Path | None) -> list[Row]:
    """Section `space`."""
    rows: list[Row] = []
    for name in ("nasnet_large", "randwire"):
        parts = cut(network(name, graphs))
        transitions = compiled(parts)[1]
        found: dict[str, int] = {}

        def keys(parts: Sequence[Part] = parts, found: dict[str, int] = found) -> None:
            known = problems(parts, BOTH, "nhwc")
            factory = known[0].factory
            found["stages"] = sum(len(problem.classes) for problem in set(known))
            found["keys"] = len({factory.key_of(number) for number in range(factory.class_count)})

        search = timed(rounds, lambda parts=parts: compiled(parts))  # type: ignore[misc]
        made = timed(max(1, rounds // 2), keys)
        sizes = {"parts": len(parts), "transitions": transitions, **found}
        rows.append({"network": name, **sizes, "search": search, "keys_too": made, "peak_bytes": peak_memory()})
    largest = max(cut(load("nasnet_large")), key=lambda part: compiled([part])[1])
    for name, parts in (("inception_v3", cut(load("inception_v3"))), ("nasnet_large, largest part", [largest])):
        ours, theirs = compiled(parts), plain(parts, R, S)
        if abs(ours[0] - theirs[0]) > 1e-9 * theirs[0] or ours[1] != theirs[1]:
            raise SystemExit(f"the searches differ: {ours} and {theirs}")
        samples: dict[str, list[float]] = {"search": [], "plain": []}
        for _ in range(rounds):
            samples["search"] += timed(1, lambda parts=parts: compiled(parts))  # type: ignore[misc]
            samples["plain"] += timed(1, lambda parts=parts: plain(parts, R, S))  # type: ignore[misc]
        rows.append({"network": name, "transitions": ours[1], **samples})
    return rows


def certified_rows(seeds: int, graphs: Path | None) -> list[Row]:
    """Section `certified`."""
    rows: list[Row] = []
    for name in ("inception_v3", "nasnet_large", "randwire"):
        known = problems(cut(network(name, graphs)), BOTH, "nhwc")
        search = StageSearch(known, Method())
        for cost in COSTS:
            given = latencies(cost, search)
            outcomes = [run(known, given, seed, ROUND[name]) for seed in range(seeds)]
            everything = RUNS * float(given.sum())
            rows.append({"network": name, "cost": cost, "stages": search.class_count, **_summary(outcomes, everything)})
            print(_certified_line(rows[-1]), flush=True)
    return rows


def _summary(outcomes: Sequence[Outcome], everything: float) -> Row:
    def each(name: str) -> list[float]:
        return [float(getattr(outcome, name)) for outcome in outcomes]

    return {
        "seeds": len(outcomes),
        "measured_median": statistics.median(each("measured")),
        "measured_most": max(each("measured")),
        "regret_mean": statistics.fmean(each("regret")),
        "regret_most": max(each("regret")),
        "within_1_percent": statistics.fmean([regret <= 0.01 for regret in each("regret")]),
        "gap_most": max(each("gap")),
        "bounds_held": statistics.fmean(each("held")),
        "broken_mean": statistics.fmean(each("broken")),
        "rounds_median": statistics.median(each("rounds")),
        "rounds_most": max(each("rounds")),
        "device_times_less": everything / statistics.median(each("device")),
        "deciding_median": statistics.median(each("deciding")),
        "longest_decision": max(each("longest")),
    }


def dense_network(units: int = 320, neighbours: int = 20, probability: float = 0.75) -> Graph:
    """RandWire's unit, wired by one large Watts-Strogatz graph."""
    wiring = watts_strogatz(units, neighbours, probability, [0])
    b = GraphBuilder("dense")
    x = b.input((64, 28, 28), name="input")
    before = wiring.predecessors()
    values = {}
    for node in wiring.depth_first():
        read = [values[source] for source in before[node]] or [x]
        with b.unit():
            y = b.add(*read) if len(read) > 1 else read[0]
            values[node] = b.conv2d(b.depthwise(b.relu(y), 3, padding=1), 64, 1)
    return b.build(b.add(*(values[node] for node in wiring.sinks())))


def job_row(graph: Graph, times: int = 1) -> Row:
    """One job on sim:v100, `times` in a row with the same database; the last one counts."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(times):
            job = Job(graph.name, graph, "sim:v100")
            start = time.perf_counter()
            (saved,) = run_jobs([job], database=str(Path(folder) / "latency.db"), executor="inline")
            seconds = time.perf_counter() - start
    result = saved.result
    certificate = result.schedules["optimised"].certificate
    assert certificate is not None
    return {
        "network": graph.name,
        "parts": [len(part.units) for part in cut(graph)],
        "seconds": seconds,
        "stages": result.counts.stages,
        "found": result.counts.found,
        "measured": result.counts.measured,
        "gap": certificate.gap,
        "certificate": certificate.kind,
        "speedup": result.speedup,
        "peak_bytes": peak_memory(),
    }


def machine() -> dict[str, object]:
    """What ran this."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {name: importlib.metadata.version(name) for name in ("iosfarm", "numpy", "numba")}
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def peak_memory() -> int:
    """Bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main() -> None:
    """Print a table, or everything as JSON."""
    parser = argparse.ArgumentParser(description="Measure the search.", epilog="See the file's head.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--randwire-graphs", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.sections or SECTIONS
    print(", ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)
    found: dict[str, object] = {"machine": machine()}
    if "space" in wanted:
        rows = space_rows(options.rounds, options.randwire_graphs)
        found["space"] = rows
        print("\n".join(map(_space_line, rows)), flush=True)
    if "certified" in wanted:
        print(_CERTIFIED_HEAD, flush=True)
        found["certified"] = certified_rows(options.seeds, options.randwire_graphs)
    for name, graph, times in (("dense", dense_network, 1), ("again", lambda: load("nasnet_large"), 2)):
        if name in wanted:
            row = job_row(graph(), times)
            found[name] = row
            print(f"{name}: " + _job_line(row), flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


def _space_line(row: Row) -> str:
    line = f"{row['network']}: {row['transitions']:,} transitions, enumerate and solve {_spread(row['search'])}"
    if "plain" in row:
        ratio = _median(row["plain"]) / _median(row["search"])
        return f"{line}; plain Python {_spread(row['plain'])}, {ratio:.0f} times as long"
    line += f"; with keys of its {row['stages']:,} stages ({row['keys']:,} distinct) {_spread(row['keys_too'])}"
    return f"{line}; peak {_number(row['peak_bytes']) / 2**20:.0f} MiB"


_CERTIFIED_HEAD = (
    f"{'network':13} {'device':7} {'stages':>7} {'measured':>9} {'most':>7} {'over optimum':>13} {'most':>7} "
    f"{'<= 1%':>6} {'gap':>6} {'held':>5} {'broken':>6} {'rounds':>6} {'device time':>11} {'deciding':>8} "
    f"{'longest':>7}"
)


def _certified_line(row: Row) -> str:
    v = {name: _number(value) for name, value in row.items() if not isinstance(value, str)}
    return (
        f"{row['network']:13} {row['cost']:7} {v['stages']:7.0f} {v['measured_median']:9.2%} {v['measured_most']:7.2%} "
        f"{v['regret_mean']:13.3%} {v['regret_most']:7.3%} {v['within_1_percent']:6.0%} {v['gap_most']:6.2%} "
        f"{v['bounds_held']:5.0%} {v['broken_mean']:6.1f} {v['rounds_median']:6.0f} "
        f"{'1/' + format(v['device_times_less'], '.0f'):>11} {v['deciding_median']:7.2f}s {v['longest_decision']:6.2f}s"
    )


def _job_line(row: Row) -> str:
    return (
        f"{row['network']} in parts of {row['parts']} units: {row['seconds']:.1f} s, {row['stages']:,} stages, "
        f"{row['found']:,} found, {row['measured']:,} measured, gap {row['gap']:.2%} ({row['certificate']}), "
        f"{row['speedup']:.2f}x over sequential, peak {_number(row['peak_bytes']) / 2**20:.0f} MiB"
    )


def _number(value: object) -> float:
    assert isinstance(value, (int, float))
    return float(value)


def _median(samples: object) -> float:
    assert isinstance(samples, list)
    return float(statistics.median(samples))


def _spread(samples: object) -> str:
    assert isinstance(samples, list)
    return f"{_median(samples):.3f} s ({min(samples):.3f} to {max(samples):.3f})"


if __name__ == "__main__":
    main()
