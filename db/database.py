"""`LatencyDatabase`: the contract of this room. The other modules implement it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from iosfarm.db import dialect, measurements, queries, schema, searches, statistics
from iosfarm.db.errors import DatabaseError, translated
from iosfarm.db.leases import Leases
from iosfarm.db.location import check_file, locate
from iosfarm.db.measurements import Recorded
from iosfarm.db.queries import QueryRow
from iosfarm.db.searches import ScheduledStageRow, ScheduleRow, SearchRow, SearchState
from iosfarm.ir.device import Device, Environment
from iosfarm.ir.measurement import Measurement, Status
from iosfarm.ir.summary import StageSummary


class LatencyDatabase(Leases):
    """What was measured, where and when; the searches that asked for it; the schedules they found.

    url: a file's path, `sqlite:///PATH`, `sqlite://` (in memory) or `postgresql://USER:PASSWORD@HOST/DATABASE`;
    by default $IOSFARM_DB, else the user's data directory. readonly: nothing is written or created. timeout:
    seconds to wait for another process's lock.

    A new or empty database is created. One of an older iosfarm opens, and every method but `migrate` says so in an
    error. Each method is one transaction: all of it is durable when the method returns, none of it when it raises.
    Recorded rows are never changed. A handle may be shared by threads and pickled (not one in memory): the copy
    connects anew. It must not be used on both sides of a fork.

    Every method raises `DatabaseError`, one line without credentials: locked for longer than `timeout`, read-only,
    unwritable, full, damaged, not a database, another program's, newer than this program, no driver, no server.
    """

    def __init__(self, url: str | None = None, *, readonly: bool = False, timeout: float = 10.0) -> None:
        self._location = locate(url)
        self.readonly = readonly
        self.timeout = timeout
        self._open()

    def _open(self) -> None:
        self._engine: Engine | None = None
        self._outdated: DatabaseError | None = None
        check_file(self._location, readonly=self.readonly)
        engine = dialect.make_engine(self._location, readonly=self.readonly, timeout=self.timeout)
        try:
            with translated(self.name):
                with dialect.transaction(engine, write=False) as connection:
                    found = schema.revision(connection, self.name)
                self._found = found or ""
                if found is None and not self.readonly:
                    schema.migrate(engine, self.name, self.timeout)
                    found = schema.HEAD
            self._schema_version = found or ""
            schema.check(found, self.name)
        except schema.OutdatedDatabaseError as error:
            self._outdated = error
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine

    @property
    def name(self) -> str:
        """What messages call the database: the file's path, or the URL without password and parameters."""
        return self._location.name

    @property
    def schema_version(self) -> str:
        """The schema's revision as it was when the database was opened or migrated by this handle."""
        return self._schema_version

    def migrate(self) -> tuple[str, str]:
        """Brings the database to this program's schema.

        Returns the revision that this handle found (empty for a database that it created) and the one there is now.
        """
        if self.readonly:
            raise DatabaseError("opened read-only: cannot migrate", where=self.name)
        with translated(self.name):
            schema.migrate(self._connected(), self.name, self.timeout)
        before, self._found = self._found, schema.HEAD
        self._schema_version, self._outdated = schema.HEAD, None
        return before, schema.HEAD

    def close(self) -> None:
        """Gives the connections back. The handle cannot be used afterwards; closing twice is allowed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def lookup(self, keys: Iterable[str], device: Device, environment: Environment) -> dict[str, Recorded]:
        """The newest usable measurement (`ok` or `infeasible`) of each stage key; keys without one are left out.

        Reuse needs the same stage key, the same `Device.key` and the same `Environment.hard_key`. Soft differences
        are told in `Recorded.soft_differences`. Meant for many keys at once (10,000 take some tenths of a second).
        """
        with self._transaction(write=False) as connection:
            return measurements.lookup(connection, keys, device, environment, self.name)

    def record(
        self,
        items: Sequence[tuple[StageSummary, Measurement]],
        device: Device,
        environment: Environment,
        *,
        search_id: int | None = None,
    ) -> list[int]:
        """Stores measurements of one device and environment; returns their ids in the order of `items`.

        Stages, device and environment that are new are stored with them; several processes may do so at once.

        Raises:
            ValueError: a measurement is of another stage than its summary, has a sample that is not finite, or a
                time without a zone. Nothing is stored.
        """
        for summary, measurement in items:
            if summary.key != measurement.stage_key:
                raise ValueError(f"a measurement of stage {measurement.stage_key} with summary {summary.key}")
        encoded = [(summary, measurements.encode(measurement)) for summary, measurement in items]
        if not encoded:
            return []
        with self._transaction(write=True) as connection:
            return measurements.record(connection, encoded, device, environment, search_id)

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

    def start_search(self, model: str, settings: Mapping[str, Any]) -> int:
        """Stores that a search of `model` begins; returns its id. settings: whatever JSON can hold."""
        with self._transaction(write=True) as connection:
            return searches.start(connection, model, settings)

    def finish_search(self, search_id: int, state: SearchState | str, counts: Mapping[str, Any]) -> None:
        """Stores how a search ended: `finished`, `interrupted` or `failed`, and what it counted.

        Raises:
            DatabaseError: there is no such search, or it has ended before.
            ValueError: `state` is none of the three.
        """
        ended = SearchState(state)
        if ended is SearchState.RUNNING:
            raise ValueError("a search that ends is not running")
        with self._transaction(write=True) as connection:
            searches.finish(connection, search_id, ended, counts, self.name)

    def searches(self, *, model: str | None = None, limit: int | None = None) -> list[SearchRow]:
        """Searches, the newest first."""
        with self._transaction(write=False) as connection:
            return searches.searches(connection, model, limit)

    def record_schedule(
        self,
        *,
        search_id: int | None,
        model: str,
        graph_hash: str,
        batch: int,
        dtype: str,
        device: Device,
        environment: Environment,
        predicted: float | None,
        measured: float | None,
        lower_bound: float | None,
        document: str,
        stages: Sequence[ScheduledStageRow],
    ) -> int:
        """Stores a schedule, latencies in seconds; returns its id. document: the schedule file's JSON text."""
        values = {
            "search_id": search_id,
            "model": model,
            "graph_hash": graph_hash,
            "batch": batch,
            "dtype": dtype,
            "predicted": predicted,
            "measured": measured,
            "lower_bound": lower_bound,
            "document": document,
        }
        with self._transaction(write=True) as connection:
            return searches.record_schedule(connection, values, device, environment, stages)

    def schedules(
        self,
        *,
        model: str | None = None,
        graph_hash: str | None = None,
        batch: int | None = None,
        dtype: str | None = None,
        device: str | Device | None = None,
        simulated: bool | None = None,
        search_id: int | None = None,
        limit: int | None = None,
    ) -> list[ScheduleRow]:
        """Schedules that meet every given condition, the newest first. device: as in `query`."""
        filters = {
            "model": model,
            "graph_hash": graph_hash,
            "batch": batch,
            "dtype": dtype,
            "search_id": search_id,
            "simulated": simulated,
        }
        with self._transaction(write=False) as connection:
            return searches.schedules(connection, filters, device, limit)

    def _connected(self) -> Engine:
        if self._engine is None:
            raise DatabaseError("this handle is closed", where=self.name)
        return self._engine

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        engine = self._connected()
        if self._outdated is not None:
            raise self._outdated
        if write and self.readonly:
            raise DatabaseError("opened read-only: nothing can be recorded", where=self.name)
        with translated(self.name), dialect.transaction(engine, write=write) as connection:
            yield connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LatencyDatabase {self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        if self._location.path is None and self._location.url.get_backend_name() == "sqlite":
            raise DatabaseError("a database in memory cannot be sent to another process", hint="use a file")
        return {"location": self._location, "readonly": self.readonly, "timeout": self.timeout}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._location = state["location"]
        self.readonly = state["readonly"]
        self.timeout = state["timeout"]
        self._open()
