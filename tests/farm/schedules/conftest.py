"""Schedule files of real searches, which the tests of this folder share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from farm_examples import EXHAUSTIVE, drive, job
from schedule_examples import NAMES, Document

from iosfarm.db import LatencyDatabase
from iosfarm.farm.jobs.job import JobResult
from iosfarm.farm.schedules.schedule_file import document, save
from iosfarm.search.budget import Budget
from iosfarm.search.method import Method
from iosfarm.zoo.load import load as load_graph


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobResult]:
    """Of real searches: exhaustive, certified in both ways, and one that was stopped and has no end-to-end latency."""
    with LatencyDatabase(str(tmp_path_factory.mktemp("results") / "latency.db")) as database:
        (merged,) = drive([job(device="sim:v100?noise=0", method=EXHAUSTIVE)], database)
        (statistical,) = drive([job(load_graph("googlenet"), method=Method(gap=0.02, confidence=0.95))], database)
        (structural,) = drive([job(load_graph("squeezenet"), method=Method(certificate="structural"))], database)
        stop = iter([False, False, True, True, True]).__next__
        (limited,) = drive([job(device="sim:k80", budget=Budget(stages=20))], database, stop=stop)
    assert limited.interrupted
    return dict(zip(NAMES, (merged, statistical, structural, limited), strict=True))


@pytest.fixture(scope="session")
def files(results: dict[str, JobResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Their schedule files."""
    folder = tmp_path_factory.mktemp("schedules")
    for name, result in results.items():
        save(document(result), folder / f"{name}.json")
    return {name: folder / f"{name}.json" for name in results}


@pytest.fixture
def file(files: dict[str, Path], tmp_path: Path) -> Path:
    """A file of one's own."""
    file = tmp_path / "schedule.json"
    file.write_bytes(files["branches"].read_bytes())
    return file


@pytest.fixture(scope="session")
def original(files: dict[str, Path]) -> Document:
    result: Document = json.loads(files["branches"].read_text())
    return result
