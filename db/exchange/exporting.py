"""A database as a stream of lines, see `iosfarm.db.exchange.portable`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, func, select

from iosfarm.db import tables
from iosfarm.db.connection.handle import Handle
from iosfarm.db.query.filters import Conditions, Selection, select_by
from iosfarm.db.query.queries import stage_operators
from iosfarm.ir.summary import StageSummary

STAGES = 2000
"""Stages of one transaction: a long one would keep a file's log from being tidied up."""

_STAGE = [f.name for f in fields(StageSummary) if f.name != "operators"]
_MEASUREMENT = ("status", "reason", "unroll", "rounds", "worker", "attempt", "measured_at")
_Line = dict[str, Any]


def lines_of(handle: Handle, conditions: Conditions, report: Callable[[int], None] = lambda _: None) -> Iterator[_Line]:
    """All lines but the header and the end. With conditions: measurements alone, without their searches.

    report: told now and then how many measurements there have been.
    """
    whole = not any(value is not None for value in conditions.values())
    with handle._transaction(write=False) as connection:
        # What is recorded from now on is left out, so that the export comes to an end.
        last = connection.scalar(select(func.max(tables.measurement.c.id))) or 0
        last_stage = connection.scalar(select(func.max(tables.stage.c.id))) or 0
        last_schedule = connection.scalar(select(func.max(tables.schedule.c.id))) or 0
        selection = select_by(connection, conditions)
        first = [*_devices(connection), *_environments(connection)]
        if whole:
            first += [*_runs(connection), *_searches(connection), *_plans(connection)]
    yield from first
    done, after = 0, 0
    while after < last_stage:
        with handle._transaction(write=False) as connection:
            chunk, after = _stages(connection, selection, after, last_stage, last, whole)
        yield from chunk
        done += sum(line["type"] == "measurement" for line in chunk)
        report(done)
    number = 0
    while whole and number < last_schedule:
        with handle._transaction(write=False) as connection:
            schedules, number = _schedules(connection, number, last_schedule)
        yield from schedules


def _devices(connection: Connection) -> list[_Line]:
    return [
        {
            "type": "device",
            "device": row.id,
            "kind": row.kind,
            "model": row.model,
            "properties": json.loads(row.properties),
            "instance": json.loads(row.instance),
        }
        for row in connection.execute(select(tables.device).order_by(tables.device.c.id))
    ]


def _environments(connection: Connection) -> list[_Line]:
    rows = connection.execute(select(tables.environment).order_by(tables.environment.c.id))
    return [
        {"type": "environment", "environment": r.id, "hard": json.loads(r.hard), "soft": json.loads(r.soft)}
        for r in rows
    ]


def _runs(connection: Connection) -> list[_Line]:
    found = []
    for row in connection.execute(select(tables.run).order_by(tables.run.c.id)).mappings():
        values = dict(row)
        decoded = {name: json.loads(values[name]) for name in ("models", "devices", "settings", "failed")}
        found.append({"type": "run", "run": values.pop("id"), **values, **decoded})
    return found


def _searches(connection: Connection) -> list[_Line]:
    return [
        {
            "type": "search",
            "search": row.id,
            "run": row.run_id,
            "model": row.model,
            "settings": json.loads(row.settings),
            "state": row.state,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "counts": json.loads(row.counts) if row.counts else None,
        }
        for row in connection.execute(select(tables.search).order_by(tables.search.c.id))
    ]


def _plans(connection: Connection) -> list[_Line]:
    names = ("model", "key", "name", "seconds", "found_at")
    return [
        {"type": "plan", "facts": json.loads(row.facts), **{name: getattr(row, name) for name in names}}
        for row in connection.execute(select(tables.plan).order_by(tables.plan.c.id))
    ]


def _stages(
    connection: Connection, selection: Selection, after: int, last_stage: int, last: int, whole: bool
) -> tuple[list[_Line], int]:
    """Stages after a number, each with its measurements, and the number to go on after."""
    stage, measured = tables.stage.c, tables.measurement.c
    stages = select(tables.stage).where(stage.id > after, stage.id <= last_stage).order_by(stage.id).limit(STAGES)
    found = {row.id: row for row in connection.execute(stages)}
    if not found:
        return [], last_stage
    end = max(found)
    within = (measured.stage_id > after, measured.stage_id <= end, measured.id <= last)
    rows = select(tables.measurement).where(*within, *selection.checked()).order_by(measured.stage_id, measured.id)
    by_stage: dict[int, list[_Line]] = {}
    for row in connection.execute(rows):
        by_stage.setdefault(row.stage_id, []).append(
            {
                "type": "measurement",
                "stage": found[row.stage_id].key,
                "device": row.device_id,
                "environment": row.environment_id,
                "search": row.search_id if whole else None,
                "samples": json.loads(row.samples),
                "conditions": json.loads(row.conditions),
                **{name: getattr(row, name) for name in _MEASUREMENT},
            }
        )
    operators = stage_operators(connection, set(by_stage))
    lines: list[_Line] = []
    for number, measurements in by_stage.items():
        entries = [{k: v for k, v in vars(o).items() if v is not None} for o in operators[number]]
        columns = {name: getattr(found[number], name) for name in _STAGE}
        lines.append({"type": "stage", **columns, "operators": entries})
        lines += measurements
    return lines, end


def _schedules(connection: Connection, after: int, last: int) -> tuple[list[_Line], int]:
    """A hundred schedules after a number, and the number to go on after."""
    schedule, part, measured = tables.schedule.c, tables.schedule_stage, tables.measurement.c
    statement = select(tables.schedule).where(schedule.id > after, schedule.id <= last)
    found = connection.execute(statement.order_by(schedule.id).limit(100)).mappings().all()
    lines = []
    for row in found:
        values = dict(row)
        number = values.pop("id")
        parts = (
            select(part, measured.uid)
            .outerjoin(tables.measurement, measured.id == part.c.measurement_id)
            .where(part.c.schedule_id == number)
            .order_by(part.c.position)
        )
        stages = [
            {
                "position": p.position,
                "part": p.part,
                "stage_key": p.stage_key,
                "strategy": p.strategy,
                "predicted": p.predicted,
                "measurement": p.uid,
            }
            for p in connection.execute(parts)
        ]
        refers = {name: values.pop(f"{name}_id") for name in ("search", "device", "environment")}
        lines.append({"type": "schedule", **refers, **values, "stages": stages})
    return lines, found[-1]["id"] if found else last
