"""Nodes of a Ray cluster join, die, stop answering and lose their network while a search uses them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import networks
import pytest
from command_line import Done, Iosfarm, finish
from processes import eventually, marked
from ray_nodes import IMPATIENT, RayCluster

from iosfarm.db import LatencyDatabase
from iosfarm.workers.settings import EFFORTS, Effort

SIM = "sim:v100?noise=0&pace=0.1"
ZOO = "models:\n  - name: squeezenet\n    arguments: {image_size: 64}\n"
SEARCH = ("search", "--models", "zoo.yaml", "--json", "--method", "exhaustive", "--log", "log.jsonl")


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the search finds where nothing fails, on one device, without Ray."""
    calm = Iosfarm(tmp_path_factory.mktemp("calm"))
    calm.zoo(ZOO)
    done = calm(*SEARCH, "--device", "sim:v100?noise=0", "--executor", "inline")
    assert done.code == 0, done.err
    return predicted(done)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head that measures as well. Tests join nodes of their own."""
    with RayCluster(IMPATIENT) as cluster:
        yield cluster


class Search:
    """A search on a cluster, in the middle of which things happen: it measures when this returns.

    before: what it had recorded by then.
    """

    def __init__(self, folder: Path, cluster: RayCluster, device: str, *inside: str) -> None:
        # A token in the environment is all that it needs where the cluster asks for one.
        self.iosfarm = Iosfarm(folder, {"RAY_AUTH_TOKEN": cluster.token})
        self.iosfarm.zoo(ZOO)
        command = [*inside, sys.executable, "-m", "iosfarm", *SEARCH, "--device", device]
        self.process = subprocess.Popen(
            [*command, "--ray-address", cluster.address],
            cwd=folder,
            env=self.iosfarm.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.iosfarm.until_recorded(30, self.process)
        self.before = self.recorded()

    def events(self, name: str) -> list[dict[str, Any]]:
        """What has happened so far, of one kind."""
        with suppress(FileNotFoundError):
            lines = (self.iosfarm.folder / "log.jsonl").read_text().splitlines()
            return [line for line in map(json.loads, lines) if line["event"] == name]
        return []

    def recorded(self) -> Mapping[int, str]:
        """Stages by the ids of their measurements."""
        with LatencyDatabase(str(self.iosfarm.database), readonly=True) as database:
            return {row.id: row.stage_key for row in database.query()}

    def check(self, best: float) -> None:
        """It has ended well, with what was there before, and nothing was measured twice but what was under way."""
        done = finish(self.process)
        assert done.code == 0, done.err
        assert predicted(done) == best
        assert self.before.items() <= self.recorded().items()
        with LatencyDatabase(str(self.iosfarm.database), readonly=True) as database:
            rows = database.query(status="ok")
        normal = Counter(row.stage_key for row in rows if row.n < EFFORTS[Effort.CAREFUL].min_samples)
        assert set(normal.values()) == {1}


def predicted(done: Done) -> float:
    (result,) = done.document["results"]
    assert result["counts"]["failed"] == 0, result["notes"]
    seconds: float = result["latencies"]["optimised"]["predicted"]
    return seconds


def test_one_node_joins_and_another_dies(cluster: RayCluster, tmp_path: Path, best: float) -> None:
    dying = cluster.join("dying")
    search = Search(tmp_path, cluster, "sim:v100?noise=0&pace=0.2&count=4")
    assert {line["node"] for line in search.events("device_joined")} == {"dying", "head"}
    joined = cluster.join("joining")
    dying.signal(signal.SIGKILL)
    assert eventually(lambda: len(search.events("device_joined")) == 6)
    search.check(best)
    lost = {line["device"] for line in search.events("device_left")}
    assert lost == {line["device"] for line in search.events("device_joined")[:4] if line["node"] == "dying"}
    # Its simulated devices are made again where there are machines, the new one among them.
    again = search.events("device_joined")[4:]
    assert {line["device"] for line in again} == lost
    assert "joining" in {line["node"] for line in again}
    assert {line["kind"] for line in search.events("failed")} == {"killed"}
    (ended,) = search.events("run_finished")
    assert ended["failed"] == {"killed": len(search.events("failed"))}  # those of devices that have left, too
    joined.end()


def test_the_only_node_that_is_meant_dies_and_comes_back(cluster: RayCluster, tmp_path: Path, best: float) -> None:
    node = cluster.join("only")
    search = Search(tmp_path, cluster, f"{SIM}&count=2&node=only")
    node.signal(signal.SIGKILL)
    assert eventually(lambda: bool(search.events("no_device_left")))
    back = cluster.join("only")
    search.check(best)
    assert [line["node"] for line in search.events("device_joined")] == ["only"] * 4
    back.end()


def test_a_node_that_stops_answering(cluster: RayCluster, tmp_path: Path, best: float) -> None:
    node = cluster.join("stalled")
    search = Search(tmp_path, cluster, f"{SIM}&count=2")
    node.signal(signal.SIGSTOP)
    assert eventually(lambda: bool(search.events("device_left")))
    search.check(best)
    (left,) = search.events("device_left")
    assert left["device"] in {line["device"] for line in search.events("device_joined") if line["node"] == "stalled"}
    # What has missed its own end ends once it hears of it.
    node.signal(signal.SIGCONT)
    assert eventually(lambda: not marked(node.mark))


@pytest.mark.skipif(bool(networks.missing()), reason=networks.missing() or "there are network namespaces")
def test_the_network_to_a_node_is_cut_and_mended(tmp_path: Path, best: float) -> None:
    with networks.Cable() as cable:
        places = {"head": cable.inside(cable.near), "far": cable.inside(cable.far)}
        addresses = dict(zip(("head", "far"), cable.addresses, strict=True))
        with RayCluster(IMPATIENT, addresses=addresses, inside=places) as cluster:
            node = cluster.join("far")
            search = Search(tmp_path, cluster, f"{SIM}&count=2", *places["head"])
            cable.cut()
            assert eventually(lambda: bool(search.events("device_left")))
            cable.mend()
            assert eventually(lambda: not marked(node.mark))  # it has been given up, and is told so
            search.check(best)
            assert {line["node"] for line in search.events("device_joined")[:2]} == {"far", "head"}
