"""`LatencyDatabase`: the contract of this room. The other modules implement it."""

from __future__ import annotations

from iosfarm.db import queries, statistics
from iosfarm.db.leases import Leases
from iosfarm.db.measurements import Measurements
from iosfarm.db.queries import QueryRow
from iosfarm.db.runs import Runs
from iosfarm.db.searches import Searches
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Status


class LatencyDatabase(Measurements, Leases, Searches, Runs):
    """What was measured, where and when; the searches that asked for it; the schedules they found.

    url: a file's path, `sqlite:///PATH`, `sqlite://` (in memory) or `postgresql://USER:PASSWORD@HOST/DATABASE`;
    by default $IOSFARM_DB, else the user's data directory. readonly: nothing is written or created. timeout:
    seconds to wait for another process's lock.

    A new or empty database is created. One of an older iosfarm opens, and every method but `migrate` says so in an
    error. Each method is one transaction: all of it is durable when the method returns, none of it when it raises.
    Recorded numbers are never changed. A handle may be shared by threads and pickled (not one in memory): the copy
    connects anew. It must not be used on both sides of a fork.

    Every method raises `DatabaseError`, one line without credentials: read-only, unwritable, damaged, not a database,
    another program's, newer than this program, no driver. Where waiting may mend it (locked for longer than `timeout`,
    full, no server, connection lost), it is a `TransientDatabaseError`.
    """

    def query(
        self,
        *,
        op: str | None = None,
        device: str | Device | None = None,
        environment: Environment | None = None,
        model: str | None = None,
        status: Status | str | None = None,
        strategy: str | None = None,
        dtype: str | None = None,
        layout: str | None = None,
        batch: int | None = None,
        simulated: bool | None = None,
        stage_key: str | None = None,
        search_id: int | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
        kernel: int | tuple[int, int] | None = None,
        stride: int | None = None,
        order_by: str = "measured_at",
        descending: bool = True,
        limit: int | None = None,
    ) -> list[QueryRow]:
        """The measurements that meet every given condition; those of stages without samples included.

        op, in_channels, out_channels, height, width, kernel and stride are met together by one operator of the
        stage. device: a `Device`, or a model's name, a kind (`cpu`, `cuda`, `sim:v100`) or a key. environment:
        same hard fields. model: measured in a search of the model, or used by one of its schedules. simulated:
        only what an analytic model said (True), or only what was measured (False).

        Raises:
            UsageError: unknown `order_by`, or a negative limit.
        """
        kernel_height, kernel_width = (kernel, kernel) if kernel is None or isinstance(kernel, int) else kernel
        equal = {
            "status": None if status is None else str(status),
            "strategy": strategy,
            "dtype": dtype,
            "layout": layout,
            "batch": batch,
            "simulated": simulated,
            "stage_key": stage_key,
            "search_id": search_id,
        }
        operator = {
            "kind": op,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "height": height,
            "width": width,
            "kernel_height": kernel_height,
            "kernel_width": kernel_width,
            "stride": stride,
        }
        with self._transaction(write=False) as connection:
            return queries.query(
                connection,
                equal=equal,
                operator=operator,
                device=device,
                environment_hard_key=environment.hard_key if environment else None,
                model=model,
                order_by=order_by,
                descending=descending,
                limit=limit,
            )

    def stats(self) -> statistics.DatabaseStatistics:
        """How much is in the database, and of which devices."""
        with self._transaction(write=False) as connection:
            return statistics.statistics(connection, self.name, self.schema_version)
