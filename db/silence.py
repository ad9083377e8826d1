"""A server that no longer answers though its connection stands: it is frozen, or what is in between (a proxy, a tunnel)
goes on to take what is sent. No setting of TCP notices that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

if TYPE_CHECKING:
    import psycopg

_limit: ContextVar[float | None] = ContextVar("iosfarm_silence", default=None)


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Within it, a PostgreSQL server that lets one statement wait for longer is given up: the connection is closed, and
    the error is a `TransientDatabaseError`. For statements that are known to be short: without it, none has a limit.
    """
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)


def watch(engine: Engine) -> None:
    """Have an engine's connections respect `answer_within`. SQLite needs no answer from anybody."""
    if engine.dialect.name != "postgresql":
        return
    connection = _watched()

    def connect(_: object, __: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> psycopg.Connection[Any]:
        return connection.connect(*arguments, **named)

    event.listen(engine, "do_connect", connect)


def _watched() -> type[psycopg.Connection[Any]]:
    import psycopg
    from psycopg.errors import _WaitTimeout as SilentError

    class WatchedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            limit = _limit.get() if timeout is None else None
            if limit is None:
                return super().wait(gen, interval, timeout)
            try:
                return super().wait(gen, interval, limit)
            except SilentError as error:
                self.pgconn.finish()  # an answer that comes after all would be taken for that to the next question
                raise psycopg.OperationalError(f"the server has not answered for {limit:.0f} s") from error

    return WatchedConnection
