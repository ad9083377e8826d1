"""What the tests of reports share: a searched folder, and a page that was opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

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


Open = Callable[..., Visit]
"""Opens a page in the browser."""
