"""What another device's latencies are worth to a search on a new one: how good the schedule is after few stages.

    python benchmarks/transfer.py [NETWORK ...] [--source sim:v100] [--targets sim:h200 sim:k80] [--json]

Each network is searched on the source first. On each target then twice: with a database that holds the source's
measurements, and with an empty one. For budgets of so many stages beyond the single units: how much longer the
predicted schedule takes than the best one that any of the searches found. The last row is without a budget, to a gap
of 1%.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from iosfarm.db import LatencyDatabase
from iosfarm.farm.driver import Driver
from iosfarm.farm.executors.inline_executor import InlineExecutor
from iosfarm.farm.jobs.job import Job, JobResult, SearchSettings
from iosfarm.search.budget import Budget
from iosfarm.zoo.load import load

BEYOND = (20, 40, 80, 160)
"""Stages of each budget, beyond the units."""

Row = dict[str, str | int | float]


def search(network: str, device: str, database: Path, stages: int | None = None) -> JobResult:
    """One search, not refined: what its stages take is all that is compared."""
    graph = load(network).bind(batch=1, dtype="float32")
    settings = SearchSettings(budget=Budget(stages=stages), refine=False)
    executor = InlineExecutor()
    try:
        with LatencyDatabase(str(database)) as memory:
            (result,) = Driver([Job(network, graph, device, settings)], memory, executor).run()
    finally:
        executor.close()
    return result


def rows(network: str, source: str, targets: list[str], folder: Path) -> list[Row]:
    """Of one network, a row for each target and budget."""
    known = folder / "source.db"
    first = search(network, source, known)
    units = len({stage.key for stage in first.schedules["sequential"].stages})
    found: list[Row] = []
    for target in targets:
        results: list[tuple[str, JobResult, JobResult]] = []
        for beyond in (*BEYOND, None):
            pair = []
            for name in ("alone", "transferred"):
                database = folder / f"{name}.db"
                database.unlink(missing_ok=True)
                if name == "transferred":
                    shutil.copy(known, database)
                pair.append(search(network, target, database, None if beyond is None else units + beyond))
            results.append(("none" if beyond is None else f"{units}+{beyond}", pair[0], pair[1]))
        best = min(latency(result) for _, *pair in results for result in pair)
        for budget, alone, transferred in results:
            row: Row = {"network": network, "target": target, "budget": budget}
            for name, result in (("alone", alone), ("transferred", transferred)):
                row |= {f"{name} measured": result.counts.measured, f"{name} %": 100 * (latency(result) / best - 1)}
            found.append(row)
    return found


def latency(result: JobResult) -> float:
    """Predicted, of the optimised schedule."""
    seconds = result.schedules["optimised"].predicted
    assert seconds is not None
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["squeezenet", "googlenet", "inception_v3"], metavar="NETWORK")
    parser.add_argument("--source", default="sim:v100")
    parser.add_argument("--targets", nargs="+", default=["sim:h200", "sim:k80"])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    found: list[Row] = []
    for network in arguments.networks:
        print(f"{network} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="iosfarm-") as folder:
            found += rows(network, arguments.source, arguments.targets, Path(folder))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'network':<14}{'target':<10}{'budget':>8}{'alone':>18}{'transferred':>18}")
    for row in found:
        shown = [f"{row[f'{name} measured']:>8} {row[f'{name} %']:>+8.2f}%" for name in ("alone", "transferred")]
        print(f"{row['network']:<14}{row['target']:<10}{row['budget']:>8}{shown[0]:>18}{shown[1]:>18}")


if __name__ == "__main__":
    main()
