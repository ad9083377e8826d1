"""Plots of one quantity against another: the trend, pruning, batch sizes, and matrices of specialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iosfarm.reproduce.plot_bars import COLOURS, PAPER_COLOUR
from iosfarm.reproduce.result import Result, Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MARKERS = {1: "o", 2: "s", 3: "^"}
"""By the size of groups."""


def trend(result: Result, canvas: Canvas) -> None:
    """Work of a convolution falls (left axis), the peak of GPUs rises (right axis)."""
    from matplotlib.ticker import LogLocator, NullFormatter

    canvas.set_size_inches(8.0, 4.2)
    left = canvas.subplots()
    right = left.twinx()
    networks = [row for row in result.rows if row["mean_mflop"] is not None]
    devices = [row for row in result.rows if row["peak_tflops"] is not None]
    left.plot([_f(r["year"]) for r in networks], [_f(r["mean_mflop"]) for r in networks], "o", color=COLOURS[0])
    right.plot([_f(r["year"]) for r in devices], [_f(r["peak_tflops"]) for r in devices], "s--", color=COLOURS[5])
    shift = {"googlenet": (6, -10), "squeezenet": (6, -9), "inception_v3": (6, -10), "resnet50": (6, 4)}
    for row in networks:
        label = f"{str(row['name']).replace('_', ' ')} ({row['convolutions']})"
        at = (_f(row["year"]), _f(row["mean_mflop"]))
        left.annotate(label, at, xytext=shift.get(str(row["name"]), (6, 3)), textcoords="offset points", fontsize=8)
    for row in devices:
        at = (_f(row["year"]), _f(row["peak_tflops"]))
        right.annotate(
            str(row["name"]), at, xytext=(-4, 6), textcoords="offset points", fontsize=8, ha="right", color=COLOURS[5]
        )
    left.set_yscale("log")
    right.set_yscale("log")
    left.set_xlim(2010.5, 2023)
    left.set_ylim(bottom=40)
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    left.set_xlabel("year")
    left.set_ylabel("mean work of a convolution (MFLOP)", color=COLOURS[0])
    right.set_ylabel("float32 peak (TFLOP/s)", color=COLOURS[5])
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    left.set_title("in brackets: convolutions of the network", loc="left", fontsize=8)


def pruning(result: Result, canvas: Canvas) -> None:
    """Latency against how many stages a search has to know; in grey the paper's, against its seconds."""
    from matplotlib.ticker import LogLocator, NullFormatter

    networks = list(dict.fromkeys(str(row["network"]) for row in result.rows))
    canvas.set_size_inches(9.5, 3.4 * len(networks))
    grid = canvas.subplots(len(networks), 2, squeeze=False)
    for (ours, theirs), network in zip(grid, networks, strict=True):
        for row in (r for r in result.rows if r["network"] == network):
            label = f"r={row['r']}, s={row['s']}"
            marker = MARKERS.get(int(_f(row["r"])), "o")
            filled = row["s"] == 8
            if row["stages"] is not None and row["seconds"] is not None:
                colour = COLOURS[0]
                ours.plot(
                    _f(row["stages"]), _f(row["seconds"]) * 1e3, marker, color=colour, mfc=colour if filled else "w"
                )
                ours.annotate(
                    label, (_f(row["stages"]), _f(row["seconds"]) * 1e3), xytext=(5, 4), textcoords="offset points",
                    fontsize=8,
                )  # fmt: skip
            colour = "#777777"
            at = (_f(row["paper_search_s"]), _f(row["paper_seconds"]) * 1e3)
            theirs.plot(*at, marker, color=colour, mfc=colour if filled else "w")
            theirs.annotate(label, at, xytext=(5, 4), textcoords="offset points", fontsize=8)
        for axes in (ours, theirs):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.margins(0.25, 0.25)
            axes.set_ylabel("latency (ms)")
        ours.set_xlabel("distinct stages of the search space")
        theirs.set_xlabel("search on one V100 (s)")
        ours.set_title(f"{network.replace('_', ' ')}: here", loc="left")
        theirs.set_title("paper (V100)", loc="left")


def batch_sizes(result: Result, canvas: Canvas) -> None:
    """Throughput against the batch size; dashed: the paper's."""
    canvas.set_size_inches(8.0, 4.4)
    axes = canvas.subplots()
    lines = {
        "sequential": COLOURS[0],
        "greedy": COLOURS[1],
        "ios_both": COLOURS[4],
        "tensorrt": COLOURS[2],
        "taso": COLOURS[3],
    }
    lines |= {"paper_sequential": PAPER_COLOUR, "paper_tensorrt": "#888888", "paper_ios_both": "#444444"}
    for key, colour in lines.items():
        if all(row.get(key) is None for row in result.rows):
            continue
        points = [(_f(r["batch"]), _f(r["batch"]) / _f(r[key])) for r in result.rows if r[key] is not None]
        label = key.replace("paper_", "paper: ").replace("_", "-")
        style = "o--" if key.startswith("paper_") else "o-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, color=colour, label=label, markersize=4)
    axes.set_xscale("log", base=2)
    batches = [_f(row["batch"]) for row in result.rows]
    axes.set_xticks(batches, [f"{batch:.0f}" for batch in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch size")
    axes.set_ylabel("throughput (images/s)")
    axes.legend()


def matrices(result: Result, canvas: Canvas) -> None:
    """How much slower a schedule is where it was not optimised for."""
    sorts = list(dict.fromkeys(str(row["what"]) for row in result.rows))
    canvas.set_size_inches(4.6 * len(sorts), 4.0)
    for axes, sort in zip(canvas.subplots(1, len(sorts), squeeze=False)[0], sorts, strict=True):
        rows = [row for row in result.rows if row["what"] == sort]
        places = list(dict.fromkeys(str(row["executed_on"]) for row in rows))
        cells = {(str(row["executed_on"]), str(row["optimised_for"])): row for row in rows}
        slower = [[_f(cells[on, by]["slower"]) if cells[on, by]["slower"] is not None else float("nan")
                   for by in places] for on in places]  # fmt: skip
        axes.imshow(slower, cmap="Oranges", vmin=0.0, vmax=max(0.2, *(v for line in slower for v in line if v == v)))
        for y, on in enumerate(places):
            for x, by in enumerate(places):
                row = cells[on, by]
                if row["seconds"] is not None:
                    text = f"{_f(row['seconds']) * 1e3:.4g} ms\n{_f(row['slower'] or 0.0):+.1%}"
                    axes.text(x, y, text, ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(places)), places)
        axes.set_yticks(range(len(places)), places)
        axes.set_xlabel("optimised for")
        axes.set_ylabel("executed on")
        axes.grid(visible=False)
        axes.set_title(sort, loc="left")


def _f(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)
