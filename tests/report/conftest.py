"""A real search's schedules and database, reports on them, and a browser to look at these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import executable
from playwright.sync_api import Browser, Page, sync_playwright

from iosfarm.cli import main
from iosfarm.db import LatencyDatabase
from iosfarm.report.building import report_on
from iosfarm.report.contents import Report
from iosfarm.report.rendering import render

Document = dict[str, Any]


@dataclass(frozen=True)
class Searched:
    """A folder with schedules and the database that they were searched with."""

    folder: Path

    @property
    def database(self) -> str:
        return str(self.folder / "latency.db")

    @property
    def squeezenet(self) -> Path:
        return self.folder / "schedules/squeezenet-sim-v100-b1-float32.json"

    @property
    def sample(self) -> Path:
        return self.folder / "schedules/sample-sim-v100-b1-float32.json"

    def changed(self, folder: Path, change: Callable[[Document], object]) -> Path:
        """The sample's file with a change."""
        document = json.loads(self.sample.read_text())
        change(document)
        path = folder / "changed.json"
        path.write_text(json.dumps(document))
        return path


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


class Visit:
    """A page that was opened, and all that went wrong on it."""

    def __init__(self, browser: Browser, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")


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
