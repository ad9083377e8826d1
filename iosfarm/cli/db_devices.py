"""`iosfarm db compare`, `coverage`, `verify`: devices, and what is known of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iosfarm.cli.db_options import Json, Url
from iosfarm.cli.db_query import device_name
from iosfarm.cli.output import print_json, print_table, stderr_console
from iosfarm.ir.errors import UsageError

if TYPE_CHECKING:
    from iosfarm.db import Coverage, LatencyDatabase
    from iosfarm.farm.executors.executor import DeviceInfo, Executor

_MOST_DRIFTED = 10


def compare(
    first: Annotated[str, typer.Argument(metavar="DEVICE_A", help="Model name, kind or key.")],
    second: Annotated[str, typer.Argument(metavar="DEVICE_B", help="Model name, kind or key.")],
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Compare two devices by the stages that both have measured, for each class of operators.

    A ratio is the second device's latency over the first one's: 0.5 means twice as fast.

    Example: iosfarm db compare "NVIDIA A100" "NVIDIA H200"
    """
    from iosfarm.db import LatencyDatabase

    with LatencyDatabase(db, readonly=True) as database:
        found = database.compare(first, second)
    if as_json:
        print_json(asdict(found))
        return
    names = [device_name(m, s) for m, s in zip((found.first, found.second), found.simulated, strict=True)]
    if found.all is None:
        print(f"{names[0]} and {names[1]} have measured no stage in common", file=sys.stderr)
        return
    columns = ("operators", "stages", "ratio", "p10", "p90")
    rows = [(c.operators, c.stages, c.median, c.p10, c.p90) for c in (*found.classes, found.all)]
    print_table(columns, rows, f"latency on {names[1]} over {names[0]}")


def coverage(
    models: Annotated[Path, typer.Option("--models", metavar="FILE", help="The zoo to look for.")] = Path("zoo.yaml"),
    device: Annotated[
        str | None, typer.Option(help="Instead of the file's devices: one of this machine, or one in the database.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals of transferred latencies.")] = 0.9,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Show what a zoo still lacks on a device, and the device time that measuring all of it would take.

    Latencies that the device has not measured are transferred from devices that have, for the forecast alone. A search
    with the default method measures a small share of the stages.

    Example: iosfarm db coverage --models zoo.yaml --device "NVIDIA H200"
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.executors.inline_executor import InlineExecutor
    from iosfarm.farm.jobs.job_search import JobSearch
    from iosfarm.farm.zoo_jobs import Overrides, zoo_jobs

    if not 0 < confidence < 1:
        raise UsageError(f"--confidence {confidence:g}", hint="give a number between 0 and 1, such as 0.9")
    executor = InlineExecutor()
    found: list[tuple[str, DeviceInfo, Coverage]] = []
    try:
        with LatencyDatabase(db, readonly=True) as database, stderr_console().status("enumerating") as progress:
            for job in zoo_jobs(models, Overrides(device=device)):
                progress.update(f"enumerating {job.label} for {job.device}")
                info = _described(executor, database, job.device)
                keys = list(JobSearch(job, info).keys())
                found.append(
                    (job.label, info, database.coverage(keys, info.device, info.environment, confidence=confidence))
                )
            name = database.name
    finally:
        executor.close()
    if as_json:
        rows = [
            {"model": label, "device": info.device.model, "simulated": info.device.simulated, **asdict(c)}
            for label, info, c in found
        ]
        print_json({"database": name, "coverage": rows})
        return
    columns = ("model", "device", "stages", "measured", "infeasible", "failed", "missing", "transferred", "device time")
    print_table(
        columns,
        [
            (
                label,
                device_name(info.device.model, info.device.simulated),
                c.stages,
                c.measured,
                c.infeasible,
                c.failed,
                c.missing,
                c.transferred,
                _forecast(c),
            )
            for label, info, c in found
        ],
    )


def verify(
    device: Annotated[str, typer.Option(help="A device of this machine: cpu, cuda, sim:v100.")] = "cpu",
    sample: Annotated[int, typer.Option(min=1, max=10_000, help="Stages to measure again.")] = 50,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Relative drift that is none.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 0,
    db: Url = None,
    as_json: Json = False,
) -> None:
    """Measure a random sample again, record it, and tell how far the device has drifted from what is remembered.

    Exit code 1 where the median stage has drifted by more than the tolerance.

    Example: iosfarm db verify --device cpu --sample 20
    """
    from iosfarm.db import LatencyDatabase
    from iosfarm.farm.executors.inline_executor import InlineExecutor
    from iosfarm.farm.verifying import verify as verify_device

    executor = InlineExecutor()
    try:
        LatencyDatabase(db, readonly=True).close()  # none is made where there is none
        with LatencyDatabase(db) as database, stderr_console().status(f"opening {device}") as progress:
            found = verify_device(
                database,
                executor,
                device,
                count=sample,
                tolerance=tolerance,
                seed=seed,
                report=lambda done, of: progress.update(f"measured {done} of {of} stages"),
            )
    finally:
        executor.close()
    if as_json:
        rows = [{**asdict(item), "ratio": item.ratio} for item in found.stages]
        print_json({**asdict(found), "stages": rows, "tolerance": tolerance, "within": found.within(tolerance)})
    else:
        name = device_name(found.device, found.simulated)
        drifted = [item for item in found.stages if item.drifted]
        if drifted:
            columns = ("stage", "recorded ms", "now ms", "ratio")
            rows_shown = [(i.stage, i.recorded * 1e3, i.measured * 1e3, i.ratio) for i in drifted[:_MOST_DRIFTED]]
            print_table(columns, rows_shown, f"{name}: {len(drifted)} of {len(found.stages)} stages have drifted")
        word = "nothing could be measured"
        if found.drift is not None:
            word = f"the median one takes {abs(found.drift):.1%} {'less' if found.drift < 0 else 'longer'}"
        print(f"{name}: {len(found.stages)} stages measured again, {found.failed} failed; {word}")
    if not found.within(tolerance):
        raise typer.Exit(1)


def _described(executor: Executor, database: LatencyDatabase, spec: str) -> DeviceInfo:
    """The device of this machine that is called so, else the one in the database."""
    from iosfarm.db import DatabaseError
    from iosfarm.farm.executors.executor import DeviceInfo

    try:
        return executor.open(spec)[0]
    except UsageError as error:
        try:
            known = database.device(spec)
        except DatabaseError as missing:
            what = f"{spec}: neither a device of this machine ({error.what}) nor one in the database ({missing.what})"
            raise UsageError(what, hint="`iosfarm doctor` and `iosfarm db stats` list those that there are") from error
        return DeviceInfo(spec, known.device, known.environment, known.layout)


def _forecast(found: Coverage) -> str | None:
    if found.missing == 0:
        return "none"
    if found.forecast is None:
        return None
    low, expected, high = (_duration(s) for s in (found.forecast.low, found.forecast.expected, found.forecast.high))
    return f"{expected} ({low} to {high})" if found.transferred else expected


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
