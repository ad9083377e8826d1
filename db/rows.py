"""Rows that others refer to: devices, environments, stages. Each is stored once, by whoever needs it first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter

from sqlalchemy import Connection, select

from iosfarm.db import tables
from iosfarm.db.bulk import insert_keyed, insert_rows
from iosfarm.db.connection.dialect import insert_or_ignore, texts
from iosfarm.ir.device import Device, Environment, canonical_json
from iosfarm.ir.summary import OperatorSummary, StageSummary


def device_row(connection: Connection, device: Device) -> int:
    """Id of the device's row, inserted if missing."""
    return device_rows(connection, [device])[0]


def device_rows(connection: Connection, devices: Sequence[Device]) -> list[int]:
    """Ids of the devices' rows, inserted where missing; in two statements, however many there are."""
    columns = tables.device.c
    places = [(device.key, canonical_json(dict(device.instance))) for device in devices]
    wanted = texts(connection, sorted({key for key, _ in places}))
    find = select(columns.id, columns.key, columns.instance).where(columns.key.in_(select(wanted)))
    found = {(row.key, row.instance): row.id for row in connection.execute(find)}
    missing = {place: device for place, device in zip(places, devices, strict=True) if place not in found}
    if missing:
        values = [
            {
                "key": key,
                "kind": device.kind,
                "model": device.model,
                "simulated": device.simulated,
                "properties": canonical_json(dict(device.properties)),
                "instance": instance,
            }
            for (key, instance), device in sorted(missing.items(), key=lambda item: item[0])
        ]
        connection.execute(insert_or_ignore(connection, tables.device), values)
        found = {(row.key, row.instance): row.id for row in connection.execute(find)}
    return [found[place] for place in places]


def environment_row(connection: Connection, environment: Environment) -> int:
    """Id of the environment's row, inserted if missing."""
    columns = tables.environment.c
    find = select(columns.id).where(columns.key == environment.key)
    found: int | None = connection.scalar(find)
    if found is None:
        values = {
            "key": environment.key,
            "hard_key": environment.hard_key,
            "hard": canonical_json(dict(environment.hard)),
            "soft": canonical_json(dict(environment.soft)),
        }
        connection.execute(insert_or_ignore(connection, tables.environment), values)
        found = connection.execute(find).scalar_one()
    return found


def stage_rows(connection: Connection, summaries: Iterable[StageSummary]) -> dict[str, int]:
    """Ids of the stages' rows by key, inserted with their operators where missing."""
    wanted = {summary.key: summary for summary in summaries}
    ids = stage_ids(connection, list(wanted))
    # In one order everywhere: two processes that insert the same rows wait for each other, and never in a circle.
    missing = sorted(wanted.keys() - ids.keys())
    if not missing:
        return ids
    new = insert_keyed(connection, tables.stage, _STAGE, [_stage_values(wanted[key]) for key in missing])
    new |= stage_ids(connection, [key for key in missing if key not in new])
    operators = [
        (new[key], position, *_operator_values(operator))
        for key in missing
        for position, operator in enumerate(wanted[key].operators)
    ]
    insert_rows(connection, tables.stage_operator, ("stage_id", "position", *_OPERATOR), operators)
    return ids | new


def stage_ids(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """Ids of the stages that are stored, by key."""
    if not keys:
        return {}
    columns, wanted = tables.stage.c, texts(connection, keys)
    rows = connection.execute(select(columns.key, columns.id).where(columns.key == wanted))
    return {row.key: row.id for row in rows}


_STAGE = tuple(f.name for f in fields(StageSummary) if f.name != "operators")
_OPERATOR = tuple(f.name for f in fields(OperatorSummary))
_stage_values, _operator_values = attrgetter(*_STAGE), attrgetter(*_OPERATOR)
