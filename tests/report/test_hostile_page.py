"""Pages of files that mean harm, or that say little: names stay data, and nothing is claimed that was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_examples import Open, Searched

from iosfarm.ir.graph import Graph
from iosfarm.report.building import report_on
from iosfarm.report.rendering import render


@pytest.mark.parametrize(("simulated", "badge"), [(True, "simulated, not measured"), (False, "measured on the device")])
def test_it_says_plainly_whether_it_was_measured(
    searched: Searched, tmp_path: Path, visit: Open, simulated: bool, badge: str
) -> None:
    path = searched.changed(tmp_path, lambda document: document["device"].update(simulated=simulated))
    target = tmp_path / "badge.html"
    target.write_text(render(report_on([str(path)])), encoding="utf-8")
    page = visit(target).page
    assert page.locator(".badge").inner_text() == badge
    said = " ".join(page.locator(".head, h3, figcaption").all_inner_texts()).lower()
    assert ("simulated" in said) is simulated
    assert ("measured on the device" in said or "as they were measured" in said) is not simulated


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}${alert(3)}\u2028"


def hostile(document: dict[str, Any]) -> None:
    """Every name that a file can hold."""
    names = {unit["name"]: f"{unit['name']}{HOSTILE}" for unit in document["graph"]["units"]}
    for unit in document["graph"]["units"]:
        unit["name"] = names[unit["name"]]
    for stage in document["stages"]:
        stage["groups"] = [[names[name] for name in group] for group in stage["groups"]]
    document["alone"] = {names[name]: seconds for name, seconds in document["alone"].items()}
    document["model"] = document["graph"]["name"] = HOSTILE
    document["notes"] = [HOSTILE]
    document["device"] |= {"spec": HOSTILE, "model": HOSTILE, "properties": {HOSTILE: HOSTILE}}
    document["certificate"]["assumptions"] = [HOSTILE]
    document["settings"]["strategies"] = [HOSTILE]


def test_names_are_data(searched: Searched, tmp_path: Path, visit: Open) -> None:
    path = searched.changed(tmp_path, hostile)
    document = json.loads(path.read_text())
    document["graph_hash"] = Graph.from_json(document["graph"]).content_hash
    path.write_text(json.dumps(document))
    target = tmp_path / "hostile.html"
    target.write_text(render(report_on([str(path)])), encoding="utf-8")
    opened = visit(target)
    page = opened.page
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    page.locator("#s0-stage-0 .unit").first.click()
    page.locator("#s0-stage-0 .unit").first.hover()
    assert "onerror=alert(2)" in page.locator(".tip").inner_text()
    assert "onerror=alert(2)" in page.locator("[data-view=detail]").inner_text()
    assert opened.requests == [target.as_uri()]


def test_the_policy_lets_nothing_else_run(both: Path, visit: Open) -> None:
    opened = visit(both)
    page = opened.page
    page.evaluate(
        """() => { window.blocked = []; document.addEventListener("securitypolicyviolation", (event) =>
            window.blocked.push(event.effectiveDirective)); const script = document.createElement("script");
            script.textContent = "window.ran = true"; document.body.append(script);
            const image = document.createElement("img"); image.src = "https://example.org/x.png";
            document.body.append(image); }"""
    )
    page.wait_for_function("window.blocked.length === 2")
    assert page.evaluate("[...window.blocked].sort().join()") == "img-src,script-src-elem"
    assert page.evaluate("window.ran") is None
    assert all("Content Security Policy" in problem for problem in opened.problems)
    opened.problems.clear()


def unmeasured(document: dict[str, Any]) -> None:
    document["stages"][0]["predicted"] = None
    document["certificate"] = None
    del document["alone"]
    for entry in document["latencies"].values():
        entry |= {"measured": None, "samples": [], "predicted": None}


def test_a_file_with_hardly_anything_in_it(searched: Searched, tmp_path: Path, visit: Open) -> None:
    target = tmp_path / "bare.html"
    target.write_text(render(report_on([str(searched.changed(tmp_path, unmeasured))])), encoding="utf-8")
    page = visit(target).page
    assert page.locator("[role=option]").count() > 0
    assert "Not in this report" in page.locator("#main").inner_text()
    assert "NaN" not in page.content()
    assert "undefined" not in page.locator("#main").inner_text()
