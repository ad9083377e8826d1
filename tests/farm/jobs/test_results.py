"""What is made of latencies: which schedule is chosen, what is said about it, and which file it goes to."""

from __future__ import annotations

import math
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from farm_examples import drive, job

from iosfarm.db import LatencyDatabase
from iosfarm.farm.api import open_executor
from iosfarm.farm.executors.ray_address import RayError
from iosfarm.farm.executors.ray_executor import RayExecutor
from iosfarm.farm.jobs.verdict import NOISE, fastest
from iosfarm.farm.schedules.schedule_file import document, load, save, target
from iosfarm.ir.builder import GraphBuilder
from iosfarm.ir.errors import UsageError
from iosfarm.search.baselines import greedy, sequential
from iosfarm.search.budget import Budget
from iosfarm.search.parts import cut
from iosfarm.search.space import SpaceSettings
from iosfarm.workers.evaluating import TOLERANCES, EvaluationSettings
from iosfarm.workers.worker import Worker


@pytest.mark.parametrize(
    ("sequential_ms", "greedy_ms", "optimised_ms", "chosen"),
    [
        (10.0, 9.0, 8.0, "optimised"),
        (10.0, 8.0, 8.0 * (1 + NOISE / 2), "optimised"),  # noise does not speak against the search
        (10.0, 8.0, 8.5, "greedy"),
        (10.0, 11.0, 10.0 * (1 - NOISE / 2), "sequential"),  # nor for it
        (10.0, 9.95, 9.96, "sequential"),
    ],
)
def test_the_fastest_is_chosen(sequential_ms: float, greedy_ms: float, optimised_ms: float, chosen: str) -> None:
    assert fastest({"sequential": sequential_ms, "greedy": greedy_ms, "optimised": optimised_ms}) == chosen


def test_a_schedule_that_is_the_greedy_one_is_said_to_be_and_timed_once(tmp_path: Path) -> None:
    b = GraphBuilder("one")
    graph = b.build(b.conv2d(b.input((8, 8, 8)), 8, 1))  # a single unit has a single schedule
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        (result,) = drive([job(graph)], database)
        (other,) = drive([job()], database)
    assert "the optimised schedule is the greedy one" in result.notes
    samples = {name: latency.samples for name, latency in result.latencies.items()}
    assert samples["optimised"] == samples["greedy"] == samples["sequential"]
    assert other.latencies["sequential"].samples != other.latencies["greedy"].samples


def test_an_interrupted_result_does_not_replace_a_finished_one(tmp_path: Path) -> None:
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        (result,) = drive([job()], database)
    finished, interrupted = document(result), document(replace(result, interrupted=True))
    assert target(tmp_path, "a", interrupted) == tmp_path / "a.json"
    save(interrupted, tmp_path / "a.json")
    assert target(tmp_path, "a", interrupted) == tmp_path / "a.json"
    assert target(tmp_path, "a", finished) == tmp_path / "a.json"
    save(finished, tmp_path / "a.json")
    assert target(tmp_path, "a", interrupted) == tmp_path / "a-interrupted.json"
    assert not load(tmp_path / "a.json")[0].interrupted


def test_a_budget_that_was_enough_goes_without_saying(tmp_path: Path) -> None:
    generous = job()
    generous = replace(generous, settings=replace(generous.settings, budget=Budget(1e6)))
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        (result,) = drive([generous], database)
    assert not result.interrupted
    assert result.measured
    assert not any("budget" in note for note in result.notes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_floats_are_excused_their_rounding(dtype: str) -> None:
    b = GraphBuilder("small")
    x = b.input((16, 12, 12))
    left, right = b.conv2d(x, 16, 3, padding=1, activation="relu"), b.conv2d(x, 16, 1)
    graph = b.build(b.concat(left, right)).bind(dtype=dtype)
    worker = Worker("cpu")
    try:
        parts = cut(graph)
        schedules = {
            "sequential": sequential(graph, parts, worker.layout),
            "greedy": greedy(graph, parts, worker.layout),
        }
        evaluation = worker.evaluate(graph, schedules, None, 0, EvaluationSettings(rounds=2, max_rounds=2))
    finally:
        worker.close()
    errors = [error for error in evaluation.errors.values() if error is not None]
    assert len(errors) == 2
    assert max(errors) <= TOLERANCES[dtype]
    # The excuse is needed: rounding to so few bits shows.
    assert max(errors) > np.finfo(np.float32).eps


def test_limits_beyond_every_part_are_no_limits(tmp_path: Path) -> None:
    with LatencyDatabase(str(tmp_path / "latency.db")) as database:
        (huge,) = drive([job(space=SpaceSettings(10**30, 10**30))], database)
        (none,) = drive([job(space=SpaceSettings(None, None))], database)
    assert huge.counts.stages == none.counts.stages
    assert math.isfinite(huge.schedule.predicted or math.inf)


@pytest.mark.parametrize("address", ["", "nonsense", "host:port", "host:0", "host:99999"])
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    with pytest.raises(UsageError, match="not the address of a Ray cluster"):
        RayExecutor(address)


def test_an_address_where_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RayError, match=f"{address}: no Ray cluster answers"):
        RayExecutor(address)


def test_the_inline_executor_takes_no_address() -> None:
    with pytest.raises(UsageError, match="takes no Ray address"), open_executor("inline", "auto"):
        pass


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail\r\n", b""])
def test_something_else_listens_there(says: bytes) -> None:
    """Ray would try for two minutes, and say that it was not reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # the client has heard enough
                connection.sendall(says)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(100):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RayError, match=f"{address}: what answers there is no Ray cluster"):
            RayExecutor(address)
        thread.join()
