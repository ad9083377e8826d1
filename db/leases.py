"""The task methods of `LatencyDatabase`: stages waiting to be measured, and who measures them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection

from iosfarm.db import tasks
from iosfarm.db.tasks import ClaimedTask
from iosfarm.ir.device import Device
from iosfarm.ir.summary import StageSummary


class Leases(ABC):
    """A task is `free`, `claimed`, `done` or `failed`. A claim holds until it is given up or its lease expires.

    Time is the database's. owner: any text that no other process uses. Methods that change tasks return the ids
    they changed: one that is missing was lost to another owner, and what was done for it is to be dropped.
    """

    @abstractmethod
    def _transaction(self, *, write: bool) -> AbstractContextManager[Connection]: ...

    def add_tasks(self, stages: Sequence[StageSummary], device: Device, *, search_id: int | None = None) -> list[int]:
        """Adds a free task for each stage that has no open one (free or claimed) for this kind of device.

        Returns the new tasks' ids.
        """
        with self._transaction(write=True) as connection:
            return tasks.add(connection, stages, device.key, search_id)

    def claim(self, owner: str, n: int, lease_seconds: float, *, device: Device | None = None) -> list[ClaimedTask]:
        """Claims up to `n` free tasks, the oldest first, for this kind of device or for any.

        Leases that expired are freed before. No task is ever held by two owners.
        """
        with self._transaction(write=True) as connection:
            tasks.free_expired(connection)
        with self._transaction(write=True) as connection:
            return tasks.claim(connection, owner, n, lease_seconds, device.key if device else None)

    def heartbeat(self, ids: Iterable[int], owner: str, lease_seconds: float) -> list[int]:
        """Renews the leases that `owner` still holds."""
        with self._transaction(write=True) as connection:
            return tasks.update_owned(connection, ids, owner, {"lease_expires": tasks.lease_end(lease_seconds)})

    def release(self, ids: Iterable[int], owner: str) -> list[int]:
        """Gives claimed tasks back unfinished: they are free again."""
        with self._transaction(write=True) as connection:
            return tasks.update_owned(connection, ids, owner, tasks.UNCLAIMED)

    def finish(self, ids: Iterable[int], owner: str, *, failed: bool = False) -> list[int]:
        """Ends claimed tasks as `done`, or as `failed`. A late owner's call changes nothing."""
        state = tasks.FAILED if failed else tasks.DONE
        with self._transaction(write=True) as connection:
            return tasks.update_owned(connection, ids, owner, {"state": state, "lease_expires": None})
