"""`iosfarm doctor`: what this machine has, what is missing, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Try the GPU itself: numbers, kernels, searches, baselines; up to 8 minutes.")
    ] = False,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="With --gpu: what to try.")] = "cuda",
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="With --gpu: where results and measurements go.")
    ] = Path("gpu-check"),
) -> None:
    """Tell what this machine has, what is missing and what to do.

    Exit code 0 when iosfarm can search on the CPU of this machine, 1 when something that it needs is broken. With
    --gpu: 0 when every section of the check came to its end, 1 when one did not.

    Example: iosfarm doctor --gpu
    """
    from iosfarm.cli.output import print_json, print_table

    if gpu:
        _try_gpu(device, out, json=json)
        return
    results = examine(db)
    works = all(check.status == "ok" for check in results if check.required)
    if json:
        print_json({"cpu_path_works": works, "checks": [check.as_dict() for check in results]})
    else:
        print_table(("what", "status", "found", "what to do"), [check.row() for check in results])
        typer.echo("The CPU path works." if works else "The CPU path does not work: see the rows above.")
    if not works:
        raise typer.Exit(1)


def _try_gpu(device: str, out: Path, *, json: bool) -> None:
    from iosfarm.cli.output import print_json
    from iosfarm.farm.gpu_check.check import run_check
    from iosfarm.kernels import open_runtime

    if not device.startswith("cuda"):
        open_runtime(device).close()
    else:
        from iosfarm.kernels.cuda.device.probe import check, look
        from iosfarm.kernels.cuda.options import parse_spec

        spec = parse_spec(device)
        check(look(), index=spec.index, cudnn=spec.provider == "cudnn", where=device)
    document = run_check(out, device=device, report=lambda line: typer.echo(line, err=True))
    if json:
        print_json(document)
    else:
        typer.echo(_dumped(document["summary"]))
        typer.echo(f"results in {out}/results.json, measurements in {out}/measurements.jsonl.gz")
    sections = document["sections"]
    assert isinstance(sections, dict)
    broken = [name for name, section in sections.items() if section.get("code") or "timed_out" in section]
    if broken:
        typer.echo(f"these sections did not come to their end: {', '.join(broken)}", err=True)
        raise typer.Exit(1)


def _dumped(value: object) -> str:
    import json

    return json.dumps(value, indent=2)


def examine(database_url: str | None = None) -> list[Check]:
    """Every check of this machine, in the order of the report; a check that raises becomes a problem."""
    from iosfarm.cli.checks import cuda, storage, system

    checks: list[tuple[str, bool, Callable[[], Check]]] = [
        ("python", True, system.python),
        ("iosfarm", True, system.iosfarm),
        ("cores", True, system.cores),
        ("memory", True, system.memory),
        ("torch", True, system.torch),
        ("convolutions", False, system.convolutions),
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
