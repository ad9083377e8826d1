"""Bar charts of results: groups of bars, ours and the paper's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from iosfarm.reproduce import paper
from iosfarm.reproduce.latencies import MEAN
from iosfarm.reproduce.result import Result, Scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442", "#332288", "#882255",
    "#44aa99", "#ddcc77",
)  # fmt: skip
"""Okabe and Ito's colours, which colour-blind readers can tell apart, and a few of Tol's for the longest legends."""

PAPER_COLOUR = "#bbbbbb"

Series = Mapping[str, Sequence[float | None]]


def bars(
    axes: Axes,
    groups: Sequence[str],
    series: Series,
    unit: str,
    *,
    log: bool = False,
    ours: int = 99,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Bars side by side in groups. ours: so many series are ours, the rest are the paper's, in grey and hatched."""
    width = 0.82 / len(series)
    colours = colours or dict(zip(series, cycle(COLOURS), strict=False))
    for number, (name, values) in enumerate(series.items()):
        known = [(at, value) for at, value in enumerate(values) if value is not None and math.isfinite(value)]
        theirs = number >= ours
        axes.bar(
            [at + (number - (len(series) - 1) / 2) * width for at, _ in known],
            [value for _, value in known],
            width,
            label=name,
            color=PAPER_COLOUR if theirs else colours[name],
            hatch="//" if theirs else None,
            edgecolor="white",
            linewidth=0.5,
        )
    axes.set_xticks(range(len(groups)), [group.replace("_", " ") for group in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylabel(unit)
    axes.grid(axis="x", visible=False)
    if log:
        axes.set_yscale("log")
    if any(series):
        axes.legend(ncols=min(6, len(series)), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)


def schedules(result: Result, canvas: Canvas) -> None:
    """Throughput of the five schedules relative to the best: ours above, the paper's below."""
    rows = [row for row in result.rows if any(_number(row[name]) for name in paper.SCHEDULES)]
    groups = [str(row["network"]) for row in rows]
    pairs = {name.replace("_", "-"): name for name in paper.SCHEDULES}
    theirs = {name: f"paper_{key}" for name, key in pairs.items()}
    _two_panels(canvas, result, groups, _normalised(rows, pairs), _normalised(rows, theirs))


def frameworks(result: Result, canvas: Canvas) -> None:
    """Throughput of each framework relative to the best of the network."""
    networks = list(dict.fromkeys(str(row["network"]) for row in result.rows))
    names = list(dict.fromkeys(str(row["framework"]) for row in result.rows))
    cells = {(row["network"], row["framework"]): row for row in result.rows}
    panels = []
    for key in ("seconds", "paper_seconds"):
        wide: list[dict[str, Scalar]] = []
        for network in networks:
            wide.append({name: _value(cells.get((network, name), {}), key) for name in names})
        known = [name for name in names if any(row[name] is not None for row in wide)]
        panels.append(_normalised(wide, {name: name for name in known}))
    _two_panels(canvas, result, networks, *panels)


def intra_inter(result: Result, canvas: Canvas) -> None:
    """As `schedules`, of what stands for each kind of parallelism."""
    groups = [str(row["network"]) for row in result.rows]
    ours = {"sequential": "sequential", "tvm tuned": "tvm_tuned", "greedy": "greedy", "ios-both": "ios_both"}
    ours = {name: key for name, key in ours.items() if any(row.get(key) is not None for row in result.rows)}
    theirs = {"tvm tuned": "paper_tvm_tuned", "ios-both": "paper_ios_both"}
    _two_panels(canvas, result, groups, _normalised(result.rows, ours), _normalised(result.rows, theirs))


def search_cost(result: Result, canvas: Canvas) -> None:
    """How many stages there are and how many are known; seconds of the search, ours and the paper's."""
    groups = [str(row["network"]) for row in result.rows]
    canvas.set_size_inches(9.0, 6.0)
    above, below = canvas.subplots(2, 1)
    stages = {"distinct stages": _column(result.rows, "stages"), "known": _column(result.rows, "known")}
    bars(above, groups, stages, "stages", log=True)
    seconds = {"search": _column(result.rows, "search_s"), "paper": _column(result.rows, "paper_search_s")}
    bars(below, groups, seconds, "search (s)", log=True, ours=1)


def blocks(result: Result, canvas: Canvas) -> None:
    """Speed-up of each block."""
    canvas.set_size_inches(9.0, 3.6)
    axes = canvas.subplots()
    bars(axes, [str(r["block"]) for r in result.rows], {"": _column(result.rows, "speedup")}, "speed-up of ios-both")
    axes.axhline(1.0, color="#555555", linewidth=0.8)


def plain(result: Result, canvas: Canvas) -> None:
    """Latencies under three schedules."""
    canvas.set_size_inches(7.5, 3.8)
    series = {name.replace("_", "-"): _column(result.rows, name) for name in ("sequential", "greedy", "ios_both")}
    in_ms = {name: [None if v is None else v * 1e3 for v in values] for name, values in series.items()}
    bars(canvas.subplots(), [str(row["network"]) for row in result.rows], in_ms, "latency (ms)")


def table1(result: Result, canvas: Canvas) -> None:
    """Bound, transitions and schedules of each network, ours and the paper's."""
    groups = [str(row["network"]) for row in result.rows]
    names = ("transitions", "bound", "schedules")
    canvas.set_size_inches(9.0, 4.2)
    series: dict[str, Sequence[float | None]] = {name: _column(result.rows, name) for name in names}
    series |= {f"paper: {name}": _column(result.rows, f"paper_{name}") for name in names}
    bars(canvas.subplots(), groups, series, "count", log=True, ours=len(names))


def table2(result: Result, canvas: Canvas) -> None:
    """Units of each network."""
    canvas.set_size_inches(6.5, 3.6)
    series = {"ours": _column(result.rows, "units"), "paper": _column(result.rows, "paper_units")}
    bars(canvas.subplots(), [str(row["network"]) for row in result.rows], series, "units", ours=1)


def complexity(result: Result, canvas: Canvas) -> None:
    """Transitions and states beside the bound."""
    canvas.set_size_inches(8.0, 3.8)
    groups = [f"{row['chains']} x {row['length']}" for row in result.rows]
    counted = [(_value(row, "transitions") or 0) + (_value(row, "states") or 0) for row in result.rows]
    axes = canvas.subplots()
    series: Series = {"transitions and states": counted, "bound": _column(result.rows, "bound")}
    bars(axes, groups, series, "count", log=True, ours=1)
    axes.set_xlabel("chains x units in each")


def part_sizes(result: Result, canvas: Canvas) -> None:
    """States and transitions for each size of parts."""
    canvas.set_size_inches(7.5, 3.8)
    axes = canvas.subplots()
    names = ("states", "transitions", "largest")
    labels = {"largest": "transitions of the largest part"}
    series = {labels.get(name, name): _column(result.rows, name) for name in names}
    bars(axes, [str(row["size"]) for row in result.rows], series, "count", log=True)
    axes.set_xlabel("units in a part at most")


def _two_panels(canvas: Canvas, result: Result, groups: Sequence[str], ours: Series, theirs: Series) -> None:
    canvas.set_size_inches(9.5, 6.4)
    above, below = canvas.subplots(2, 1, sharex=True)
    unit = "throughput /\nbest of the network"
    colours = dict(zip(dict.fromkeys((*theirs, *ours)), cycle(COLOURS), strict=False))
    bars(above, groups, ours, unit, colours=colours)
    bars(below, groups, theirs, unit, colours=colours)
    above.set_title(f"{result.origin} here", loc="left")
    below.set_title("paper (V100)", loc="left")
    above.tick_params(labelbottom=True)
    if groups and groups[-1] == MEAN:
        for axes in (above, below):
            axes.axvline(len(groups) - 1.5, color="#999999", linewidth=0.8, linestyle=":")


def _normalised(rows: Sequence[Mapping[str, Scalar]], keys: Mapping[str, str]) -> dict[str, list[float | None]]:
    """Of each series best / value: throughput relative to the best of the row."""
    series: dict[str, list[float | None]] = {name: [] for name in keys}
    for row in rows:
        values = {name: _value(row, key) for name, key in keys.items()}
        best = min((value for value in values.values() if value), default=None)
        for name, value in values.items():
            series[name].append(best / value if best and value else None)
    return series


def _column(rows: Sequence[Mapping[str, Scalar]], key: str) -> list[float | None]:
    return [_value(row, key) for row in rows]


def _value(row: Mapping[str, Scalar], key: str) -> float | None:
    value = row.get(key)
    return float(value) if _number(value) and isinstance(value, int | float) else None


def _number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
