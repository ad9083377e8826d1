"""PostgreSQL's index of stage keys holds their numbers: look-ups and imports need no page of the stages themselves.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_anew("UNIQUE (key) INCLUDE (id)")


def downgrade() -> None:
    _make_anew("UNIQUE (key)")


def _make_anew(constraint: str) -> None:
    if op.get_bind().dialect.name == "sqlite":  # whose indexes always hold the number
        return
    op.execute(f"ALTER TABLE stage DROP CONSTRAINT uq_stage_key, ADD CONSTRAINT uq_stage_key {constraint}")
