"""What is lost when things fail, see `farm.py`: real processes, killed for real."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.workers.settings import EFFORTS, Effort

ROOT = Path(__file__).resolve().parent.parent
KILL_EVERY = 2.0


@dataclass(frozen=True)
class Search:
    """A search in a process of its own, its stderr in a file."""

    process: subprocess.Popen[str]
    log: Path
    began: float


def workers(folder: Path, _: argparse.Namespace) -> dict[str, object]:
    """Kills of workers, and the same search undisturbed."""
    zoo = _zoo(folder, "nasnet_large")
    device = "sim:v100?noise=0&count=8&pace=0.005"
    search = _search(folder, zoo, "killed.db", device)
    process = search.process
    killed = 0
    generator = random.Random(0)
    while process.poll() is None:
        time.sleep(KILL_EVERY)
        found = _workers_of(process.pid)
        if found and process.poll() is None:
            killed += _kill(generator.choice(found))
    document = _document(search)
    calm = _document(_search(folder, zoo, "calm.db", device))
    rows = _rows(folder / "killed.db")
    return {
        "workers killed": killed,
        "seconds; undisturbed": f"{document['seconds']:.0f}; {calm['seconds']:.0f}",
        "same latency of the schedule": _predicted(document) == _predicted(calm),
        "stages measured; undisturbed": f"{len(rows)}; {len(_rows(folder / 'calm.db'))}",
        "stages given up": document["results"][0]["counts"]["failed"],  # type: ignore[index]
        "recorded twice": sum(count - 1 for count in rows.values()),
    }


def driver(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Kills of the driver, each followed by the same search."""
    zoo = _zoo(folder, "squeezenet")
    device = "sim:v100?noise=0&count=4&pace=0.02"
    calm = _document(_search(folder, zoo, "calm.db", device))
    generator = random.Random(0)
    lost = twice = different = 0
    for number in range(arguments.repeats):
        name = f"{number}.db"
        process = _search(folder, zoo, name, device).process
        # Anywhere between the first row and the end.
        while not _rows(folder / name) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(generator.uniform(0.0, 3.0))
        _kill(process.pid)
        process.wait()
        before = _rows(folder / name)
        document = _document(_search(folder, zoo, name, device))
        after = _rows(folder / name)
        lost += len(before.keys() - after.keys())
        twice += sum(count - 1 for count in after.values())
        different += _predicted(document) != _predicted(calm)
    return {
        "kills": arguments.repeats,
        "measurements lost": lost,
        "recorded twice": twice,
        "other schedules": different,
    }


