"""Running figures: one result after the other, each written as soon as it is there; older results are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from iosfarm.db.errors import DatabaseError
from iosfarm.farm.output_files import OutputError, check_folder
from iosfarm.ir.errors import DeviceLost, IosfarmError, UsageError
from iosfarm.reproduce import plots
from iosfarm.reproduce.figures import FIGURES, Figure
from iosfarm.reproduce.lab import Lab, Stopped
from iosfarm.reproduce.result import DeviceFacts, Draft, Result, Status

INDEX = "index.json"
MOST_RUNS = 1000


@dataclass
class Run:
    """What came of a run. left: figures that it did not come to."""

    folder: Path | None
    results: list[Result] = field(default_factory=list)
    left: tuple[str, ...] = ()

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""
        return bool(self.left) or any(result.status is Status.PARTIAL for result in self.results)

    def index(self) -> dict[str, object]:
        """A summary as JSON."""
        figures = {result.figure: {"status": result.status, "reason": result.reason} for result in self.results}
        figures |= {name: {"status": "not begun", "reason": "the run was interrupted"} for name in self.left}
        return {"format": "iosfarm-reproduction-index", "interrupted": self.interrupted, "figures": figures}


def run_figures(
    names: Sequence[str],
    lab: Lab,
    folder: Path | None,
    *,
    plot: bool = True,
    begin: Callable[[Figure], None] = lambda _: None,
    done: Callable[[Result], None] = lambda _: None,
) -> Run:
    """Make figures, write each one's JSON and plots into `folder`, which is new, and an index of all.

    A figure that the device cannot give has a result that says so. When the user stops, the one under way is partial.

    Raises:
        UsageError: no such device. DatabaseError. OutputError. DeviceLost.
    """
    wanted = [FIGURES[name] for name in names]
    if any(figure.needs_device for figure in wanted):
        lab.info()  # a device that is not there is no device that cannot give a figure
    run = Run(folder)
    for position, figure in enumerate(wanted):
        if lab.stop():
            run.left = tuple(figure.name for figure in wanted[position:])
            break
        begin(figure)
        result = make(figure, lab)
        run.results.append(result)
        if folder is not None:
            write(folder / f"{figure.name}.json", result.model_dump_json(indent=1))
            if plot:
                plots.draw(result, folder)
        done(result)
    if folder is not None:
        write(folder / INDEX, json.dumps(run.index(), indent=1))
    return run


def make(figure: Figure, lab: Lab) -> Result:
    """One figure's result."""
    draft, started = Draft(figure.columns), monotonic()
    status, reason = Status.COMPLETE, ""
    try:
        figure.make(draft, lab)
        if draft.empty:
            status, reason = Status.NOT_POSSIBLE, draft.notes[0] if draft.notes else "there is nothing to show"
    except Stopped:
        status, reason = Status.PARTIAL, "interrupted; the same command goes on from what was measured"
    except (DatabaseError, OutputError, DeviceLost, UsageError):
        raise  # of the whole run
    except IosfarmError as error:
        status, reason = (Status.NOT_POSSIBLE if draft.empty else Status.PARTIAL), str(error)
    device = DeviceFacts.of(lab.info()) if figure.needs_device else None
    return draft.finish(figure.name, figure.title, device, monotonic() - started, status, reason)


def new_folder(out: Path, device: str) -> Path:
    """`out/DEVICE-001`, or the next number that is free: what was there stays as it is.

    Raises:
        OutputError: it cannot be written.
    """
    check_folder(out)
    name = "".join(c if c.isalnum() else "-" for c in device).strip("-")
    for number in range(1, MOST_RUNS):
        folder = out / f"{name}-{number:03}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot write here: {error.strerror or error}", where=str(folder)) from error
        return folder
    raise OutputError(f"{MOST_RUNS - 1} runs on {device} are here already", where=str(out), hint="choose another --out")


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the result: {error.strerror or error}", where=str(path)) from error
