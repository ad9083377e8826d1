"""The page of a report in a real browser: what a reader sees, clicks, prints, and hears."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from pypdf import PdfReader
from report_examples import Open

from iosfarm.report.contents import Report

STAGE = re.compile(r"Stage (\d+) of part")


def chosen(page: Page, schedule: int = 0) -> int:
    """The stage whose details are shown."""
    found = STAGE.search(page.locator(f"#schedule-{schedule} [data-view=detail] h4").first.inner_text())
    assert found is not None
    return int(found[1])


def shown(page: Page) -> str:
    """The part of the time axis that is to be seen."""
    return page.locator("#schedule-0 [data-view=timeline] output").inner_text()


def width(page: Page, stage: int) -> float:
    box = page.locator(f"#s0-stage-{stage} > .back").bounding_box()
    assert box is not None
    return box["width"]


def test_it_loads_nothing(both: Path, visit: Open) -> None:
    page = visit(both)
    assert page.requests == [both.as_uri()]
    assert "http" not in both.read_text().replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_it_shows_every_stage_and_every_unit(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    schedule = report.schedules[0]
    assert page.locator("#schedule-0 [role=option]").count() == len(schedule.stages)
    assert page.locator("#schedule-0 .before .unit").count() == len(schedule.units)
    assert page.locator("#schedule-0 .node").count() == len(schedule.units)
    for kind in ("timeline", "samples", "proof", "graph"):
        assert page.locator(f"#schedule-0 [data-view={kind}] svg").count() == 1
    for number in range(len(schedule.stages)):
        label = page.locator(f"#s0-stage-{number}").get_attribute("aria-label")
        assert label is not None
        assert all(schedule.units[unit].name in label for box in schedule.stages[number].boxes for unit in box.units)


def test_the_sequential_schedule_is_drawn_on_the_same_axis(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    schedule = report.schedules[0]
    ends = []
    for selector in ("#schedule-0 .before .unit >> nth=-1", "#schedule-0 .stage >> nth=-1"):
        box = page.locator(selector).bounding_box()
        start = page.locator("#schedule-0 .before .unit >> nth=0").bounding_box()
        assert box is not None
        assert start is not None
        ends.append(box["x"] + box["width"] - start["x"])
    assert ends[1] / ends[0] == pytest.approx(schedule.length / schedule.sequential_length, rel=0.01)
    assert "saved" in page.locator("#schedule-0 .saved").text_content()  # type: ignore[operator]


def test_a_click_chooses_a_stage_everywhere(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    stages = report.schedules[0].stages
    longest = max(range(len(stages)), key=lambda number: stages[number].seconds)
    for number in (longest, 0):
        page.locator(f"#s0-stage-{number} .unit").first.click()
        assert chosen(page) == number
        assert page.locator(f"#s0-stage-{number}").get_attribute("aria-selected") == "true"
        assert page.locator("#schedule-0 [aria-selected=true]").count() == 1
        nodes = page.locator("#schedule-0 .node.chosen")
        assert nodes.count() == sum(len(box.units) for box in stages[number].boxes)
        units = {report.schedules[0].units[unit].name for box in stages[number].boxes for unit in box.units}
        text = page.locator("#schedule-0 [data-view=detail]").inner_text()
        assert all(name in text for name in units)
        assert f"{len(stages[number].samples or ())} samples of the stage, simulated" in text
        for choice in stages[number].alternatives.choices:  # type: ignore[union-attr]
            assert choice.why in text


def test_a_unit_of_the_sequential_schedule_leads_to_its_stage(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    unit = max(report.schedules[0].units, key=lambda unit: unit.seconds)
    page.locator(f'#schedule-0 .before [data-unit="{report.schedules[0].units.index(unit)}"]').click()
    assert chosen(page) == unit.stage


def test_a_unit_of_the_graph_leads_to_its_stage(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    page.locator('#schedule-0 .node[data-unit="1"]').click()
    assert chosen(page) == report.schedules[0].units[1].stage


def test_the_keyboard_does_what_the_mouse_does(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    last = len(report.schedules[0].stages) - 1
    page.locator("#schedule-0 [role=listbox]").focus()
    page.keyboard.press("Home")
    assert chosen(page) == 0
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert chosen(page) == 2
    page.keyboard.press("End")
    assert chosen(page) == last
    assert page.locator("#schedule-0 [role=listbox]").get_attribute("aria-activedescendant") == f"s0-stage-{last}"
    whole, before = shown(page), width(page, last)
    page.keyboard.press("+")
    assert shown(page) != whole
    assert width(page, last) > before
    page.keyboard.press("0")
    assert shown(page) == whole


def test_zoom_keeps_the_chosen_stage_in_view(both: Path, visit: Open) -> None:
    page = visit(both).page
    stage, whole = chosen(page), shown(page)
    before = width(page, stage)
    for _ in range(3):
        page.get_by_role("button", name="zoom in").first.click()
    assert width(page, stage) == pytest.approx(before * 1.6**3, rel=0.02)
    page.get_by_role("button", name="show the whole schedule").click()
    assert (shown(page), width(page, stage)) == (whole, pytest.approx(before))
    page.get_by_role("button", name="zoom to the chosen stage").click()
    assert width(page, stage) > before
    page.keyboard.press("ArrowLeft")


def test_close_up_the_same_work_is_above_each_other(both: Path, visit: Open) -> None:
    page = visit(both).page
    page.get_by_role("button", name="zoom to the chosen stage").click()
    line = page.locator("#schedule-0 [role=listbox]").bounding_box()
    assert line is not None
    boxes = [unit.bounding_box() for unit in page.locator("#schedule-0 .before .unit.chosen").all()]
    ends = [edge for box in boxes if box for edge in (box["x"], box["x"] + box["width"])]
    assert line["x"] < (min(ends) + max(ends)) / 2 < line["x"] + line["width"]
    axes = page.locator("#schedule-0 svg[role=listbox] text.soft").all_text_contents()
    assert len({text for text in axes if text.endswith(" ms")}) > 4  # two axes, each with times of its own


def test_schedules_side_by_side_on_one_axis_or_each_on_its_own(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page

    def lengths() -> list[float]:
        return [float(bar.get_attribute("width") or 0) for bar in page.locator("[data-view=compare] .grey").all()]

    page.get_by_role("button", name="all on one time axis").click()
    expected = [schedule.sequential_length for schedule in report.schedules]
    assert lengths()[0] / lengths()[1] == pytest.approx(expected[0] / expected[1], rel=1e-3)
    page.get_by_role("button", name="each on a time axis of its own").click()
    assert lengths()[0] == pytest.approx(lengths()[1])
    assert page.locator("[data-view=compare] [aria-pressed=true]").inner_text() == "Each its own"


def test_the_wheel_zooms_where_the_pointer_is_and_only_with_control(both: Path, visit: Open) -> None:
    page = visit(both).page
    page.locator("#s0-stage-3").hover()
    whole = shown(page)
    page.mouse.wheel(0, 1)
    assert shown(page) == whole
    before = page.locator("#s0-stage-3").bounding_box()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.wait_for_function("old => document.querySelector('#schedule-0 output').textContent !== old", arg=whole)
    page.keyboard.up("Control")
    after = page.locator("#s0-stage-3").bounding_box()
    assert before is not None
    assert after is not None
    middle = [box["x"] + box["width"] / 2 for box in (before, after)]
    assert middle[1] == pytest.approx(middle[0], abs=3)
    assert after["width"] > before["width"]


def test_a_drag_moves_and_chooses_nothing(both: Path, visit: Open) -> None:
    page = visit(both).page
    page.get_by_role("button", name="zoom to the chosen stage").click()
    stage, before = chosen(page), shown(page)
    box = page.locator("#schedule-0 [role=listbox]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 200, box["y"] + 60, steps=4)
    page.mouse.up()
    assert shown(page) != before
    assert chosen(page) == stage


def test_hovering_tells_what_a_unit_is(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    schedule = report.schedules[0]
    unit = max(range(len(schedule.units)), key=lambda number: schedule.units[number].seconds)
    assert not page.locator(".tip").is_visible()
    page.locator(f'#schedule-0 .before [data-unit="{unit}"]').hover()
    tip = page.locator(".tip").inner_text()
    assert schedule.units[unit].name in tip
    assert schedule.units[unit].words in tip
    page.locator("#schedule-0 h2").hover()
    assert not page.locator(".tip").is_visible()


def test_several_schedules_are_tabs_and_a_table(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    rows = page.locator("section[aria-labelledby=compared] tbody tr")
    assert [row.locator("th").inner_text() for row in rows.all()] == [s.model for s in report.schedules]
    assert page.locator("#schedule-0").is_visible()
    assert not page.locator("#schedule-1").is_visible()
    page.get_by_role("tab").nth(1).click()
    assert page.locator("#schedule-1 [role=option]").count() == len(report.schedules[1].stages)
    assert not page.locator("#schedule-0").is_visible()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#schedule-0").is_visible()
    assert page.get_by_role("tab").nth(0).get_attribute("aria-selected") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_without_eyes(both: Path, visit: Open, scheme: str) -> None:
    page = visit(both, color_scheme=scheme).page
    for summary in page.locator("#schedule-0 summary").all():
        summary.click()
    found = Axe().run(page)
    problems = [
        (item["id"], item["nodes"][0]["html"][:200], item["nodes"][0]["failureSummary"])
        for item in found.response["violations"]
    ]
    assert problems == []


def test_every_picture_has_a_table(both: Path, report: Report, visit: Open) -> None:
    page = visit(both).page
    schedule = report.schedules[0]
    for summary in page.locator("#schedule-0 summary").all():
        summary.click()
    text = page.locator("#schedule-0").inner_text()
    assert all(unit.words in text for unit in schedule.units)
    assert schedule.proof is not None
    captions = {
        "Stages in the order in which they run": len(schedule.stages),
        "Bounds over time": len(schedule.proof.history),
    }
    captions |= {"Whole schedules": len(schedule.latencies), "Units in the order of the network": len(schedule.units)}
    for caption, count in captions.items():
        assert page.get_by_role("table", name=caption).first.locator("tbody tr").count() == count


def test_on_paper_everything_is_there(both: Path, report: Report, visit: Open, tmp_path: Path) -> None:
    page = visit(both).page
    page.get_by_role("button", name="zoom to the chosen stage").click()
    before = shown(page)
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    sheets = PdfReader(tmp_path / "report.pdf").pages
    text = unicodedata.normalize("NFKC", " ".join(sheet.extract_text() for sheet in sheets))  # without ligatures
    for schedule in report.schedules:
        assert schedule.model in text
        for unit in schedule.units:
            assert unit.name in text
    assert text.count("What runs beside what") == len(report.schedules)
    assert text.count("streams") >= len(report.schedules)  # the tables are open
    assert "zoom" not in text
    assert shown(page) == before
    assert not page.locator("#schedule-1").is_visible()


def test_a_small_screen_scrolls_in_one_direction(both: Path, visit: Open) -> None:
    page = visit(both, viewport={"width": 390, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_draws_anew_for_another_width(both: Path, visit: Open) -> None:
    page = visit(both).page
    selector = "#schedule-0 [role=listbox]"
    before = page.locator(selector).get_attribute("viewBox")
    page.set_viewport_size({"width": 900, "height": 900})
    page.wait_for_function(
        "([selector, old]) => document.querySelector(selector).getAttribute('viewBox') !== old", arg=[selector, before]
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 900
