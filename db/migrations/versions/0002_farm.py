"""Leases on named stages, runs, and an identity for every measurement.

Revision ID: 0002
Revises: 0001
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from iosfarm.db.identity import measurement_uid

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state IN ('free', 'claimed')")
Time = sa.DateTime(timezone=True)
BATCH = 5000
ROWS = (
    "SELECT m.id, s.key AS stage_key, d.key AS device_key, d.instance, e.key AS environment_key, m.measured_at,"
    " m.worker, m.attempt, m.status, m.samples, m.conditions FROM measurement m JOIN stage s ON s.id = m.stage_id"
    " JOIN device d ON d.id = m.device_id JOIN environment e ON e.id = m.environment_id"
)
STATISTICS = (
    # Rows of the index, and how many of them agree in its first column, in its first two, …
    ("measurement", "ix_measurement_measured_at", "10000000 1"),
    ("measurement", "ix_measurement_search_id", "10000000 100000"),
    ("measurement", "ix_measurement_stage_id_device_id_environment_id", "10000000 4 2 1"),
    ("measurement", "ix_measurement_device_id_measured_at", "10000000 2500000 1"),
    ("measurement", "ix_measurement_median", "10000000 1"),
    ("measurement", "ix_measurement_wrong", "100000 30000 1"),
    ("measurement", "uq_measurement_uid", "10000000 1"),
    ("stage", "sqlite_autoindex_stage_1", "2500000 1"),
    ("stage_operator", "sqlite_autoindex_stage_operator_1", "5000000 2 1"),
    ("stage_operator", "ix_stage_operator_kind_in_channels_out_channels", "5000000 500000 5000 500"),
    ("stage_operator", "ix_stage_operator_in_channels_height_width", "5000000 50000 5000 5000"),
    ("device", "sqlite_autoindex_device_1", "10 1 1"),
    ("environment", "sqlite_autoindex_environment_1", "10 1"),
    ("environment", "ix_environment_hard_key", "10 2"),
    ("schedule_stage", "ix_schedule_stage_stage_key", "100000 2"),
    ("schedule_stage", "ix_schedule_stage_measurement_id", "100000 2"),
    ("lease", "sqlite_autoindex_lease_1", "1000 1 1 1"),
    ("lease", "ix_lease_owner", "1000 250"),
)
WRITE = sa.text("UPDATE measurement SET uid = :uid WHERE id = :id")


def upgrade() -> None:
    op.drop_table("task")  # nothing was ever written to it
    op.create_table(
        "lease",
        sa.Column("stage_key", sa.String(length=64), nullable=False),
        sa.Column("device_key", sa.String(length=64), nullable=False),
        sa.Column("environment_key", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stage_key", "device_key", "environment_key", name=op.f("pk_lease")),
    )
    op.create_index(op.f("ix_lease_owner"), "lease", ["owner"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", BigId, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("devices", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("stages", sa.Integer(), nullable=False),
        sa.Column("measured", sa.Integer(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Text(), nullable=False),
        sa.Column("busy", sa.Double(), nullable=True),
        sa.Column("gap", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    # Written out: alembic would copy the table in SQLite, which other tables refer to.
    number = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(f"ALTER TABLE search ADD COLUMN run_id {number} CONSTRAINT fk_search_run_id REFERENCES run (id)")
    op.create_index(op.f("ix_search_run_id"), "search", ["run_id"], unique=False)
    op.add_column("measurement", sa.Column("uid", sa.String(length=32), server_default="", nullable=False))
    _identify(op.get_bind())
    op.create_index("uq_measurement_uid", "measurement", ["uid"], unique=True)
    for columns in (["device_id", "measured_at"], ["median"]):
        op.create_index(op.f("ix_measurement_" + "_".join(columns)), "measurement", columns, unique=False)
    columns = ["in_channels", "height", "width"]
    op.create_index(op.f("ix_stage_operator_in_channels_height_width"), "stage_operator", columns, unique=False)
    op.create_index(op.f("ix_schedule_stage_measurement_id"), "schedule_stage", ["measurement_id"], unique=False)
    wrong = sa.text("status <> 'ok'")
    columns = ["status", "measured_at"]
    op.create_index("ix_measurement_wrong", "measurement", columns, sqlite_where=wrong, postgresql_where=wrong)
    _make_view(op.get_bind())
    if op.get_bind().dialect.name == "sqlite":
        _tell_planner()


def _tell_planner() -> None:
    """What a large database looks like. SQLite plans queries by this table, which it fills only when it is told to;
    without it, it takes a device for as good a clue as a stage, and goes through millions of rows to look one up.
    """
    op.execute("ANALYZE")
    op.execute("DELETE FROM sqlite_stat1")
    for table, index, rows in STATISTICS:
        op.execute(f"INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('{table}', '{index}', '{rows}')")
    op.execute("ANALYZE sqlite_master")  # reads it again


def _make_view(connection: sa.Connection) -> None:
    """What a person wants to see of a measurement, in one row, for Datasette and any other SQL tool."""
    words = (
        "o.kind || coalesce(' ' || o.kernel_height || 'x' || o.kernel_width, '')"
        " || coalesce(' ' || o.in_channels || '→' || o.out_channels, '')"
    )
    operators = f"SELECT string_agg({words}, ', ' ORDER BY o.position) FROM stage_operator o WHERE o.stage_id = s.id"
    if connection.dialect.name == "sqlite":
        rows = f"SELECT {words} AS words FROM stage_operator o WHERE o.stage_id = s.id ORDER BY o.position"
        operators = f"SELECT group_concat(words, ', ') FROM ({rows})"
    connection.exec_driver_sql(
        f"""CREATE VIEW latency AS
        SELECT m.id, d.model AS device, d.kind AS device_kind, d.simulated, ({operators}) AS operators, s.strategy,
            s.dtype, s.layout, s.batch, s.units, s."groups", m.median * 1000 AS median_ms, m.mad * 1000 AS mad_ms,
            m.min * 1000 AS min_ms, m.p90 * 1000 AS p90_ms, m.n AS samples, m.status, m.reason, m.measured_at, m.worker,
            s.flops, s.bytes_moved, e.hard AS environment, e.soft AS versions, m.search_id, s.key AS stage
        FROM measurement m JOIN stage s ON s.id = m.stage_id JOIN device d ON d.id = m.device_id
            JOIN environment e ON e.id = m.environment_id"""
    )


def _identify(connection: sa.Connection) -> None:
    """Gives the measurements that are there their identity."""
    read = sa.text(f"{ROWS} WHERE m.id > :last ORDER BY m.id LIMIT {BATCH}").columns(measured_at=Time)
    last = -1
    while rows := connection.execute(read, {"last": last}).all():
        last = rows[-1].id
        connection.execute(WRITE, [{"id": row.id, "uid": _uid(row)} for row in rows])
    # 0001 stored equal measurements twice: nothing is lost, the later ones are told apart by their number.
    equal = sa.text(
        f"{ROWS} JOIN (SELECT uid, min(id) AS first FROM measurement GROUP BY uid HAVING count(*) > 1) f"
        " ON f.uid = m.uid AND f.first <> m.id"
    ).columns(measured_at=Time)
    for row in connection.execute(equal).all():
        connection.execute(WRITE, {"id": row.id, "uid": _uid(row, f"\0{row.id}")})


def _uid(row: sa.Row[Any], suffix: str = "") -> str:
    at: datetime = row.measured_at if row.measured_at.tzinfo else row.measured_at.replace(tzinfo=UTC)
    where = (row.stage_key, row.device_key, row.instance, row.environment_key)
    return measurement_uid(*where, at, row.worker, row.attempt, row.status, row.samples, row.conditions + suffix)


def downgrade() -> None:
    op.execute("DROP VIEW latency")
    op.drop_index(op.f("ix_schedule_stage_measurement_id"), table_name="schedule_stage")
    op.drop_index(op.f("ix_stage_operator_in_channels_height_width"), table_name="stage_operator")
    for name in ("wrong", "median", "device_id_measured_at"):
        op.drop_index(f"ix_measurement_{name}", table_name="measurement")
    op.drop_index("uq_measurement_uid", table_name="measurement")
    op.drop_column("measurement", "uid")
    op.drop_index(op.f("ix_search_run_id"), table_name="search")
    op.drop_column("search", "run_id")
    op.drop_table("run")
    op.drop_table("lease")
    op.create_table(
        "task",
        sa.Column("id", BigId, nullable=False),
        sa.Column("stage_id", BigId, nullable=False),
        sa.Column("device_key", sa.String(length=64), nullable=False),
        sa.Column("search_id", BigId, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_expires", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_task_search_id")),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"], name=op.f("fk_task_stage_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    op.create_index(op.f("ix_task_search_id"), "task", ["search_id"], unique=False)
    op.create_index(op.f("ix_task_state_device_key"), "task", ["state", "device_key"], unique=False)
    op.create_index(
        "uq_task_open",
        "task",
        ["stage_id", "device_key"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )
