"""Plots over time: schedules as stages and groups, and how much of the device is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from iosfarm.reproduce.plot_bars import COLOURS
from iosfarm.reproduce.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

ROW = 0.82
"""Height of a group's box, in rows."""

MOST_APART = 3.0
"""Schedules that differ by this factor get time axes of their own."""

LEAST_WORK = 0.02
"""Share of a group's longest width that a unit without arithmetic still gets."""


def schedules(result: Result, canvas: Canvas) -> None:
    """Schedules below each other, on one time axis unless they differ too much: a stage is as wide as it takes, its
    groups are rows.

    How a group's units share its width follows from their work: an estimate.
    """
    drawings: Sequence[Mapping[str, Any]] = result.data.get("schedules", [])
    heights = [max((len(s["groups"]) for s in drawing["stages"]), default=1) + 0.8 for drawing in drawings]
    canvas.set_size_inches(10.5, 1.2 + 0.42 * sum(heights))
    colours = _colours(drawings)
    lengths = [sum(stage["seconds"] for stage in drawing["stages"]) for drawing in drawings]
    shared = max(lengths) < MOST_APART * min(lengths)
    panels = canvas.subplots(len(drawings), 1, squeeze=False, sharex=shared, height_ratios=heights)
    for (axes,), drawing, length in zip(panels, drawings, lengths, strict=True):
        _draw(axes, drawing, colours, max(lengths) if shared else length)
    panels[-1][0].set_xlabel("time (ms)")
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
    canvas.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), fontsize=8)


def timelines(result: Result, canvas: Canvas) -> None:
    """Share of the device in use, a panel for each network and schedule."""
    found: Sequence[Mapping[str, Any]] = result.data.get("timelines", [])
    networks = list(dict.fromkeys(item["network"] for item in found))
    canvas.set_size_inches(9.5, 2.3 * len(found))
    panels = canvas.subplots(len(found), 1, squeeze=False)[:, 0]
    for axes, item in zip(panels, found, strict=True):
        longest = max(other["end"] for other in found if other["network"] == item["network"])
        x, y = _steps(item["busy"], item["end"])
        colour = COLOURS[networks.index(item["network"])]
        axes.fill_between([t * 1e3 for t in x], y, step=None, color=colour, alpha=0.75, linewidth=0)
        mean = sum((end - begin) * share for begin, end, share in item["busy"]) / item["end"]
        axes.plot([0, item["end"] * 1e3], [mean, mean], color="#333333", linewidth=1, linestyle="--")
        axes.set_xlim(0, longest * 1e3)
        axes.set_ylim(0, 1.05)
        axes.set_title(f"{item['network'].replace('_', ' ')}, {item['schedule']}: mean {mean:.0%}", loc="left")
        axes.set_ylabel(f"{item['what']}".replace("share of ", "share of\n"))
        axes.set_xlabel("time (ms)")


def _draw(axes: Axes, drawing: Mapping[str, Any], colours: Mapping[str, str], longest: float) -> None:
    from matplotlib.patches import Rectangle

    begin = 0.0
    most = 1
    for stage in drawing["stages"]:
        width = stage["seconds"] * 1e3
        axes.axvline(begin, color="#555555", linewidth=0.8)
        most = max(most, len(stage["groups"]))
        weights = [[_weight(unit) for unit in group] for group in stage["groups"]]
        heaviest = max(map(sum, weights))
        for row, (group, shares) in enumerate(zip(stage["groups"], weights, strict=True)):
            left = begin
            least = LEAST_WORK * heaviest
            total = max(heaviest, sum(max(share, least) for share in shares))
            for unit, share in zip(group, shares, strict=True):
                wide = width * max(share, least) / total
                merged = stage["strategy"] == "merge"
                axes.add_patch(
                    Rectangle(
                        (left, -row - ROW),
                        wide,
                        ROW,
                        facecolor=colours[_kind(unit)],
                        edgecolor="#333333",
                        linestyle="--" if merged else "-",
                        linewidth=0.7,
                    )
                )
                room = int(wide / (longest * 1e3) * 150)
                if room >= 3:
                    axes.text(left + wide / 2, -row - ROW / 2, _short(unit["what"], room), ha="center", va="center",
                              fontsize=7, clip_on=True)  # fmt: skip
                left += wide
        begin += width
    axes.axvline(begin, color="#555555", linewidth=0.8)
    axes.set_xlim(0, longest * 1e3 * 1.01)
    axes.set_ylim(-most, 0.1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    count = len(drawing["stages"])
    axes.set_title(f"{drawing['label']}: {count} stages, {begin:.4g} ms (dashed: merged)", loc="left", fontsize=9)


def _weight(unit: Mapping[str, Any]) -> float:
    return float(unit["work"]) or 1.0


def _kind(unit: Mapping[str, Any]) -> str:
    """What a colour stands for: convolutions by their kernel, else the operator."""
    return str(unit["what"]).split(",")[0]


def _colours(drawings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    kinds = {_kind(u): None for d in drawings for s in d["stages"] for group in s["groups"] for u in group}
    pale = ("#a6cee3", "#fdbf6f", "#b2df8a", "#fb9a99", "#cab2d6", "#ffff99", "#dddddd", "#8dd3c7", "#e5c494")
    return {kind: pale[number % len(pale)] for number, kind in enumerate(sorted(kinds))}


def _short(text: str, room: int) -> str:
    text = text.removeprefix("conv ")
    return text if len(text) <= room else text[: room - 1] + "…"


def _steps(busy: Sequence[Sequence[float]], end: float) -> tuple[list[float], list[float]]:
    """The outline of the shares: nothing where nothing runs."""
    x, y = [0.0], [0.0]
    for begin, stop, share in busy:
        x += [x[-1], begin, begin, stop, stop]
        y += [0.0, 0.0, share, share, 0.0]
    return [*x, end], [*y, 0.0]
