"""`iosfarm compare`: other frameworks beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iosfarm.compare.document import NetworkRows

NETWORKS = ("inception_v3", "randwire", "nasnet_large", "squeezenet")
"""The paper's."""


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]…", help="Built-in networks, .onnx or .json files.", show_default="the paper's"),
    ] = None,
    frameworks: Annotated[
        str, typer.Option("--frameworks", "-f", metavar="NAMES", help="With commas between them, or all.")
    ] = "all",
    device: Annotated[str, typer.Option("--device", "-d", help="auto, cpu or cuda.")] = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Of every network.")] = 1,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, float16 or bfloat16.")] = "float32",
    db: Annotated[
        str | None,
        typer.Option("--db", help="Latency database, which has iosfarm's schedules.", show_default="the user's own"),
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", help="Of the search, where the database has no schedule: 90s, 10m.")
    ] = "2m",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where each run makes a new folder.")] = Path(
        "compared"
    ),
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that a framework may take to prepare a network.")
    ] = 600.0,
    seconds: Annotated[float, typer.Option("--seconds", help="Of timing, for each framework.")] = 6.0,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns that each framework has at least.")] = 5,
    trials: Annotated[int, typer.Option("--trials", min=1, help="That TVM may tune with.")] = 64,
    python: Annotated[
        list[str] | None,
        typer.Option(
            "--python", metavar="NAME=PATH", help="Run a framework in another interpreter.", show_default=False
        ),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile/--no-profile", help="Ask where the time goes.")] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random weights and inputs.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Time networks in other frameworks and in iosfarm: same weights, same inputs, same precision.

    Each framework runs in a process of its own; they take turns, and only one runs at a time. Outputs are checked
    against float64. A framework that is not installed, needs a GPU, crashes, hangs or computes something else has a
    row that says so. Writes comparison.json and comparison.md into a new folder.

    Example: iosfarm compare squeezenet --frameworks torch,onnxruntime,ios --device cpu
    """
    from iosfarm.cli.output import print_json, stderr_console
    from iosfarm.compare.comparing import compare, load_models
    from iosfarm.compare.registry import chosen
    from iosfarm.compare.settings import Settings, Watch
    from iosfarm.farm.api import open_executor, parsed_budget, resolve_device
    from iosfarm.farm.interrupt import graceful_interrupt
    from iosfarm.ir.errors import UsageError
    from iosfarm.reproduce.runs import new_folder

    for option, value in {"device": device, "db": db, "budget": budget}.items():
        if value == "":
            raise UsageError(f"an empty --{option}", hint="leave it out, or give it a value")
    wanted = [item.name for item in chosen([name.strip() for name in frameworks.split(",")])]
    parsed_budget(budget, "--budget")
    settings = Settings(
        timeout=timeout, seconds=seconds, rounds=rounds, budget=budget, trials=trials, profile=profile, seed=seed,
        pythons=_pythons(python or []),
    )  # fmt: skip
    networks = load_models(models or NETWORKS, batch_size, dtype)
    spec = resolve_device(device)
    with open_executor("inline") as executor:
        (info,) = executor.open(spec)
    if info.device.simulated or spec.startswith("replay:"):
        raise UsageError(f"frameworks do not run on {device}", hint="compare on a real device: cpu or cuda")
    folder = new_folder(out, spec)
    console = stderr_console()
    with console.status("comparing") as status, graceful_interrupt(lambda: console.print("stopping …")) as interrupt:

        def say(text: str) -> None:
            status.update(text)
            if not console.is_terminal and ": " in text and "samples" not in text:
                console.print(text, soft_wrap=True)

        def done(item: NetworkRows) -> None:
            if not as_json:
                _print(item)

        found = compare(
            networks, wanted, spec, info, folder, database=db, settings=settings,
            watch=Watch(say=say, stop=interrupt), done=done,
        )  # fmt: skip
    if as_json:
        print_json({**found.document(), "folder": str(folder)})
    else:
        typer.echo(f"wrote {folder}")
    if found.interrupted:
        console.print("interrupted: the rows so far are kept, and marked as partial", soft_wrap=True)
        raise typer.Exit(interrupt.exit_code)


def _print(item: NetworkRows) -> None:
    from iosfarm.cli.output import print_table
    from iosfarm.compare.document import COLUMNS

    print_table(COLUMNS, item.cells(), title=f"{item.network}, batch {item.batch}, {item.dtype}")
    if verdict := item.verdict():
        typer.echo(verdict)


def _pythons(given: list[str]) -> dict[str, str]:
    from iosfarm.compare.registry import chosen
    from iosfarm.ir.errors import UsageError

    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--python {text}", hint="write it as FRAMEWORK=/path/to/python")
        found |= {item.name: str(Path(path).expanduser().absolute()) for item in chosen([name])}
    return found
