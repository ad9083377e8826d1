"""`iosfarm reproduce`: the IOS paper's figures and tables, made again beside the paper's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iosfarm.reproduce.result import Result
    from iosfarm.reproduce.runs import Run

app = typer.Typer(
    help="Make the IOS paper's figures and tables again, on any device, beside the paper's own.",
    epilog="Example: iosfarm reproduce schedules --device sim:v100",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NAMES = {
    "trend": "Operators of networks against the peak of devices (no device needed).",
    "example": "The motivating example under three schedules.",
    "table1": "Size of the search space of each network's largest block, without pruning (no device needed).",
    "table2": "Units of each network: what the scheduler places, the paper's operators (no device needed).",
    "complexity": "Chains side by side, where the bound on transitions is reached (no device needed).",
    "schedules": "Sequential, greedy, IOS-Merge, IOS-Parallel and IOS-Both on the four networks.",
    "search-cost": "What the searches for the four networks cost.",
    "frameworks": "Other frameworks beside IOS-Both on the four networks.",
    "utilisation": "How much of the device is in use over time, sequential against IOS.",
    "pruning": "Limits on groups: latency against the cost of the search.",
    "specialisation": "Optimised for against executed on: batch sizes and devices.",
    "last-block": "The last block of Inception V3 for batch 1 and batch 32, drawn.",
    "batch-sizes": "Inception V3 for batches of 1 to 128.",
    "intra-inter": "Parallelism inside of operators against parallelism between them.",
    "blocks": "Speed-ups of the blocks of Inception V3, one by one.",
    "resnet-vgg": "ResNets and VGG-16, with next to nothing to gain.",
    "part-sizes": "Search space of a random network of 320 units by the size of its parts (no device needed).",
    "random-320": "Latency of a random network of 320 units.",
    "all": "Every figure and table; they share what is measured.",
}

Device = Annotated[
    str, typer.Option("--device", metavar="SPEC", help="Device: auto, cpu, cuda, sim:v100, sim:k80, …, replay:SOURCE.")
]
Database = Annotated[str | None, typer.Option("--db", metavar="URL", help="Latency database: URL or SQLite file.")]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Where each run makes a new folder for its JSON documents and plots."),
]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="B", help='Of each search: a time such as 10m, or "500 stages".')
]
Graphs = Annotated[
    Path | None,
    typer.Option(
        "--randwire-graphs",
        metavar="DIR",
        help="Folder with the edge lists (*.txt, in name order) of RandWire's four graphs.",
        show_default="the zoo's own, which are not the paper's",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _add(name: str, summary: str) -> None:
    def command(
        device: Device = "auto",
        db: Database = None,
        out: Out = Path("reproduced"),
        budget: Budget = None,
        randwire_graphs: Graphs = None,
        as_json: Json = False,
    ) -> None:
        _run(name, device, db, out, budget, randwire_graphs, as_json)

    more = (
        "Prints a table and writes a JSON document and a plot (PNG, SVG) into a new folder of --out. What was measured "
        "stays in the latency database: an interrupted run goes on from there, and the same again costs little."
    )
    on = " --device sim:v100" if "no device" not in summary else ""
    command.__doc__ = f"{summary}\n\n{more}\n\nExample: iosfarm reproduce {name}{on}"
    app.command(name, short_help=summary)(command)


for _name, _text in NAMES.items():
    _add(_name, _text)


@app.command("page", short_help="Take over the results of runs into docs/results.md.")
def page(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER…", help="Folders that runs have written.")],
    target: Annotated[
        Path, typer.Option("--write", metavar="FILE", help="The page; documents and plots go into a folder beside it.")
    ] = Path("docs/results.md"),
    summary: Annotated[
        Path | None,
        typer.Option("--summary", metavar="FILE", help="Also write the four networks' latencies into this text."),
    ] = None,
) -> None:
    """Write a page with the tables and plots of every device, from results of the other commands.

    Example: iosfarm reproduce page reproduced/sim-v100-001 --summary README.md
    """
    from iosfarm.reproduce.page import stored, summarise, update

    kept = update(folders, target)
    if summary is not None:
        summarise([result for _, result in stored(target)], summary, target)
    for path in kept:
        typer.echo(f"{path}: left out, because a complete one is there", err=True)
    typer.echo(f"wrote {target}")


def _run(
    name: str, device: str, db: str | None, out: Path, budget: str | None, graphs: Path | None, as_json: bool
) -> None:
    from iosfarm.cli.output import print_json, stderr_console
    from iosfarm.cli.progress import ProgressDisplay
    from iosfarm.farm.api import parsed_budget, resolve_device
    from iosfarm.farm.interrupt import graceful_interrupt
    from iosfarm.ir.errors import UsageError
    from iosfarm.reproduce import plots
    from iosfarm.reproduce.figures import FIGURES
    from iosfarm.reproduce.lab import Lab
    from iosfarm.reproduce.runs import new_folder, run_figures
    from iosfarm.search.budget import Budget as Allowed

    for option, value in {"device": device, "db": db, "budget": budget}.items():
        if value == "":
            raise UsageError(f"an empty --{option}", hint="leave it out, or give it a value")
    allowed = parsed_budget(budget, "--budget") if budget else Allowed()
    spec = resolve_device(device)
    names = list(FIGURES) if name == "all" else [name]
    console = stderr_console()
    if not plots.available():
        console.print(plots.HINT, soft_wrap=True)
    with ProgressDisplay(console) as display, graceful_interrupt(display.stopping) as interrupt:
        lab = Lab(spec, db, allowed, graphs, report=display.update, finished=display.finished, stop=interrupt)
        if any(FIGURES[figure].needs_device for figure in names):
            lab.info()  # an error of it leaves no empty folder
        folder = new_folder(out, spec if any(FIGURES[figure].needs_device for figure in names) else name)
        run = run_figures(
            names,
            lab,
            folder,
            plot=plots.available(),
            begin=lambda figure: console.print(f"{figure.name}: {figure.title}", soft_wrap=True),
        )
    if as_json:
        print_json(_documents(name, run))
    else:
        for result in run.results:
            _print(result)
        if name == "all":
            _summary(run)
        typer.echo(f"wrote {folder}")
    if run.interrupted and interrupt.heeded:
        line = "interrupted: what was measured is in the database; the same command goes on from there"
        console.print(line, soft_wrap=True)
        raise typer.Exit(interrupt.exit_code)


def _documents(name: str, run: Run) -> object:
    results = [result.model_dump(mode="json") for result in run.results]
    if name != "all":
        return results[0] if results else run.index()
    return {**run.index(), "folder": str(run.folder), "results": results}


def _print(result: Result) -> None:
    from iosfarm.cli.output import print_table
    from iosfarm.reproduce.plots import caption
    from iosfarm.reproduce.result import cell, heading

    if result.rows:
        columns = result.shown()
        print_table(
            [heading(column) for column in columns],
            [[cell(column, row[column.key]) for column in columns] for row in result.rows],
            title=caption(result),
        )
    else:
        typer.echo(caption(result))
    for note in result.notes:
        typer.echo(note)
    if result.reason:
        typer.echo(f"{result.status}: {result.reason}")


def _summary(run: Run) -> None:
    from iosfarm.cli.output import print_table

    rows = [[r.figure, len(r.rows), f"{r.seconds:.1f}", str(r.status), r.reason] for r in run.results]
    rows += [[name, 0, "-", "not begun", "the run was interrupted"] for name in run.left]
    print_table(("figure", "rows", "seconds", "status", "why"), rows, title="all")
