"""Plans that travel with tasks: what the database knows goes to each device, what devices find goes into the database.

A plan is which of several ways to compute something was the fastest, see `Planning`; finding out takes a GPU's time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from iosfarm.db import DatabaseError, LatencyDatabase
from iosfarm.farm.executors.executor import Change, DeviceInfo, Executor, Outcome, Task, Turn, Unopened
from iosfarm.ir.plan import Plan, PlanScope
from iosfarm.workers.failures import Failure


class SharingPlans:
    """An executor whose devices know the plans of all others of their scope, this search's and earlier ones'. For the
    rest it does what `executor` does, see `Executor`.

    A device is told with its next task what is new to it, and all of it again once its worker was replaced.
    """

    def __init__(self, executor: Executor, database: LatencyDatabase) -> None:
        self._executor = executor
        self._database = database
        self._books: dict[str, _Book] = {}  # by the scope's key
        self._scopes: dict[str, PlanScope] = {}  # by device
        self._read: dict[str, int] = {}  # by device: how much of its book it knows

    def open(self, selector: str) -> list[DeviceInfo]:
        """See `Executor`."""
        infos = self._executor.open(selector)
        for info in infos:
            self._meet(info)
        return infos

    def submit(self, device: str, task: Task) -> int:
        """See `Executor`."""
        if (scope := self._scopes.get(device)) is not None:
            book = self._book(scope)
            known = book.plans_after(self._read.get(device), device)
            self._read[device] = len(book)
            task = replace(task, plans=known)
        return self._executor.submit(device, task)

    def pending(self, device: str) -> int:
        """See `Executor`."""
        return self._executor.pending(device)

    def wait(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        return self._heard(self._executor.wait(timeout))

    def changes(self) -> list[Change | Unopened]:
        """See `Executor`."""
        changes = self._executor.changes()
        for change in changes:
            if isinstance(change, Unopened):
                continue
            if change.turn is Turn.JOINED:
                self._meet(change.info)
            self._read.pop(change.info.name, None)
        return changes

    def restart(self, device: str, failure: Failure, reason: str) -> None:
        """See `Executor`."""
        self._executor.restart(device, failure, reason)

    def drop(self, device: str) -> None:
        """See `Executor`."""
        self._executor.drop(device)

    def drain(self, timeout: float) -> list[Outcome]:
        """See `Executor`."""
        return self._heard(self._executor.drain(timeout))

    def close(self) -> None:
        """See `Executor`."""
        self._executor.close()

    def _meet(self, info: DeviceInfo) -> None:
        if info.plan_scope is not None:
            self._scopes[info.name] = info.plan_scope

    def _book(self, scope: PlanScope) -> _Book:
        if scope.key not in self._books:
            self._books[scope.key] = _Book(self._database.plans(scope))
        return self._books[scope.key]

    def _heard(self, outcomes: list[Outcome]) -> list[Outcome]:
        for outcome in outcomes:
            scope = self._scopes.get(outcome.device)
            if outcome.plans and scope is not None:
                book = self._book(scope)
                book.add(outcome.plans, outcome.device)
                # What was measured counts for more: should the database fail, it is to say so of that, and this waits.
                with suppress(DatabaseError):
                    self._database.record_plans(scope, book.unsaved)
                    book.unsaved = []
        return outcomes


class _Book:
    """Plans in the order in which they became known, each with the device that found it, if one of ours has."""

    def __init__(self, known: list[Plan]) -> None:
        self._entries = [(plan, "") for plan in known]
        self.unsaved: list[Plan] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, plans: tuple[Plan, ...], author: str) -> None:
        """What a device has found."""
        self._entries += [(plan, author) for plan in plans]
        self.unsaved += plans

    def plans_after(self, place: int | None, reader: str) -> tuple[Plan, ...]:
        """The newest of each key; after `place`, up to where the reader knows all, without what it found itself."""
        entries = self._entries if place is None else [e for e in self._entries[place:] if e[1] != reader]
        return tuple({plan.key: plan for plan, _ in entries}.values())
