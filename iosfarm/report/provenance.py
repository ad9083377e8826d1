"""Where a schedule's numbers are from: device, environment, settings and counts, as names and values for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iosfarm.db import RunRow
from iosfarm.farm.schedules.schedule_format import ScheduleFile
from iosfarm.ir.device import Fact
from iosfarm.report.contents import RunReport

Facts = Mapping[str, Fact]


def of_schedule(content: ScheduleFile, where: str) -> Mapping[str, Facts]:
    """Groups of facts, in the order in which they are read."""
    device, settings, counts = content.device, content.settings, content.counts
    return {
        "schedule": {
            "file": where,
            "found": _time(content.created.isoformat()),
            "iosfarm": content.iosfarm,
            "model": content.model,
            "graph": content.graph_hash[:12],
            "batch": content.batch,
            "dtype": content.dtype,
            "layout": content.layout,
            "chosen": content.chosen,
            "numbers": "simulated: an analytic model of the device" if device.simulated else "measured on the device",
        },
        "device": {"model": device.model, "name": device.spec, "kind": device.kind, **device.properties},
        "environment": {**device.environment, **device.environment_soft},
        "search": {
            name: ", ".join(value) if isinstance(value, list) else value
            for name, value in settings.model_dump().items()
            if value is not None
        }
        | {"took": f"{content.seconds:.1f} s", "ended": "interrupted" if content.interrupted else "by itself"},
        "stages": {
            "in the search space": counts.stages,
            "found in the database": counts.found,
            "measured": counts.measured,
            "checked again": counts.checked,
            "infeasible": counts.infeasible,
            "failed": counts.failed,
            "rounds": counts.rounds,
        },
    }


def of_run(run: RunRow, without: Sequence[str]) -> RunReport:
    """What the database says of a run. without: its searches that have no schedule, in words."""
    summary = run.summary
    facts: dict[str, Fact | None] = {
        "outcome": run.outcome.value,
        "began": _time(run.started_at.isoformat()),
        "ended": _time(run.finished_at.isoformat()) if run.finished_at else None,
        "models": ", ".join(run.models),
        "devices": ", ".join(run.devices),
        "host": run.host,
        "iosfarm": run.version,
        "stages": summary.stages,
        "found": summary.found,
        "measured": summary.measured,
        "failed": ", ".join(f"{count} {kind}" for kind, count in summary.failed.items()) or "none",
        "devices busy": None if summary.busy is None else f"{summary.busy:.0%}",
        "largest gap": None if summary.gap is None else f"{summary.gap:.2%}",
    }
    return RunReport(
        run.id, {name: value for name, value in facts.items() if value is not None}, run.note, tuple(without)
    )


def _time(iso: str) -> str:
    return f"{iso[:10]} {iso[11:19]} UTC"