def drivers(folder: Path, _: argparse.Namespace) -> dict[str, object]:
    """Four drivers that share a database, against one.

    Four batch sizes: before the first stage, each of four drivers starts a Ray of its own on the cores of one machine,
    and at the end come rounds of a few stages each, those of the best schedules once more and what refining them tries,
    which more devices do not make shorter. Searches of one small model would measure that. Both rates are told.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from postgres import PostgresServer, binaries

    found = binaries()
    if found is None:
        return {"skipped": "PostgreSQL is not installed"}
    server = PostgresServer(found)
    try:
        zoo = _zoo(folder, "inception_v3", "[1, 2, 4, 8]")
        seconds, rates, middle = {}, {}, {}  # with drivers that start and end, and while all are at work
        for count in (1, 4):
            server.execute(f"CREATE DATABASE farm{count}")
            url = server.url(f"farm{count}")
            LatencyDatabase(url).close()
            device = "sim:v100?noise=0&count=4&pace=0.1"
            began = time.time()
            searches = [_search(folder, zoo, url, device, f"out{n}") for n in range(count)]
            for search in searches:
                _document(search)
            ended = time.time()
            with LatencyDatabase(url, readonly=True) as database:
                quick = [row for row in database.query() if row.n < EFFORTS[Effort.CAREFUL].min_samples]
            times = sorted(row.measured_at.timestamp() for row in quick)
            rates[count] = len(times) / (times[-1] - times[0])
            seconds[count] = f"{times[0] - began:.1f}, {times[-1] - times[0]:.1f}, {ended - times[-1]:.1f}"
            first, last = times[len(times) // 10], times[9 * len(times) // 10]
            middle[count] = 0.8 * len(times) / (last - first)
            twice = sum(c - 1 for c in Counter(row.stage_key for row in quick).values())
        return {
            "stages": len(times),
            "measured twice": twice,
            "stages/s, one driver; the middle 80%": f"{rates[1]:.1f}; {middle[1]:.1f}",
            "stages/s, four; the middle 80%": f"{rates[4]:.1f}; {middle[4]:.1f}",
            "seconds before, between, after: one": seconds[1],
            "seconds before, between, after: four": seconds[4],
            "ratio": rates[4] / rates[1],
            "ratio, the middle 80%": middle[4] / middle[1],
        }
    finally:
        server.close()


def outage(folder: Path, _: argparse.Namespace) -> dict[str, object]:
    """The server is stopped for 30 s and started again."""
    sys.path.insert(0, str(ROOT / "tests"))
    from postgres import PostgresServer, binaries

    found = binaries()
    if found is None:
        return {"skipped": "PostgreSQL is not installed"}
    server = PostgresServer(found)
    try:
        server.execute("CREATE DATABASE farm")
        url = server.url("farm")
        LatencyDatabase(url).close()
        search = _search(folder, _zoo(folder, "squeezenet"), url, "sim:v100?noise=0&count=4&pace=0.05")
        before = 0
        while before < 20 and search.process.poll() is None:
            time.sleep(0.1)
            with LatencyDatabase(url, readonly=True) as database:
                before = len(database.query())
        server.stop()
        time.sleep(30.0)
        server.start()
        document = _document(search)
        with LatencyDatabase(url, readonly=True) as database:
            rows = Counter(row.stage_key for row in database.query())
        waited = [line for line in str(document["log"]).splitlines() if "waiting for the database" in line]
        return {
            "measured before": before,
            "said that it waits": bool(waited),
            "finished": not document["interrupted"],
            "stages": document["results"][0]["counts"]["stages"],  # type: ignore[index]
            "measured after": len(rows),
        }
    finally:
        server.close()


# -- processes and databases ------------------------------------------------------------------------------------------


def _zoo(folder: Path, model: str, batches: str = "[1]") -> Path:
    path = folder / "zoo.yaml"
    path.write_text(f"models:\n  - name: {model}\n    batch_sizes: {batches}\n    method: exhaustive\n")
    return path


def _search(folder: Path, zoo: Path, database: str, device: str, out: str = "out") -> Search:
    target = database if "://" in database else str(folder / database)
    command = [sys.executable, "-m", "iosfarm", "search", "--models", str(zoo), "--device", device, "--db", target]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = folder / f"{time.time_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--out", str(folder / out), "--json"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    return Search(process, log, time.monotonic())


def _document(search: Search) -> dict[str, object]:
    out, _ = search.process.communicate()
    log = search.log.read_text()
    if search.process.returncode:
        raise SystemExit(f"the search ended with {search.process.returncode}: {log[-500:]}")
    return {**json.loads(out), "seconds": time.monotonic() - search.began, "log": log}


def _predicted(document: dict[str, object]) -> float:
    (result,) = document["results"]  # type: ignore[misc]
    return float(result["latencies"]["optimised"]["predicted"])  # type: ignore[index]


def _rows(path: Path) -> Counter[str]:
    """How often each stage was measured, what was measured again more carefully left out."""
    if not path.exists():
        return Counter()
    try:
        with LatencyDatabase(str(path), readonly=True) as database:
            rows = database.query()
    except DatabaseError:  # killed before its tables were there
        return Counter()
    careful = EFFORTS[Effort.CAREFUL].min_samples
    return Counter(row.stage_key for row in rows if row.status in ("ok", "infeasible") and row.n < careful)


def _workers_of(driver: int) -> list[int]:
    """Processes of a driver's workers, by their parents."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for number, parent, name in _processes():
        parents[number], names[number] = parent, name
    found = []
    for number, name in names.items():
        above: int | None = number
        while above is not None and above != driver:
            above = parents.get(above)
        if above == driver and "DeviceHost" in name:
            found.append(number)
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            yield int(entry.name), int(stat[1]), name


def _kill(number: int) -> int:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1
