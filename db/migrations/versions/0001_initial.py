"""The first schema.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state IN ('free', 'claimed')")


def upgrade() -> None:
    op.create_table(
        "device",
        sa.Column("id", BigId, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("key", "instance", name=op.f("uq_device_key_instance")),
    )
    op.create_table(
        "environment",
        sa.Column("id", BigId, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("hard_key", sa.String(length=64), nullable=False),
        sa.Column("hard", sa.Text(), nullable=False),
        sa.Column("soft", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("key", name=op.f("uq_environment_key")),
    )
    op.create_index(op.f("ix_environment_hard_key"), "environment", ["hard_key"], unique=False)
    op.create_table(
        "search",
        sa.Column("id", BigId, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counts", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
    )
    op.create_index(op.f("ix_search_model"), "search", ["model"], unique=False)
    op.create_table(
        "stage",
        sa.Column("id", BigId, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("groups", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("flops", sa.BigInteger(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage")),
        sa.UniqueConstraint("key", name=op.f("uq_stage_key")),
    )
    op.create_table(
        "measurement",
        sa.Column("id", BigId, nullable=False),
        sa.Column("stage_id", BigId, nullable=False),
        sa.Column("device_id", BigId, nullable=False),
        sa.Column("environment_id", BigId, nullable=False),
        sa.Column("search_id", BigId, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("median", sa.Float(), nullable=True),
        sa.Column("mad", sa.Float(), nullable=True),
        sa.Column("min", sa.Float(), nullable=True),
        sa.Column("p90", sa.Float(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.Column("unroll", sa.Integer(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_measurement_device_id")),
        sa.ForeignKeyConstraint(["environment_id"], ["environment.id"], name=op.f("fk_measurement_environment_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_measurement_search_id")),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"], name=op.f("fk_measurement_stage_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
    )
    op.create_index(op.f("ix_measurement_measured_at"), "measurement", ["measured_at"], unique=False)
    op.create_index(op.f("ix_measurement_search_id"), "measurement", ["search_id"], unique=False)
    op.create_index(
        op.f("ix_measurement_stage_id_device_id_environment_id"),
        "measurement",
        ["stage_id", "device_id", "environment_id"],
        unique=False,
    )
    op.create_table(
        "schedule",
        sa.Column("id", BigId, nullable=False),
        sa.Column("search_id", BigId, nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("graph_hash", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("device_id", BigId, nullable=False),
        sa.Column("environment_id", BigId, nullable=False),
        sa.Column("predicted", sa.Float(), nullable=True),
        sa.Column("measured", sa.Float(), nullable=True),
        sa.Column("lower_bound", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_schedule_device_id")),
        sa.ForeignKeyConstraint(["environment_id"], ["environment.id"], name=op.f("fk_schedule_environment_id")),
        sa.ForeignKeyConstraint(["search_id"], ["search.id"], name=op.f("fk_schedule_search_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
    )
    op.create_index(op.f("ix_schedule_model"), "schedule", ["model"], unique=False)
    op.create_index(op.f("ix_schedule_search_id"), "schedule", ["search_id"], unique=False)
    op.create_table(
        "stage_operator",
        sa.Column("stage_id", BigId, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("in_channels", sa.Integer(), nullable=True),
        sa.Column("out_channels", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("kernel_height", sa.Integer(), nullable=True),
        sa.Column("kernel_width", sa.Integer(), nullable=True),
        sa.Column("stride", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"], name=op.f("fk_stage_operator_stage_id")),
        sa.PrimaryKeyConstraint("stage_id", "position", name=op.f("pk_stage_operator")),
    )
    op.create_index(
        op.f("ix_stage_operator_kind_in_channels_out_channels"),
        "stage_operator",
        ["kind", "in_channels", "out_channels"],
        unique=False,
    )
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
    op.create_table(
        "schedule_stage",
        sa.Column("schedule_id", BigId, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("stage_key", sa.String(length=64), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Float(), nullable=True),
        sa.Column("measurement_id", BigId, nullable=True),
        sa.ForeignKeyConstraint(["measurement_id"], ["measurement.id"], name=op.f("fk_schedule_stage_measurement_id")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_stage_schedule_id")),
        sa.PrimaryKeyConstraint("schedule_id", "position", name=op.f("pk_schedule_stage")),
    )
    op.create_index(op.f("ix_schedule_stage_stage_key"), "schedule_stage", ["stage_key"], unique=False)


def downgrade() -> None:
    for table in (
        "schedule_stage",
        "task",
        "stage_operator",
        "schedule",
        "measurement",
        "stage",
        "search",
        "environment",
        "device",
    ):
        op.drop_table(table)
