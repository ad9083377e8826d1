"""The latency database with many measurements: import, look-ups, queries, and what drivers do to it.

    python benchmarks/database.py [--backend sqlite postgres] [--rows N] [--imported N] [--folder DIR] [--json]

All but the last `--imported` measurements are made up inside the database (INSERT … SELECT: stages in random order,
four devices, one in a hundred failed); the rest is imported from a JSON file, as a user would, into the database that
holds the others already. SQLite is a file in a temporary folder of --folder; PostgreSQL is a server that is started
there from this machine's binaries, with its defaults but for shared_buffers and max_wal_size. Each figure is the median
of some repetitions; keys and filters differ from one to the next. Everything is removed in the end.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from postgres import PostgresServer, binaries

from iosfarm.db import LatencyDatabase
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import OperatorSummary, StageSummary

PLACES = [
    (
        Device("cuda", f"Example GPU {n}", {"sm": 80 + n}, {"index": 0}),
        Environment({"runtime": f"cuda {n}"}, {"driver": "535"}),
    )
    for n in range(4)
]
TEMPLATES = 1000
"""Stages that the made-up ones are like."""

STEP = 500_000
"""Measurements that one statement makes up."""

LIMITS = {"look-up of 10,000 keys": 0.5, "filtered query of 100 rows": 0.05, "import of 1 M measurements": 60.0}
"""Seconds that were aimed at."""

SQLITE = (
    """WITH RECURSIVE n(i) AS (SELECT {templates} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {stages})
    INSERT INTO stage (key, key_version, canonical, strategy, dtype, layout, batch, "groups", units, flops,
        bytes_moved)
    SELECT lower(hex(randomblob(32))), t.key_version, t.canonical, t.strategy, t.dtype, t.layout, t.batch,
        t."groups", t.units,
        t.flops, t.bytes_moved FROM n JOIN stage t ON t.id = 1 + i % {templates}""",
    """INSERT INTO stage_operator
    SELECT s.id, o.position, o.kind, o.in_channels, o.out_channels, o.height, o.width, o.kernel_height,
        o.kernel_width, o.stride
    FROM stage s JOIN stage_operator o ON o.stage_id = 1 + (s.id - 1) % {templates} WHERE s.id > {templates}""",
    """WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {last}),
    m AS MATERIALIZED (SELECT i, exp(2.0 * abs(random() % 1000000) / 1e6 - 10) AS s, abs(random() % 100) AS r FROM n)
    INSERT INTO measurement (stage_id, device_id, environment_id, status, reason, median, mad, min, p90, n,
        samples, unroll,
        rounds, worker, attempt, measured_at, conditions, uid)
    SELECT 1 + (i / 4 * 7919) % {stages}, 1 + i % 4, 1 + i % 4, iif(r = 0, 'failed', 'ok'), iif(r = 0,
        'worker died', ''),
        iif(r = 0, NULL, s), iif(r = 0, NULL, s / 50), iif(r = 0, NULL, s * 0.97), iif(r = 0, NULL, s * 1.04),
        iif(r = 0, 0, 6), iif(r = 0, '[]', printf('[%.9f,%.9f,%.9f,%.9f,%.9f,%.9f]', s, s * 0.97, s, s * 1.04, s,
        s)), 4, 3,
        'host:1:cuda', 1, strftime('%Y-%m-%d %H:%M:%f', '2025-01-01', (i / 10.0) || ' seconds') || '000', '{{}}',
        printf('%014x', 1735689600000000 + i * 100000) || lower(hex(randomblob(9)))
    FROM m""",
)
POSTGRES = (
    """INSERT INTO stage (key, key_version, canonical, strategy, dtype, layout, batch, "groups", units, flops,
        bytes_moved)
    SELECT encode(sha256(i::text::bytea), 'hex'), t.key_version, t.canonical, t.strategy, t.dtype, t.layout, t.batch,
        t."groups", t.units, t.flops, t.bytes_moved
    FROM generate_series({templates}, {stages} - 1) i JOIN stage t ON t.id = 1 + i % {templates}""",
    SQLITE[1],
    """INSERT INTO measurement (stage_id, device_id, environment_id, status, reason, median, mad, min, p90, n,
        samples, unroll,
        rounds, worker, attempt, measured_at, conditions, uid)
    SELECT 1 + (i / 4 * 7919) % {stages}, 1 + i % 4, 1 + i % 4, CASE r WHEN 0 THEN 'failed' ELSE 'ok' END,
        CASE r WHEN 0 THEN 'worker died' ELSE '' END, CASE r WHEN 0 THEN NULL ELSE s END,
        CASE r WHEN 0 THEN NULL ELSE s / 50 END,
        CASE r WHEN 0 THEN NULL ELSE s * 0.97 END, CASE r WHEN 0 THEN NULL ELSE s * 1.04 END,
        CASE r WHEN 0 THEN 0 ELSE 6 END,
        CASE r WHEN 0 THEN '[]' ELSE '[' || concat_ws(',', s, s * 0.97, s, s * 1.04, s, s) || ']' END, 4, 3,
        'host:1:cuda', 1,
        timestamptz '2025-01-01 00:00Z' + i * interval '100 ms', '{{}}',
        lpad(to_hex(1735689600000000 + i * 100000), 14, '0') || substr(md5(random()::text), 1, 18)
    FROM (SELECT i, exp(2.0 * random() - 10) AS s, floor(random() * 100)::int AS r
          FROM generate_series({first}::bigint, {last} - 1) i) m""",
)

Figures = dict[str, Any]


def template(number: int) -> StageSummary:
    """A stage of one to three operators, of the shapes that networks have."""
    chance = random.Random(number)
    kernel = chance.choice([1, 1, 3, 3, 5, 7])
    size, channels = chance.choice([7, 14, 28, 56]), 16 * chance.randint(1, 64)
    conv = OperatorSummary("conv2d", channels, 16 * chance.randint(1, 64), size, size, kernel, kernel, stride=1)
    others = [OperatorSummary(kind, channels, channels, size, size) for kind in ("relu", "add", "avg_pool2d")]
    operators = (conv, *chance.sample(others, chance.randint(0, 2)))
    canonical = json.dumps({"template": number, "padding": "x" * 400})
    return StageSummary(
        key=hashlib.sha256(canonical.encode()).hexdigest(),
        key_version=1,
        canonical=canonical,
        strategy=chance.choice(["concurrent", "concurrent", "merge"]),
        dtype=chance.choice(["float32", "float16"]),
        layout="nchw",
        batch=chance.choice([1, 1, 1, 16, 32]),
        groups=1,
        units=len(operators),
        flops=10**9,
        bytes_moved=10**7,
        operators=operators,
    )


def measured(key: str, number: int, worker: str = "host:1:cuda") -> Measurement:
    """Six samples of a stage."""
    chance = random.Random(number)
    middle = 1e-3 * chance.random() + 1e-6
    samples = tuple(middle * (1 + 0.01 * chance.random()) for _ in range(6))
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number / 10)
    return Measurement(key, Status.OK, samples, 4, 3, worker=worker, measured_at=at, conditions={"clock": 1.98e9})


def make_up(url: str, rows: int) -> float:
    """Fills a database inside of it, its indexes put aside meanwhile; returns seconds."""
    started = time.perf_counter()
    stages = [template(n) for n in range(TEMPLATES)]
    with LatencyDatabase(url) as database:
        for device, environment in PLACES:
            database.record([(s, measured(s.key, n)) for n, s in enumerate(stages)], device, environment)
    numbers = {"templates": TEMPLATES, "stages": max(rows // 4, TEMPLATES)}
    if url.startswith("postgresql:"):
        _fill_postgres(url, rows, numbers)
    else:
        _fill_sqlite(url, rows, numbers)
    return time.perf_counter() - started


def _fill_sqlite(path: str, rows: int, numbers: dict[str, int]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=DELETE", "journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    indexes = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'measurement' AND sql IS NOT NULL"
    )
    found = connection.execute(indexes).fetchall()
    told = connection.execute("SELECT * FROM sqlite_stat1").fetchall()  # dropped with the indexes
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    for statement in SQLITE[:2]:
        connection.execute(statement.format(**numbers))
    for first in range(TEMPLATES * len(PLACES), rows, STEP):
        connection.execute(SQLITE[2].format(**numbers, first=first, last=min(first + STEP, rows)))
        progress(f"made up {min(first + STEP, rows):,} of {rows:,} measurements")
    for name, statement in found:
        progress(f"making {name}")
        connection.execute(statement)
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", told)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.close()


def _fill_postgres(url: str, rows: int, numbers: dict[str, int]) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # references are right, and not checked
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'measurement' AND indexname !~ '^pk_'"
        found = connection.execute(indexes).fetchall()
        for name, _ in found:
            connection.execute(f"DROP INDEX {name}")
        for statement in POSTGRES[:2]:
            connection.execute(statement.format(**numbers))
        for first in range(TEMPLATES * len(PLACES), rows, STEP):
            connection.execute(POSTGRES[2].format(**numbers, first=first, last=min(first + STEP, rows)))
            progress(f"made up {min(first + STEP, rows):,} of {rows:,} measurements")
        connection.execute("SET maintenance_work_mem = '512MB'")
        for name, statement in found:
            progress(f"making {name}")
            connection.execute(statement)
        progress("vacuum")
        connection.execute("VACUUM ANALYZE")  # as autovacuum does a minute later


def write_file(path: Path, rows: int) -> None:
    """An export of new measurements, four for each new stage."""
    with LatencyDatabase("sqlite://") as source:
        for device, environment in PLACES:
            source.record([(template(0), measured(template(0).key, 0))], device, environment)
        source.export(path)
    first = path.read_text().splitlines()
    head = [line for line in first if '"type":"stage"' not in line and '"type":"measurement"' not in line][:-1]
    stage = json.loads(next(line for line in first if '"type":"stage"' in line))
    row = json.loads(next(line for line in first if '"type":"measurement"' in line))
    count = len(head)
    with path.open("w") as file:
        file.write("".join(f"{line}\n" for line in head))
        for number in range(rows // len(PLACES)):
            canonical = json.dumps({"imported": number, "padding": "x" * 400})
            key = hashlib.sha256(canonical.encode()).hexdigest()
            file.write(json.dumps({**stage, "key": key, "canonical": canonical}) + "\n")
            for place in range(1, len(PLACES) + 1):
                item = measured(key, number * 4 + place)
                new = {"stage": key, "device": place, "environment": place, "samples": item.samples}
                file.write(json.dumps({**row, **new, "measured_at": item.measured_at.isoformat()}) + "\n")
            count += 1 + len(PLACES)
        file.write(json.dumps({"type": "end", "lines": count}) + "\n")


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


def progress(text: str) -> None:
    """One line on the terminal that is written over."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)


@contextmanager
def place(backend: str, folder: Path) -> Iterator[str]:
    """A URL to build at."""
    if backend == "sqlite":
        yield str(folder / "latency.db")
        return
    found = binaries()
    if found is None:
        raise SystemExit("no PostgreSQL: install it, or choose --backend sqlite")
    server = PostgresServer(found, folder, settings=("shared_buffers=1GB", "max_wal_size=4GB"))
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
            result = {"measurements": rows, "made up in": built, **found}
            result["GiB"] = size(folder) - path.stat().st_size / 2**30
            return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(backend: str, found: Figures) -> None:
    """A table for people."""
    print(f"\r{backend}: {found['measurements']:,} measurements, {found['GiB']:.1f} GiB")
    for name, value in found.items():
        if name in ("measurements", "GiB", "each query"):
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
    parser.add_argument("--backend", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
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
