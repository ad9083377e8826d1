"""`iosfarm doctor`: what this machine has, what is missing, what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from iosfarm.cli.checks import Check
from iosfarm.ir.errors import UsageError


def command(
    db: Annotated[
        str | None,
        typer.Option(
            "--db",
            metavar="URL",
            help="The latency database to reach; by default $IOSFARM_DB, else the one in your data directory.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tell what this machine has, what is missing and what to do.

    Exit code 0 when iosfarm can search on the CPU of this machine, 1 when something that it needs is broken.

    Example: iosfarm doctor
    """
    from iosfarm.cli.output import print_json, print_table

    results = examine(db)
    works = all(check.status == "ok" for check in results if check.required)
    if json:
        print_json({"cpu_path_works": works, "checks": [check.as_dict() for check in results]})
    else:
        print_table(("what", "status", "found", "what to do"), [check.row() for check in results])
        typer.echo("The CPU path works." if works else "The CPU path does not work: see the rows above.")
    if not works:
        raise typer.Exit(1)


def examine(database_url: str | None = None) -> list[Check]:
    """Every check of this machine, in the order of the report; a check that raises becomes a problem."""
    from iosfarm.cli.checks import cuda, storage, system

    checks: list[tuple[str, bool, Callable[[], Check]]] = [
        ("python", True, system.python),
        ("iosfarm", True, system.iosfarm),
        ("cores", True, system.cores),
        ("memory", True, system.memory),
        ("torch", True, system.torch),
        ("numba", True, system.numba),
        ("ray", True, system.ray),
        ("sqlite", True, storage.sqlite),
        ("data directory", True, lambda: storage.data_directory(database_url)),
        ("database", True, lambda: storage.database(database_url)),
        ("cuda driver", False, cuda.driver),
        ("cuda packages", False, cuda.packages),
        ("cuda", False, cuda.usable),
    ]
    return [_guarded(name, required, check, typed=database_url is not None) for name, required, check in checks]


def _guarded(name: str, required: bool, check: Callable[[], Check], *, typed: bool) -> Check:
    try:
        return check()
    except UsageError as error:
        if typed:  # what the user typed is wrong, not the machine
            raise
        return Check(name, "problem", f"IOSFARM_DB: {error.what}", error.hint, required)
    except Exception as error:  # a broken library can raise anything when it is imported
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(name, "problem", detail, "reinstall it: pip install --force-reinstall iosfarm", required)
