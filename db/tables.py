"""The tables as this version of the program expects them. Migrations create them; a test compares the two.

Times are UTC; durations are seconds; JSON is canonical text, so that equal values are equal text in any SQL tool.
Rows of `schedule` and `schedule_stage` are never changed, those of `measurement` only in their status, when it turns
out that a device cannot be believed: a better measurement is a new row.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in an INTEGER column
DIGITS = 64
Digest = String(DIGITS)  # SHA-256 in hex

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. SQLite has no time zones: UTC is stored, and UTC is what comes back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


device = Table(
    "device",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("key", Digest, nullable=False),  # devices with one key share measurements
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("properties", Text, nullable=False),
    Column("instance", Text, nullable=False),  # which one it is: one row each
    UniqueConstraint("key", "instance"),
)

environment = Table(
    "environment",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("key", Digest, nullable=False, unique=True),
    Column("hard_key", Digest, nullable=False, index=True),
    Column("hard", Text, nullable=False),
    Column("soft", Text, nullable=False),
)

stage = Table(
    "stage",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("key", Digest, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("canonical", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("layout", Text, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("groups", Integer, nullable=False),
    Column("units", Integer, nullable=False),
    Column("flops", BigInteger, nullable=False),
    Column("bytes_moved", BigInteger, nullable=False),
    UniqueConstraint("key", postgresql_include=["id"]),  # what a look-up asks of a stage
)

stage_operator = Table(
    "stage_operator",
    metadata,
    Column("stage_id", BigId, ForeignKey("stage.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("in_channels", Integer),
    Column("out_channels", Integer),
    Column("height", Integer),
    Column("width", Integer),
    Column("kernel_height", Integer),
    Column("kernel_width", Integer),
    Column("stride", Integer),
    Index(None, "kind", "in_channels", "out_channels"),
    Index(None, "in_channels", "height", "width"),
)

run = Table(
    "run",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("outcome", Text, nullable=False),  # running, finished, interrupted, failed
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("updated", Double, nullable=False),  # seconds since 1970 by the database's clock
    Column("models", Text, nullable=False),
    Column("devices", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("stages", Integer, nullable=False),
    Column("measured", Integer, nullable=False),
    Column("found", Integer, nullable=False),
    Column("failed", Text, nullable=False),  # JSON: kind of failure to how many
    Column("busy", Double),
    Column("gap", Double),
    Column("note", Text, nullable=False),
)

search = Table(
    "search",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("model", Text, nullable=False, index=True),
    Column("settings", Text, nullable=False),
    Column("state", Text, nullable=False),  # running, finished, interrupted, failed
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("counts", Text),
    Column("run_id", BigId, ForeignKey("run.id"), index=True),
)

measurement = Table(
    "measurement",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("stage_id", BigId, ForeignKey("stage.id"), nullable=False),
    Column("device_id", BigId, ForeignKey("device.id"), nullable=False),
    Column("environment_id", BigId, ForeignKey("environment.id"), nullable=False),
    Column("search_id", BigId, ForeignKey("search.id"), index=True),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("median", Float),
    Column("mad", Float),
    Column("min", Float),
    Column("p90", Float),
    Column("n", Integer, nullable=False),
    Column("samples", Text, nullable=False),  # JSON: exact, and readable by any SQL tool
    Column("unroll", Integer, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("measured_at", UtcDateTime, nullable=False, index=True),
    Column("conditions", Text, nullable=False),
    Column("uid", String(32), nullable=False, server_default=""),  # see `iosfarm.db.identity`
    Index("uq_measurement_uid", "uid", unique=True),
    Index(None, "stage_id", "device_id", "environment_id"),  # what a look-up asks
    Index(None, "device_id", "measured_at"),
    Index(None, "median"),
)

# What went wrong is a small part: an index of nothing else.
_WRONG = text("status <> 'ok'")
Index(
    "ix_measurement_wrong",
    measurement.c.status,
    measurement.c.measured_at,
    sqlite_where=_WRONG,
    postgresql_where=_WRONG,
)

# Who is about to measure what. The key is what a measurement can be reused for.
lease = Table(
    "lease",
    metadata,
    Column("stage_key", Digest, primary_key=True),  # no foreign key: a stage is stored when it has been measured
    Column("device_key", Digest, primary_key=True),
    Column("environment_key", Digest, primary_key=True),  # of the hard fields
    Column("owner", Text, nullable=False, index=True),
    Column("expires", Double, nullable=False),  # seconds since 1970 by the database's clock
)

# Not measurements but choices that rest on them: there is one of each key in a scope, and a newer one replaces it.
plan = Table(
    "plan",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("scope_key", Digest, nullable=False),
    Column("model", Text, nullable=False),  # of the GPU
    Column("facts", Text, nullable=False),  # JSON: what else decides, such as the version of cuDNN
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("found_at", UtcDateTime, nullable=False),
    UniqueConstraint("scope_key", "key"),
)

schedule = Table(
    "schedule",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("search_id", BigId, ForeignKey("search.id"), index=True),
    Column("model", Text, nullable=False, index=True),
    Column("graph_hash", Text, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("device_id", BigId, ForeignKey("device.id"), nullable=False),
    Column("environment_id", BigId, ForeignKey("environment.id"), nullable=False),
    Column("predicted", Float, nullable=True),
    Column("measured", Float),
    Column("lower_bound", Float),
    Column("created_at", UtcDateTime, nullable=False),
    Column("document", Text, nullable=False),
)

schedule_stage = Table(
    "schedule_stage",
    metadata,
    Column("schedule_id", BigId, ForeignKey("schedule.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("part", Integer, nullable=False),
    Column("stage_key", Digest, nullable=False, index=True),  # no foreign key: a prediction needs no measured stage
    Column("strategy", Text, nullable=False),
    Column("predicted", Float, nullable=True),
    Column("measurement_id", BigId, ForeignKey("measurement.id"), index=True),
)
