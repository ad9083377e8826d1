"""How long the search itself takes when every latency is given: enumeration, dynamic program, keys.

    python benchmarks/search.py [--rounds 5] [--json]

All parts of a network, max group size 3, 8 groups, complete endings; a stage's latency is made up from its units. The
process is warm: everything has run once before it is timed. As a yardstick the same search in plain Python, written
here, runs on Inception V3 and on NasNet's largest part, in turns with ours; both must find the same latency and as many
transitions. Memory is the most that the process ever held.
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
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iosfarm.search.parts import Part, cut
from iosfarm.search.problem import problems
from iosfarm.search.space import SpaceSettings, part_space
from iosfarm.zoo import load

R, S = 3, 8
CONCURRENT = SpaceSettings(R, S, ("concurrent",), "complete")
BOTH = SpaceSettings(R, S, ("concurrent", "merge"), "complete")
_MULTIPLIER = 0x9E3779B97F4A7C15


def seconds(ending: int) -> float:
    """A made-up latency between 1 and 2, the same in both searches."""
    return 1 + (ending * _MULTIPLIER % 2**64 >> 11) / 2**53


def seconds_of(endings: NDArray[np.uint64]) -> NDArray[np.float64]:
    """`seconds` of many."""
    mixed: NDArray[np.float64] = 1 + (endings * np.uint64(_MULTIPLIER) >> np.uint64(11)) / 2.0**53
    return mixed


def compiled(parts: Sequence[Part]) -> tuple[float, int]:
    """Least latency of all parts, and how many transitions there are; ours."""
    least, transitions = 0.0, 0
    for part in parts:
        space = part_space(part, CONCURRENT)
        least += space.shortest(seconds_of(space.endings[:, 0]))[0]
        transitions += len(space.stage_of)
    return least, transitions


def plain(parts: Sequence[Part]) -> tuple[float, int]:
    """The same in plain Python: recursion over states, bit sets in integers, a table of what is known."""
    totals = [_plain_part(part.predecessors()) for part in parts]
    return sum(least for least, _ in totals), sum(count for _, count in totals)


def _plain_part(before: Sequence[int]) -> tuple[float, int]:
    count = len(before)
    after = [sum(1 << v for v in range(count) if before[v] >> u & 1) for u in range(count)]
    transitions = 0

    def endings(state: int, unit: int, chosen: int) -> list[int]:
        if unit < 0:
            return [chosen] if chosen and allowed(chosen) else []
        found = endings(state, unit - 1, chosen)
        if state >> unit & 1 and not after[unit] & state & ~chosen:
            found += endings(state, unit - 1, chosen | 1 << unit)
        return found

    @cache
    def allowed(ending: int) -> bool:
        groups: list[int] = []
        for unit in range(count):
            if ending >> unit & 1:
                joined = 1 << unit | (before[unit] | after[unit]) & ending
                apart = [group for group in groups if not group & joined]
                for group in groups:
                    joined |= group if group & joined else 0
                groups = [*apart, joined]
        return len(groups) <= S and all(group.bit_count() <= R for group in groups)

    @cache
    def best(state: int) -> float:
        nonlocal transitions
        if not state:
            return 0.0
        choices = endings(state, count - 1, 0)
        transitions += len(choices)
        return min(seconds(ending) + best(state & ~ending) for ending in choices)

    return best((1 << count) - 1), transitions


def timed(rounds: int, work: Callable[[], object]) -> list[float]:
    """Seconds of each round."""
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        samples.append(time.perf_counter() - start)
    return samples


def measure(name: str, rounds: int) -> dict[str, object]:
    """One network: search of all its parts, and keys of all stages of its distinct parts (merged ones too)."""
    parts = cut(load(name))
    transitions = compiled(parts)[1]
    found = {}

    def keys() -> None:
        distinct = set(problems(parts, BOTH, "nhwc"))
        found["stages"] = sum(len(problem.keys) for problem in distinct)
        found["keys"] = len({key for problem in distinct for key in problem.keys})

    search, key_samples = timed(rounds, lambda: compiled(parts)), timed(max(1, rounds // 2), keys)
    sizes = {"parts": len(parts), "transitions": transitions, **found}
    return {"network": name, **sizes, "search": search, "make_keys": key_samples}


def against_plain(name: str, parts: Sequence[Part], rounds: int) -> dict[str, object]:
    """The yardstick: both searches in turns on the same parts."""
    ours, theirs = compiled(parts), plain(parts)
    if abs(ours[0] - theirs[0]) > 1e-9 * theirs[0] or ours[1] != theirs[1]:
        raise SystemExit(f"the searches differ: {ours} and {theirs}")
    samples: dict[str, list[float]] = {"compiled": [], "plain": []}
    for _ in range(rounds):
        samples["compiled"] += timed(1, lambda: compiled(parts))
        samples["plain"] += timed(1, lambda: plain(parts))
    return {"what": name, "transitions": ours[1], **samples}


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
    """Print medians as lines, or everything as JSON."""
    parser = argparse.ArgumentParser(description="Time the search with given latencies.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    largest = max(cut(load("nasnet_large")), key=lambda part: compiled([part])[1])
    yardsticks = [
        against_plain("inception_v3", cut(load("inception_v3")), options.rounds),
        against_plain("largest part of nasnet_large", [largest], options.rounds),
    ]
    results = [measure(name, options.rounds) for name in ("nasnet_large", "randwire")]
    if options.json:
        document = {"machine": machine(), "unit": "s", "networks": results, "yardsticks": yardsticks}
        print(json.dumps({**document, "peak_memory_bytes": peak_memory()}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for row in results:
        print(f"{row['network']}: {row['parts']} parts, {row['transitions']:,} transitions")
        print(f"  distinct parts have {row['stages']:,} stages with {row['keys']:,} distinct keys")
        print(f"  enumerate and solve  {_spread(row['search'])}")
        print(f"  keys of all stages   {_spread(row['make_keys'])}, enumeration and merged stages included")
    for row in yardsticks:
        ours, theirs = row["compiled"], row["plain"]
        print(f"{row['what']}: {row['transitions']:,} transitions, enumerate and solve")
        print(f"  compiled             {_spread(ours)}")
        print(f"  plain Python         {_spread(theirs)}, {_median(theirs) / _median(ours):.0f} times as long")
    print(f"peak memory {peak_memory() / 2**20:.0f} MiB")


def _median(samples: object) -> float:
    assert isinstance(samples, list)
    return float(statistics.median(samples))


def _spread(samples: object) -> str:
    assert isinstance(samples, list)
    return f"{_median(samples):8.3f} s (of {len(samples)}: {min(samples):.3f} to {max(samples):.3f})"


if __name__ == "__main__":
    main()
