"""What the benchmark of the latency database asks: millions of measurements, made up, and a file of some to import."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def progress(text: str) -> None:
    """One line on the terminal that is written over."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
