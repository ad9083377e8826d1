"""docs/results.md: the newest results of every device, generated from the documents that lie beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from iosfarm.farm.schedule_file import OutputError, check_folder
from iosfarm.ir.errors import UsageError
from iosfarm.reproduce import paper
from iosfarm.reproduce.figures import FIGURES
from iosfarm.reproduce.result import Column, Kind, Result, Scalar, Status, cell, heading, read
from iosfarm.reproduce.runs import INDEX, write

HEAD = f"""# Results

The figures and tables of the IOS paper ({paper.SOURCE}), made again by `iosfarm reproduce`, beside the paper's own
numbers. This page is generated: `iosfarm reproduce page FOLDER…` takes over the results of a run and writes it.

Simulated devices are analytic models of GPUs: they show what the search does, not what a GPU would measure, and are
marked. Latencies are of float32, batch 1 unless said otherwise. The paper's are of a Tesla V100.
"""


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
    write(page, render([(path, read(path)) for path in sorted(store.glob("*/*.json"))], page).rstrip())
    return kept


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
    devices: dict[str, list[Result]] = {}
    for result in results:
        if result.device is not None:
            devices.setdefault(result.device.spec, []).append(result)
    rows = ["| device | model | | dates | iosfarm | environment |", "| --- | --- | --- | --- | --- | --- |"]
    for spec, own in devices.items():
        device = own[-1].device
        assert device is not None
        dates = sorted({f"{result.created:%Y-%m-%d}" for result in own})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        environment = ", ".join(f"{key} {value}" for key, value in sorted(device.environment.items()))
        mark = "simulated" if device.simulated else "measured"
        versions = ", ".join(sorted({result.iosfarm for result in own}))
        rows.append(f"| {spec} | {device.model} | {mark} | {span} | {versions} | {environment} |")
    return "\n".join(rows) + "\n"


def _section(path: Path, result: Result, page: Path) -> str:
    lines = []
    if result.device is not None:
        mark = " (simulated)" if result.simulated else ""
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
