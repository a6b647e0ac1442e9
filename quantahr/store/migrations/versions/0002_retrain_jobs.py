"""Retrain jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("active", sa.String(length=8), nullable=True),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("confirmed_by", sa.String(length=160), nullable=True),
        sa.Column("cancelled_by", sa.String(length=160), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=True),
        sa.Column("decided_by", sa.String(length=160), nullable=True),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.Column("curve", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("active"),
    )
    op.create_table(
        "job_messages",
        sa.Column("job", sa.String(length=16), nullable=False),
        sa.Column("platform", sa.String(length=16), nullable=False),
        sa.Column("place", sa.String(length=256), nullable=False),
        sa.Column("address", sa.JSON(), nullable=False),
        sa.Column("remote", sa.String(length=256), nullable=True),
        sa.Column("shown", sa.Integer(), nullable=False),
        sa.Column("pictured", sa.Boolean(), nullable=False),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "platform", "place"),
    )


def downgrade() -> None:
    op.drop_table("job_messages")
    op.drop_table("jobs")
