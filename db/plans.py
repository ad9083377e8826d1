"""Plans: which of several ways to compute something was the fastest, and when that was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select

from iosfarm.db import tables
from iosfarm.db.connection.dialect import upsert
from iosfarm.db.connection.handle import Handle
from iosfarm.db.query.filters import Conditions, device_is
from iosfarm.ir.device import canonical_json
from iosfarm.ir.plan import Plan, PlanScope

_p, _d = tables.plan.c, tables.device.c


@dataclass(frozen=True)
class FoundPlan:
    """A plan as it is kept."""

    scope: PlanScope
    plan: Plan
    found_at: datetime


class Plans(Handle):
    """The methods of `LatencyDatabase` about plans.

    There is one of each key in a scope. Unlike a measurement a plan is replaced: it is a choice, not a fact, and an
    older one that can no longer be followed would be chosen anew in every search.
    """

    def record_plans(self, scope: PlanScope, plans: Iterable[Plan], *, found_at: datetime | None = None) -> None:
        """Stores what was found, now unless `found_at` says when; what was found before then is replaced."""
        at = found_at or datetime.now(UTC)
        found = [FoundPlan(scope, plan, at) for plan in {plan.key: plan for plan in plans}.values()]
        with self._transaction(write=True) as connection:
            store(connection, found)

    def plans(self, scope: PlanScope) -> list[Plan]:
        """All that are known in a scope, by key."""
        statement = select(_p.key, _p.name, _p.seconds).where(_p.scope_key == scope.key).order_by(_p.key)
        with self._transaction(write=False) as connection:
            return [Plan(*row) for row in connection.execute(statement)]


def store(connection: Connection, found: Sequence[FoundPlan]) -> int:
    """Stores plans; returns how many were new or newer than what was there.

    Of two that were found at once the faster one stays: in whatever order databases are merged, all have the same in
    the end.
    """
    newest: dict[tuple[str, str], FoundPlan] = {}
    for each in sorted(found, key=lambda each: (each.found_at, -each.plan.seconds)):
        newest[each.scope.key, each.plan.key] = each
    if not newest:
        return 0
    statement = upsert(connection, tables.plan)
    new = statement.excluded
    newer = or_(new.found_at > _p.found_at, (new.found_at == _p.found_at) & (new.seconds < _p.seconds))
    replaced = {name: new[name] for name in ("name", "seconds", "found_at")}
    statement = statement.on_conflict_do_update(index_elements=["scope_key", "key"], set_=replaced, where=newer)
    # In one order everywhere: two processes that store the same plans wait for each other, and never in a circle.
    rows = [_row(each) for _, each in sorted(newest.items(), key=lambda item: item[0])]
    return len(connection.execute(statement.returning(_p.id), rows).all())


def meeting(conditions: Conditions) -> list[ColumnElement[bool]] | None:
    """Conditions on measurements as those on plans; None where some say nothing of plans, so that none meets them."""
    given: dict[str, Any] = {name: value for name, value in conditions.items() if value is not None}
    if given.keys() - {"device", "simulated", "since", "until"}:
        return None
    devices = [device_is(given["device"])] if "device" in given else []
    if "simulated" in given:
        devices.append(_d.simulated == given["simulated"])
    met: list[ColumnElement[bool]] = [_p.model.in_(select(_d.model).where(*devices))] if devices else []
    met += [_p.found_at >= given["since"]] if "since" in given else []
    met += [_p.found_at <= given["until"]] if "until" in given else []
    return met


def count(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    """How many meet all conditions."""
    return connection.execute(select(func.count()).select_from(tables.plan).where(*conditions)).scalar_one()


def remove(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    """Deletes those that meet all conditions; returns how many there were."""
    return len(connection.execute(delete(tables.plan).where(*conditions).returning(_p.id)).all())


def _row(found: FoundPlan) -> Mapping[str, Any]:
    return {
        "scope_key": found.scope.key,
        "model": found.scope.model,
        "facts": canonical_json(dict(found.scope.facts)),
        "key": found.plan.key,
        "name": found.plan.name,
        "seconds": found.plan.seconds,
        "found_at": found.found_at,
    }
