"""The latency database with many measurements: import, look-ups, queries, and what drivers do to it.

    python benchmarks/database.py [--backend NAME …] [--rows N] [--imported N] [--folder DIR] [--json]

All but the last `--imported` measurements are made up inside the database (INSERT … SELECT: stages in random order,
four devices, one in a hundred failed); the rest is imported from a JSON file, as a user would, into the database that
holds the others already. SQLite is a file in a temporary folder of --folder; PostgreSQL is a server that is started
there from this machine's binaries, once with the two settings that docs/farm.md recommends, which the aims are for, and
once with its defaults. Each figure is the median of some repetitions; keys and filters differ from one to the next.
Everything is removed in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from database_contents import PLACES, make_up, measured, progress, template, write_file
from postgres import PostgresServer, binaries

from iosfarm.db import LatencyDatabase

Figures = dict[str, Any]

BACKENDS = ("sqlite", "postgres", "postgres-defaults")

LIMITS = {"look-up of 10,000 keys": 0.5, "filtered query of 100 rows": 0.05, "import of 1 M measurements": 60.0}
"""Seconds that were aimed at."""


QUERIES: list[dict[str, Any]] = [
    {},
    {"op": "conv2d", "channels": (64, 256)},
    {"op": "conv2d", "channels": (64, 256), "order_by": "median", "descending": False},
    {"op": "conv2d", "kernel": 7, "in_channels": 512},
    {"op": "avg_pool2d", "device": "Example GPU 2", "order_by": "median"},
    {"device": "Example GPU 1", "dtype": "float16", "batch": (16, 32)},
    {"status": "failed"},
    {"status": "failed", "device": "Example GPU 3", "strategy": "merge"},
    {"in_channels": 48, "out_channels": 48, "height": 14},
    {"strategy": "merge", "order_by": "median"},
    {"facts": {"driver": "535"}, "since": datetime(2025, 1, 5, tzinfo=UTC), "until": datetime(2025, 1, 6, tzinfo=UTC)},
    {"shape": (32, 256, 28, 28)},
]


def figures(database: LatencyDatabase, imported: Path, count: int) -> Figures:
    """Everything that is timed."""
    found: Figures = {}
    progress(f"importing {count:,} measurements")
    started, busy = time.perf_counter(), time.process_time()
    report = database.import_file(imported, report=lambda r: progress(f"imported {r.stored:,}"))
    assert report.stored == count, report
    found[f"import of {count / 1e6:g} M measurements"] = time.perf_counter() - started
    found["of it, this process's processor time"] = time.process_time() - busy
    database.sql("SELECT 1")
    chance = random.Random(1)
    last = database.sql("SELECT max(id) FROM stage").rows[0][0]
    device, environment = PLACES[1]

    def keys(number: int) -> list[str]:
        ids = ",".join(str(chance.randint(1, last)) for _ in range(number))
        return [row[0] for row in database.sql(f"SELECT key FROM stage WHERE id IN ({ids})", limit=number).rows]

    times, hits, again = [], [], []
    for _ in range(7):
        wanted = keys(10_000)
        busy = time.process_time()
        seconds, answers = timed(lambda wanted=wanted: database.lookup(wanted, device, environment))
        found["of it, processor time here"] = time.process_time() - busy
        times.append(seconds)
        hits.append(len(answers))
        again.append(timed(lambda wanted=wanted: database.lookup(wanted, device, environment))[0])
    found["look-up of 10,000 keys"] = statistics.median(times)
    found["the same keys again, nothing read from the disk"] = statistics.median(again)
    found["of them found"] = round(statistics.median(hits))
    single = {}
    for query in QUERIES:
        times = [timed(lambda query=query: database.query(limit=100, **query))[0] for _ in range(5)]
        single[" ".join(f"{k}={v}" for k, v in query.items()) or "the newest"] = statistics.median(times)
    found["filtered query of 100 rows"] = statistics.median(single.values())
    found["each query"] = single
    found["db stats"] = timed(database.stats)[0]
    found.update(drivers_work(database, keys))
    return found


def drivers_work(database: LatencyDatabase, keys: Callable[[int], list[str]]) -> Figures:
    """Claims and records in chunks, as a driver does, in this process alone."""
    device, environment = PLACES[0]
    chunk, chunks = 200, 25
    claims, records = [], []
    for number in range(chunks):
        stages = []
        for n in range(chunk):
            canonical = json.dumps({"driver": number, "stage": n, "at": time.time_ns(), "padding": "x" * 400})
            stages.append(replace(template(0), key=hashlib.sha256(canonical.encode()).hexdigest(), canonical=canonical))
        names = [s.key for s in stages]
        seconds, claimed = timed(lambda names=names: database.claim_stages(names, device, environment, "driver", 60))
        assert len(claimed.granted) == chunk
        claims.append(seconds)
        items = [(s, replace(measured(s.key, n), measured_at=datetime.now(UTC))) for n, s in enumerate(stages)]
        record = timed(lambda items=items: database.record(items, device, environment, owner="driver"))
        records.append(record[0])
    known = keys(200)
    again = [timed(lambda: database.claim_stages(known, device, environment, "driver", 60))[0] for _ in range(9)]
    return {
        "claim of 200 stages": statistics.median(claims),
        "claim of 200 stages that are measured": statistics.median(again),
        "record of 200 new stages": statistics.median(records),
        "stages claimed and recorded a second": chunk / (statistics.median(claims) + statistics.median(records)),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def settings(backend: str) -> tuple[str, ...]:
    """Of a server: what is recommended for a farm, or nothing. Its own defaults are for the smallest of machines."""
    if backend != "postgres":
        return ()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"shared_buffers={memory // 4 // 2**20}MB", "max_wal_size=4GB"


@contextmanager
def place(backend: str, folder: Path) -> Iterator[str]:
    """A URL to build at."""
    if backend == "sqlite":
        yield str(folder / "latency.db")
        return
    found = binaries()
    if found is None:
        raise SystemExit("no PostgreSQL: install it, or choose --backend sqlite")
    server = PostgresServer(found, folder, settings=settings(backend))
    try:
        server.execute("CREATE DATABASE latency")
        yield server.url("latency")
    finally:
        server.close()


def size(folder: Path) -> float:
    """GiB on disk."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**30


