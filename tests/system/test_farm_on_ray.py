"""Real workers that are really killed and really hang, on a Ray that the command starts or finds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Done, Iosfarm, finish
from processes import MARK, eventually, heard_by_others, marked

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.jobs import Job, SearchSettings
from iosfarm.farm.policy import Policy
from iosfarm.search.method import Method
from iosfarm.workers.settings import EFFORTS, Effort
from iosfarm.zoo.load import load

SEARCH = ("search", "--models", "zoo.yaml", "--json", "--method", "exhaustive", "--log", "log.jsonl")
QUIET = "sim:v100?noise=0"


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def iosfarm(tmp_path: Path, mark: str) -> Iosfarm:
    command = Iosfarm(tmp_path, {MARK: mark})
    command.zoo("models:\n  - name: squeezenet\n    arguments: {image_size: 64}\n")
    return command


@pytest.fixture
def best(iosfarm: Iosfarm) -> float:
    """What the search finds where nothing fails, on one device."""
    done = iosfarm(*SEARCH, "--device", QUIET, "--executor", "inline", "--db", "calm.db")
    assert done.code == 0, done.err
    return predicted(done)


def predicted(done: Done) -> float:
    (result,) = done.document["results"]
    assert result["counts"]["failed"] == 0, result["notes"]
    seconds: float = result["latencies"]["optimised"]["predicted"]
    return seconds


def failures(iosfarm: Iosfarm) -> Counter[str]:
    lines = [json.loads(line) for line in (iosfarm.folder / "log.jsonl").read_text().splitlines()]
    counts: Counter[str] = Counter()
    for line in lines:
        if line["event"] == "failed":
            counts[line["kind"]] += line["count"]
    return counts


def once(iosfarm: Iosfarm) -> Counter[str]:
    """How often each stage was measured, checks left out."""
    with LatencyDatabase(str(iosfarm.database), readonly=True) as database:
        rows = [row for row in database.query() if row.status == "ok" and row.n < EFFORTS[Effort.CAREFUL].min_samples]
    return Counter(row.stage_key for row in rows)


def test_workers_that_kill_themselves(iosfarm: Iosfarm, best: float) -> None:
    done = iosfarm(*SEARCH, "--device", f"{QUIET}&count=3&kill=0.01&oom=0.02")
    assert done.code == 0, done.err
    assert predicted(done) == best  # stdout is one document, whatever Ray has to say
    counts = failures(iosfarm)
    assert counts["killed"] > 0
    assert counts["out_of_memory"] > 0
    assert set(once(iosfarm).values()) == {1}


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    # Some 190 stages: that none hangs has a chance of 1 in 2,000.
    network = load("squeezenet")
    settings = SearchSettings(method=Method("exhaustive"), refine=False)
    jobs = [Job("squeezenet", network, f"{QUIET}&count=2&hang=0.04&seed=1", settings)]
    path, log = str(tmp_path / "latency.db"), tmp_path / "log.jsonl"
    (saved,) = run_jobs(jobs, database=path, policy=Policy(hang=1.0, hang_factor=5.0, attempts=10), log=log)
    counts = saved.result.counts
    assert counts.measured == counts.stages
    assert counts.failed == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    hung = [line for line in lines if line["event"] == "failed" and line["kind"] == "hung"]
    assert hung
    assert all("no answer for" in line["reason"] for line in hung)
    assert any(line["event"] == "device_restored" for line in lines)


def test_ctrl_c_reaches_the_whole_group_and_loses_nothing(iosfarm: Iosfarm, mark: str) -> None:
    device = f"{QUIET}&count=2&pace=0.05"
    process = subprocess.Popen(
        [sys.executable, "-m", "iosfarm", *SEARCH, "--device", device],
        cwd=iosfarm.folder,
        env=iosfarm.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    iosfarm.until_recorded(60, process)
    assert heard_by_others(mark) == []
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    done = finish(process)
    assert done.code == 130, done.err
    assert done.document["interrupted"]
    assert "Traceback" not in done.err
    (result,) = done.document["results"]
    # What the workers were in the middle of has come back, and was recorded.
    assert result["counts"]["measured"] == iosfarm.distinct()
    assert set(failures(iosfarm)) == set()
    assert eventually(lambda: not marked(mark)), marked(mark)


def test_two_searches_on_one_database_share_the_work(iosfarm: Iosfarm, best: float) -> None:
    arguments = (*SEARCH, "--executor", "inline", "--device", f"{QUIET}&pace=0.01")
    first, second = (iosfarm.start(*arguments, "--out", name) for name in ("one", "two"))
    documents = [finish(process) for process in (first, second)]
    assert [done.code for done in documents] == [0, 0], [done.err for done in documents]
    assert [predicted(done) for done in documents] == [best, best]
    assert set(once(iosfarm).values()) == {1}
    found = [done.document["results"][0]["counts"]["found"] for done in documents]
    assert all(found)  # each has taken over what the other one measured


@pytest.fixture
def cluster(mark: str) -> Iterator[str]:
    """The address of a cluster of one machine, started by hand as the documentation says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, MARK: mark, "RAY_USAGE_STATS_ENABLED": "0"}
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    process = subprocess.Popen([*command, "--num-cpus=2", "--block"], env=environment, stdout=subprocess.DEVNULL)
    address = f"127.0.0.1:{port}"
    try:
        assert eventually(lambda: _answers(port), 60)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        eventually(lambda: not marked(mark), 30)
        for number in marked(mark):
            os.kill(number, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_that_was_started_by_hand(iosfarm: Iosfarm, best: float, cluster: str) -> None:
    done = iosfarm(*SEARCH, "--device", f"{QUIET}&count=2", "--ray-address", cluster)
    assert done.code == 0, done.err
    assert predicted(done) == best
    lines = [json.loads(line) for line in (iosfarm.folder / "log.jsonl").read_text().splitlines()]
    joined = [line for line in lines if line["event"] == "device_joined"]
    assert {f"{QUIET}#0", f"{QUIET}#1"} <= {line["device"] for line in joined if line["node"]}
    # The cluster goes on without the search.
    again = iosfarm(*SEARCH, "--device", f"{QUIET}&node=elsewhere", "--ray-address", cluster)
    assert again.code == 2
    assert "no machine of the cluster has that name" in again.error
