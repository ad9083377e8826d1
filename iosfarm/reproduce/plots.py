"""Plots of results, as PNG and SVG, drawn from the result's document alone: old results can be drawn again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iosfarm.farm.output_files import OutputError
from iosfarm.reproduce import plot_bars, plot_curves, plot_time
from iosfarm.reproduce.result import Result, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS = ("png", "svg")
HINT = "plots need matplotlib: pip install 'iosfarm[plots]'"

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "iosfarm",
}

DRAWINGS: Mapping[str, Callable[[Result, Canvas], None]] = {
    "trend": plot_curves.trend,
    "example": plot_time.schedules,
    "table1": plot_bars.table1,
    "table2": plot_bars.table2,
    "complexity": plot_bars.complexity,
    "schedules": plot_bars.schedules,
    "search-cost": plot_bars.search_cost,
    "frameworks": plot_bars.frameworks,
    "utilisation": plot_time.timelines,
    "pruning": plot_curves.pruning,
    "specialisation": plot_curves.matrices,
    "last-block": plot_time.schedules,
    "batch-sizes": plot_curves.batch_sizes,
    "intra-inter": plot_bars.intra_inter,
    "blocks": plot_bars.blocks,
    "resnet-vgg": plot_bars.plain,
    "part-sizes": plot_bars.part_sizes,
    "random-320": plot_bars.plain,
}
"""How each figure is drawn."""


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(result: Result, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a result's plots; none where there is nothing to draw.

    Raises:
        OutputError: a file cannot be written.
    """
    if result.status is Status.NOT_POSSIBLE or not result.rows:
        return []
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    paths = [folder / f"{result.figure}.{suffix}" for suffix in formats]
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(layout="constrained")
        DRAWINGS[result.figure](result, canvas)
        canvas.suptitle(caption(result), fontsize=11)
        for path in paths:
            # Without a date, so that the same numbers make the same file.
            metadata = {"Date": None} if path.suffix == ".svg" else None
            try:
                canvas.savefig(path, dpi=130, metadata=metadata)
            except OSError as error:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise OutputError(f"cannot write the plot: {error.strerror or error}", where=str(path)) from error
    return paths


def caption(result: Result) -> str:
    """Title, device, and what has to be known at first sight."""
    parts = [result.title]
    if result.device is not None:
        parts.append(result.device.spec if result.simulated else result.device.model)
    marks = [result.origin] if result.device is not None and result.origin != "measured" else []
    marks += ["partial"] if result.status is Status.PARTIAL else []
    return ", ".join(parts) + (f" ({', '.join(marks)})" if marks else "")
