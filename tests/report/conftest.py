"""A real search's schedules and database, reports on them, and a browser to look at these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import executable
from playwright.sync_api import Browser, sync_playwright
from report_examples import Searched, Visit

from iosfarm.cli import main
from iosfarm.db import LatencyDatabase
from iosfarm.report.building import report_on
from iosfarm.report.contents import Report
from iosfarm.report.rendering import render


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "zoo.yaml").write_text("models:\n  - name: sample\n  - name: squeezenet\n")
        fixed = ["--models", "zoo.yaml", "--device", "sim:v100", "--executor", "inline", "--db", "latency.db"]
        assert main.run(["search", *fixed]) == 0
    return Searched(folder)


@pytest.fixture(scope="session")
def run_number(searched: Searched) -> int:
    """The search's run in the database."""
    with LatencyDatabase(searched.database, readonly=True) as database:
        (run,) = database.runs()
    return run.id


@pytest.fixture(scope="session")
def report(searched: Searched) -> Report:
    """On both schedules, with the database."""
    return report_on([str(searched.squeezenet), str(searched.sample)], searched.database)


@pytest.fixture(scope="session")
def both(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That report's page."""
    path = tmp_path_factory.mktemp("pages") / "both.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = executable()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens pages; each has to be without errors in the end."""
    visits: list[Visit] = []

    def open_page(path: Path, **settings: Any) -> Visit:
        visits.append(Visit(browser, path, **settings))
        return visits[-1]

    yield open_page
    for item in visits:
        item.context.close()
        assert item.problems == []
