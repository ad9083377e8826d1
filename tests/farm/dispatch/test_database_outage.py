"""The network to the database is cut, or its server has no room, in the middle of a search: nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from farm_examples import EXHAUSTIVE, branches, job
from proxy import Proxy

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.jobs.job import JobResult

if TYPE_CHECKING:
    from postgres import PostgresServer

DEVICE = "sim:v100?noise=0"
POLICY = Policy(most_simulated_stages=2)  # so that there are many transactions to be hit


def search(url: str, log: Path, **policy: float) -> tuple[JobResult, list[str]]:
    """One search, and the names of what happened."""
    chosen = replace(POLICY, **policy)  # type: ignore[arg-type]
    wanted = job(branches(), device=DEVICE, method=EXHAUSTIVE)
    (saved,) = run_jobs([wanted], database=url, executor="inline", log=log, policy=chosen)
    return saved.result, [json.loads(line)["event"] for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> JobResult:
    folder = tmp_path_factory.mktemp("calm")
    return search(str(folder / "latency.db"), folder / "log")[0]


def check(result: JobResult, calm: JobResult, url: str) -> None:
    assert result.schedules["optimised"].predicted == calm.schedules["optimised"].predicted
    assert result.counts == calm.counts
    with LatencyDatabase(url, readonly=True) as database:
        rows = database.query()
        assert database.stats().leases == {}
        assert [run.outcome.value for run in database.runs()] == ["finished"]
    # Each stage once, with all its samples; more only where the answer rests on it.
    normal = Counter(row.stage_key for row in rows if row.status == "ok")
    assert len(normal) == calm.counts.stages
    assert len({(row.stage_key, row.n) for row in rows}) == len(rows)


@pytest.mark.parametrize("bytes_before", [15_000, 40_000, 70_000])
def test_the_network_to_the_database_is_cut(
    postgres: PostgresServer, postgres_url: str, calm: JobResult, tmp_path: Path, bytes_before: int
) -> None:
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
    with Proxy(f"{folder}/.s.PGSQL.5432", cut_after=bytes_before, refusals=2) as proxy:
        url = f"postgresql://farm@127.0.0.1:{proxy.port}/latency"
        result, events = search(url, tmp_path / "log")
        assert (proxy.cuts, proxy.refused) == (1, 2)
    check(result, calm, postgres_url)
    assert events.count("database_away") == events.count("database_back") == 1


def test_a_proxy_that_stalls_is_given_up(
    postgres: PostgresServer, postgres_url: str, calm: JobResult, tmp_path: Path
) -> None:
    """It acknowledges what is sent, so that TCP notices nothing."""
    folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
    with Proxy(f"{folder}/.s.PGSQL.5432", cut_after=40_000, stalls=True) as proxy:
        url = f"postgresql://farm@127.0.0.1:{proxy.port}/latency"
        result, events = search(url, tmp_path / "log", silence=3.0)
        assert proxy.cuts == 1
    check(result, calm, postgres_url)
    assert events.count("database_away") == events.count("database_back") == 1
    away = next(json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if "database_away" in line)
    assert "the server has not answered for 3 s" in away["reason"]


def test_a_server_without_room_is_waited_for(
    postgres: PostgresServer, postgres_url: str, calm: JobResult, tmp_path: Path
) -> None:
    """The server itself says so, by the code that it gives where its disk is full: three times, then there is room."""
    postgres.execute("CREATE SEQUENCE fullness", "latency")
    postgres.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        # A sequence counts on though the transaction is rolled back.
        "IF nextval('fullness') BETWEEN 5 AND 7 THEN RAISE SQLSTATE '53100' USING MESSAGE = 'no space left'; END IF; "
        "RETURN NULL; END $$",
        "latency",
    )
    try:
        postgres.execute(
            "CREATE TRIGGER full_disk AFTER INSERT ON measurement FOR EACH STATEMENT EXECUTE FUNCTION full_disk()",
            "latency",
        )
        result, events = search(postgres_url, tmp_path / "log")
    finally:
        postgres.execute("DROP FUNCTION full_disk CASCADE", "latency")
        postgres.execute("DROP SEQUENCE fullness", "latency")
    check(result, calm, postgres_url)
    assert events.count("database_away") == events.count("database_back") == 1
    away = next(json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if "database_away" in line)
    assert "the disk is full; free some space" in away["reason"]
