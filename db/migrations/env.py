"""Run by alembic: in the transaction that `connection/schema.py` began, or on a developer's database."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection

from iosfarm.db.connection.dialect import make_engine, transaction
from iosfarm.db.connection.location import locate
from iosfarm.db.connection.schema import VERSION_TABLE
from iosfarm.db.tables import UtcDateTime, metadata


def render(kind: str, item: Any, autogenerating: Any) -> str | Literal[False]:
    """A migration must not change with the program: it names plain types only."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,  # SQLite can, once the driver does not begin and commit on its own
        render_item=render,
        render_as_batch=True,  # SQLite alters a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    raise SystemExit("migrations look at the database: --sql is not supported")
if given is not None:
    run(given)
else:  # `alembic -c db/alembic.ini …`: $IOSFARM_DB or the default database
    with transaction(make_engine(locate(None), readonly=False, timeout=10.0), write=True) as own:
        run(own)
