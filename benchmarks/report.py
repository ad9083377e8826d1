"""How large the page of a report is, and how soon one can click on it: in the system's Chromium, from a file.

    python benchmarks/report.py schedules/nasnet_large-sim-v100-b1-float32.json --db latency.db

Time to interactive: from the navigation's start until everything is drawn and listens, by the page's own mark; then a
click on a stage until its details are shown and painted. Medians of `--loads` loads, each in a new context.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from iosfarm.report.building import report_on
from iosfarm.report.rendering import render

CLICK = """async (stage) => {
  const box = document.querySelector(`#s0-stage-${stage} .unit`);
  const begin = performance.now();
  box.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
  box.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - begin;
}"""


def load(browser: Browser, page: Path) -> tuple[float, float]:
    """Seconds until interactive, and from a click to its answer on the screen."""
    with browser.new_context() as context:
        opened = context.new_page()
        opened.goto(page.as_uri())
        opened.wait_for_selector("html[data-ready]")
        ready = opened.evaluate("performance.getEntriesByName('interactive')[0].startTime")
        return ready / 1e3, opened.evaluate(CLICK, 0) / 1e3


def main() -> None:
    """Write the page, open it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schedules", nargs="+")
    parser.add_argument("--db")
    parser.add_argument("--loads", type=int, default=7)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    report = report_on(arguments.schedules, arguments.db)
    built = time.perf_counter()
    text = render(report)
    print(f"building  {built - begin:8.2f} s")
    print(f"writing   {time.perf_counter() - built:8.2f} s")
    print(f"size      {len(text.encode()) / 1e6:8.2f} MB")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        page.write_text(text, encoding="utf-8")
        path = shutil.which("chromium") or shutil.which("google-chrome")
        with playwright.chromium.launch(executable_path=path) as browser:
            found = [load(browser, page) for _ in range(arguments.loads)]
    for name, values in zip(("ready", "click"), zip(*found, strict=True), strict=True):
        print(f"{name:<9} {statistics.median(values):8.3f} s  (slowest of {len(values)}: {max(values):.3f} s)")


if __name__ == "__main__":
    main()
