"""A server that no longer answers though its connection stands: it is frozen, or what is in between (a proxy, a tunnel)
goes on to take what is sent. No setting of TCP notices that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

if TYPE_CHECKING:
    import psycopg


def watch(engine: Engine, limit: Callable[[], float | None]) -> None:
    """Have a PostgreSQL server given up that lets one statement wait for longer than `limit` (seconds; None: for ever):
    the connection is closed, and the error is one that a later call may not meet. SQLite needs no answer from anybody.
    """
    if engine.dialect.name != "postgresql":
        return
    connection = _watched(limit)

    def connect(_: object, __: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> psycopg.Connection[Any]:
        return connection.connect(*arguments, **named)

    event.listen(engine, "do_connect", connect)


def _watched(limit: Callable[[], float | None]) -> type[psycopg.Connection[Any]]:
    import psycopg
    from psycopg.errors import _WaitTimeout as SilentError

    class WatchedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            seconds = limit() if timeout is None else None
            if seconds is None:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, seconds)
            except SilentError as error:
                self.pgconn.finish()  # an answer that comes after all would be taken for that to the next question
                raise psycopg.OperationalError(f"the server has not answered for {seconds:.0f} s") from error

    return WatchedConnection