def run(backend: str, rows: int, imported: int, parent: Path) -> Figures:
    """All figures of one backend."""
    folder = Path(tempfile.mkdtemp(prefix="iosfarm-benchmark-", dir=parent))
    folder.chmod(0o755)
    try:
        path = folder / "import.jsonl"
        write_file(path, imported)
        with place(backend, folder) as url:
            built = make_up(url, rows - imported)
            with LatencyDatabase(url, timeout=60) as database:
                found = figures(database, path, imported)
            result = {"measurements": rows, "settings": " ".join(settings(backend)), "made up in": built, **found}
            result["GiB"] = size(folder) - path.stat().st_size / 2**30
            return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(backend: str, found: Figures) -> None:
    """A table for people."""
    print(f"\r{backend}: {found['measurements']:,} measurements, {found['GiB']:.1f} GiB {found['settings']}".rstrip())
    for name, value in found.items():
        if name in ("measurements", "settings", "GiB", "each query"):
            continue
        if not isinstance(value, float):
            print(f"  {name:<48} {value:>12,}")
        elif name.endswith("a second"):
            print(f"  {name:<48} {value:>12,.0f}")
        else:
            limit = LIMITS.get(name)
            verdict = "" if limit is None else f"  (aim: {limit:g} s, {value / limit:.2f} of it)"
            print(f"  {name:<48} {value:>10.4f} s{verdict}")
    for name, value in found["each query"].items():
        print(f"    {value * 1e3:8.1f} ms  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--imported", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    results = {backend: run(backend, given.rows, given.imported, given.folder) for backend in given.backend}
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}
    machine |= {"sqlite": sqlite3.sqlite_version, "sqlalchemy": importlib.metadata.version("sqlalchemy")}
    if given.json:
        print(json.dumps({"machine": machine, **results}, indent=2))
        return
    for backend, found in results.items():
        show(backend, found)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))


if __name__ == "__main__":
    main()
