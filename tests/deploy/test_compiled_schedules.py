"""Where `iosfarm.compile` has its schedules from: the database, a search, a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from compile_examples import WEIGHTS, X, close
from conformance import block
from ir_strategies import renamed

import iosfarm
from iosfarm.db import LatencyDatabase
from iosfarm.farm.schedules.schedule_file import load
from iosfarm.ir.errors import UsageError
from iosfarm.kernels.reference import run_graph


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a schedule of `block` for the CPU, from a search of a few stages."""
    path = tmp_path_factory.mktemp("searched") / "latency.db"
    iosfarm.search(block(), device="cpu", database=str(path), budget="60 stages")
    return path


@pytest.fixture
def database(searched: Path, tmp_path: Path) -> str:
    """A copy of that for one test."""
    return shutil.copy(searched, tmp_path / "latency.db").as_posix()


def rows(database: str) -> int:
    with LatencyDatabase(database, readonly=True) as memory:
        return len(memory.schedules())


def test_the_schedule_of_the_database_is_taken(database: str) -> None:
    with iosfarm.compile(block(), database=database, weights=WEIGHTS) as model:
        assert close(model(X))
        with LatencyDatabase(database, readonly=True) as memory:
            (row,) = memory.schedules()
        assert [stage.key for stage in model.schedule.stages] == [stage.stage_key for stage in row.stages]
        assert model.notices[0].startswith("under the schedule ")
    assert rows(database) == 1
    # The same network under other names, and its units in another order.
    other, _ = renamed(block(), 5)
    with pytest.warns(UserWarning, match="random weights"), iosfarm.compile(other, database=database) as model:
        assert sorted(s.key for s in model.schedule.stages) == sorted(stage.stage_key for stage in row.stages)
    assert rows(database) == 1


def test_without_one_it_is_searched_for_and_kept(database: str) -> None:
    batch = np.concatenate([X, X])
    with iosfarm.compile(block(), database=database, weights=WEIGHTS, batch_size=2, budget="60 stages") as model:
        assert close(model(batch), run_graph(block().bind(batch=2), WEIGHTS, [batch]))
        assert model.notices == ("no schedule was in the database; one was searched for",)
    assert rows(database) == 2


def test_a_schedule_file(database: str, tmp_path: Path) -> None:
    with LatencyDatabase(database, readonly=True) as memory:
        (row,) = memory.schedules()
    path = tmp_path / "schedule.json"
    path.write_text(row.document)
    with iosfarm.compile(block(), path, weights=WEIGHTS) as model:
        assert close(model(X))
        assert model.schedule == load(path)[0].schedule()
        assert model.notices == ()
    with pytest.raises(UsageError, match="batch_size 4, but the schedule is for 1; leave one of them out"):
        iosfarm.compile(block(), path, weights=WEIGHTS, batch_size=4)
    with pytest.raises(UsageError, match="made for block, which is another network than this squeezenet; search again"):
        iosfarm.compile(iosfarm.load("squeezenet"), str(path), weights=WEIGHTS)
    document = json.loads(row.document)
    document["device"]["model"] = "Another"
    path.write_text(json.dumps(document))
    with iosfarm.compile(block(), path, weights=WEIGHTS) as model:
        assert "was searched on Another and runs on" in model.notices[0]
