"""Real workers that are really killed and really hang, on a Ray that the command starts or finds."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import pytest
from command_line import Done, Iosfarm, finish
from processes import MARK, eventually, heard_by_others, marked
from ray_nodes import RayCluster

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import run_jobs
from iosfarm.farm.dispatch.policy import Policy
from iosfarm.farm.jobs.job import Job, SearchSettings
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
    counts: Counter[str] = Counter()
    # Some 190 stages: that none kills its worker has a chance of 1 in 7, so there may have to be another search.
    while not (counts["killed"] and counts["out_of_memory"]):
        iosfarm.database.unlink(missing_ok=True)
        done = iosfarm(*SEARCH, "--device", f"{QUIET}&count=3&kill=0.01&oom=0.02")
        assert done.code == 0, done.err
        assert predicted(done) == best  # stdout is one document, whatever Ray has to say
        assert set(once(iosfarm).values()) == {1}
        counts += failures(iosfarm)


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


def test_metrics_are_served_to_this_machine_alone(iosfarm: Iosfarm, mark: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    iosfarm.environment["RAY_metrics_report_interval_ms"] = "500"
    process = iosfarm.start(*SEARCH, "--device", f"{QUIET}&count=2&pace=0.2", "--metrics-port", str(port))
    wanted = [re.compile(r"^ray_iosfarm_stages_measured_total\{.*device=\"sim:v100.*#1\".*\} [1-9]", re.MULTILINE)]
    gauges = ("device_busy", "stages_known", "stages", "gap")
    wanted += [re.compile(f"^# HELP ray_iosfarm_{name} ", re.MULTILINE) for name in gauges]
    said = ""

    def told() -> bool:
        """All of it: Ray hands one after the other to its agent."""
        nonlocal said
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            said = answer.read().decode()
        return all(pattern.search(said) for pattern in wanted) or process.poll() is not None

    assert eventually(told), said
    assert heard_by_others(mark) == []
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    assert [pattern.pattern for pattern in wanted if not pattern.search(said)] == []


def test_two_searches_on_one_database_share_the_work(iosfarm: Iosfarm, best: float) -> None:
    arguments = (*SEARCH, "--executor", "inline", "--device", f"{QUIET}&pace=0.01")
    first, second = (iosfarm.start(*arguments, "--out", name) for name in ("one", "two"))
    documents = [finish(process) for process in (first, second)]
    assert [done.code for done in documents] == [0, 0], [done.err for done in documents]
    assert [predicted(done) for done in documents] == [best, best]
    assert set(once(iosfarm).values()) == {1}
    found = [done.document["results"][0]["counts"]["found"] for done in documents]
    assert all(found)  # each has taken over what the other one measured
    # The rows of the runs say who measured what.
    with LatencyDatabase(str(iosfarm.database), readonly=True) as database:
        summaries = [run.summary for run in database.runs()]
    assert sum(summary.measured for summary in summaries) == iosfarm.distinct()
    assert [summary.measured + summary.found for summary in summaries] == [iosfarm.distinct()] * 2


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """A cluster of one machine, started by hand as the documentation says."""
    with RayCluster(cores=2) as cluster:
        yield cluster


def test_a_cluster_that_was_started_by_hand(iosfarm: Iosfarm, best: float, cluster: RayCluster) -> None:
    # The command is told the token, and finds out itself that it is asked for.
    iosfarm.environment.pop("RAY_AUTH_MODE", None)
    iosfarm.environment["RAY_AUTH_TOKEN"] = cluster.token
    done = iosfarm(*SEARCH, "--device", f"{QUIET}&count=2", "--ray-address", cluster.address)
    assert done.code == 0, done.err
    assert predicted(done) == best
    lines = [json.loads(line) for line in (iosfarm.folder / "log.jsonl").read_text().splitlines()]
    joined = [line for line in lines if line["event"] == "device_joined"]
    assert {f"{QUIET}#0", f"{QUIET}#1"} <= {line["device"] for line in joined if line["node"]}
    # The cluster goes on without the search.
    again = iosfarm(*SEARCH, "--device", f"{QUIET}&node=elsewhere", "--ray-address", cluster.address)
    assert again.code == 2
    assert "no machine of the cluster has that name" in again.error

    pretend(cluster, {"ray_version": "2.0.0", "python_version": "3.5.1"})
    other = iosfarm(*SEARCH, "--device", QUIET, "--ray-address", cluster.address)
    assert other.code == 1
    ours = f"Ray 2.0.0 (here {version('ray')}) and Python 3.5.1 (here {platform.python_version()})"
    assert other.error == f"{cluster.address}: the cluster runs {ours}; install the same versions everywhere"
    iosfarm.environment["RAY_AUTH_TOKEN"] = "another"
    stranger = iosfarm(*SEARCH, "--device", QUIET, "--ray-address", cluster.address)
    assert stranger.code == 1
    assert stranger.error.startswith(f"{cluster.address}: the cluster asks for a token, and this machine has none or")
    for told in (other, stranger):  # Ray's own complaints do not reach the terminal
        assert told.err.splitlines() == ["starting", f"error: {told.error}"]


def pretend(cluster: RayCluster, versions: dict[str, str]) -> None:
    """The cluster says that it was started with other versions."""
    code = (
        "import json, sys; from ray._raylet import GcsClient; client = GcsClient(address=sys.argv[1]);"
        "place = (b'CLUSTER_METADATA', b'cluster');"
        "told = json.loads(client.internal_kv_get(*place)) | json.loads(sys.argv[2]);"
        "client.internal_kv_put(place[0], json.dumps(told).encode(), True, place[1])"
    )
    command = [sys.executable, "-c", code, cluster.address, json.dumps(versions)]
    subprocess.run(command, env=cluster.environment, check=True)
