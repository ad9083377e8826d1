"""docs/results.md: the newest results of every device, generated from the documents that lie beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from iosfarm.farm.output_files import OutputError, check_folder
from iosfarm.ir.errors import UsageError
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.result import Column, Kind, Result, Scalar, Status, cell, heading, ratio, read
from iosfarm.reproduce.runs import INDEX, write

HEAD = """# Results

The figures and tables of the [IOS paper](https://arxiv.org/abs/2011.01302), made again, beside the paper's own numbers.

    iosfarm reproduce schedules --device cpu        # one figure: a table beside the paper's, JSON, PNG and SVG
    iosfarm reproduce all --device sim:v100         # all of them: minutes; again: seconds
    iosfarm reproduce all --device cpu --budget 10m # with a limit for each search
    iosfarm reproduce page reproduced/cpu-001       # takes the results of a run over into this page, which is generated

`iosfarm reproduce --help` lists the figures. They share the latency database, so a stage or a search that two of them
need is measured once, and an interrupted run goes on where it stopped; what it had made is marked as partial. Every run
writes into a new folder (`reproduced/cpu-001`, `-002`, …). What a device cannot give, such as other frameworks on a
simulated one, is a row that says so. Plots need `pip install 'iosfarm[plots]'`.

Simulated devices are analytic models of GPUs: they show what the search does, not what a GPU would measure, and are
marked. Latencies are of float32, batch 1 unless said otherwise. The paper's are of a Tesla V100.
"""

BEGIN, END = "<!-- results -->", "<!-- /results -->"
"""Where `summarise` writes."""


def update(folders: Sequence[Path], page: Path) -> list[Path]:
    """Copy results and plots of runs beside the page, into a folder of their device, and write the page anew.

    A complete result is not replaced by one that is not. Returns what was left out for that reason.

    Raises:
        UsageError: a folder without results. OutputError: the page cannot be written.
    """
    store = page.parent / page.stem
    check_folder(store, "--write")
    kept: list[Path] = []
    for folder in folders:
        found = _documents(folder)
        if not found:
            raise UsageError("no results of iosfarm reproduce here", where=str(folder))
        for path in found:
            result = read(path)
            target = store / _place(result) / path.name
            if target.exists() and result.status is not Status.COMPLETE and read(target).status is Status.COMPLETE:
                kept.append(path)
                continue
            _take(path, target)
    write(page, render(stored(page), page).rstrip())
    return kept


def summarise(results: Iterable[Result], into: Path, page: Path) -> None:
    """Write the four networks' latencies on every device into a text, between `BEGIN` and `END`.

    Raises:
        UsageError: the file cannot be read, or has no such place. OutputError: it cannot be written.
    """
    try:
        text = into.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read this file: {getattr(error, 'strerror', None) or error}", where=str(into)
        ) from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError("no place for the results", where=str(into), hint=f"write {BEGIN} and {END} where they belong")
    rows = ["| device | network | sequential ms | greedy ms | ios-both ms | speed-up | |"]
    rows.append("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for result in results:
        if result.figure == "schedules" and result.device is not None:
            mark = "simulated" if result.simulated else f"{result.origin}, {result.device.model}"
            about = f"{mark}, {result.created:%Y-%m-%d}, iosfarm {result.iosfarm}"
            rows += [_summary_row(result.device.spec, row, about) for row in result.rows if row["ios_both"] is not None]
    link = page.relative_to(into.parent).as_posix() if page.is_relative_to(into.parent) else page.as_posix()
    more = f"Every figure and table of the paper: [{link}]({link})."
    write(into, f"{before}{BEGIN}\n{chr(10).join(rows)}\n\n{more}\n{END}{after}".removesuffix("\n"))


def _summary_row(spec: str, row: dict[str, Scalar], about: str) -> str:
    latencies = [row["sequential"], row["greedy"], row["ios_both"]]
    cells = [f"{value * 1e3:.4g}" if isinstance(value, float) else "–" for value in latencies]
    gain = ratio(latencies[0], latencies[2]) if all(isinstance(value, float) for value in latencies) else None  # type: ignore[arg-type]
    return f"| {spec} | {row['network']} | {' | '.join(cells)} | {f'{gain:.2f}x' if gain else '–'} | {about} |"


def stored(page: Path) -> list[tuple[Path, Result]]:
    """The results beside a page."""
    return [(path, read(path)) for path in sorted((page.parent / page.stem).glob("*/*.json"))]


def render(results: Sequence[tuple[Path, Result]], page: Path) -> str:
    """The page's Markdown: a section for each figure, in it one for each device."""
    unknown = [path for path, result in results if result.figure not in FIGURES]
    if unknown:
        raise UsageError("a result of a figure that this version does not know", where=str(unknown[0]))
    parts = [HEAD, _devices(result for _, result in results)]
    for name, figure in FIGURES.items():
        own = [(path, result) for path, result in results if result.figure == name]
        if not own:
            continue
        covers = f" ({', '.join(figure.covers)})" if figure.covers else ""
        parts.append(f"## {figure.title}{covers}\n\n`iosfarm reproduce {name}`: {_one_paragraph(figure.help)}\n")
        parts += [_section(path, result, page) for path, result in own]
    return "\n".join(parts)


def _devices(results: Iterable[Result]) -> str:
    """A row for each device and environment; which figures are of which, where a device has several."""
    places: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.device is not None:
            environment = ", ".join(f"{key} {value}" for key, value in sorted(result.device.environment.items()))
            places.setdefault((result.device.spec, environment), []).append(result)
    rows = ["| device | model | | dates | iosfarm | environment |", "| --- | --- | --- | --- | --- | --- |"]
    specs = [spec for spec, _ in places]
    for (spec, environment), own in places.items():
        device = own[-1].device
        assert device is not None
        dates = sorted({f"{result.created:%Y-%m-%d}" for result in own})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        versions = ", ".join(sorted({result.iosfarm for result in own}))
        figures = ", ".join(sorted(result.figure for result in own))
        of = f"{figures}: {environment}" if specs.count(spec) > 1 else environment
        rows.append(f"| {spec} | {device.model} | {own[-1].origin} | {span} | {versions} | {of} |")
    return "\n".join(rows) + "\n"


def _section(path: Path, result: Result, page: Path) -> str:
    lines = []
    if result.device is not None:
        mark = "" if result.origin == "measured" else f" ({result.origin})"
        lines.append(f"### {result.device.spec}{mark}\n")
    if result.status is not Status.COMPLETE:
        lines.append(f"**{result.status}**: {result.reason}\n")
    if result.rows:
        lines.append(_table(result))
    lines += [f"- {note}" for note in result.notes]
    lines += [""] if result.notes else []
    image = path.with_suffix(".svg")
    if image.exists():
        lines.append(f"![{result.title}]({image.relative_to(page.parent).as_posix()})\n")
    return "\n".join(lines)


def _table(result: Result) -> str:
    columns = result.shown()
    rows = ["| " + " | ".join(heading(column) for column in columns) + " |"]
    rows.append("|" + "|".join(" --- " if column.kind is Kind.TEXT else " ---: " for column in columns) + "|")
    for row in result.rows:
        rows.append("| " + " | ".join(_text(column, row.get(column.key)) for column in columns) + " |")
    return "\n".join(rows) + "\n"


def _text(column: Column, value: Scalar) -> str:
    shown = cell(column, value)
    if shown is None:
        return "–"
    if isinstance(shown, float):
        large = abs(shown) >= 1e7
        return f"{shown:.3e}" if large else f"{shown:.0f}" if abs(shown) >= 1e4 else f"{shown:.4g}"
    return str(shown).replace("|", "\\|")


def _one_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _documents(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if path.name != INDEX]


def _place(result: Result) -> str:
    spec = result.device.spec if result.device else "any"
    return "".join(c if c.isalnum() else "-" for c in spec).strip("-")


def _take(path: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        image = path.with_suffix(".svg")
        if image.exists():
            shutil.copyfile(image, target.with_suffix(".svg"))
        else:
            target.with_suffix(".svg").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write here: {error.strerror or error}", where=str(target)) from error
