"""People: onboarding, versions of sections, standard answers and gaps"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "joiners",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("platform", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("email", sa.String(length=160), nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("start", sa.String(length=10), nullable=False),
        sa.Column("role", sa.String(length=120), nullable=False),
        sa.Column("location", sa.String(length=80), nullable=False),
        sa.Column("contract", sa.String(length=80), nullable=False),
        sa.Column("manager", sa.String(length=128), nullable=False),
        sa.Column("buddy", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("planned_with", sa.String(length=16), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=160), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("joiners", schema=None) as batch_op:
        batch_op.create_index("joiners_by_user", ["platform", "tenant", "user_id"], unique=False)
        batch_op.create_index("joiners_due", ["status", "next_at"], unique=False)
    op.create_table(
        "onboarding_steps",
        sa.Column("joiner", sa.String(length=16), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=12), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("due", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("asks", sa.Boolean(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("done_at", sa.Float(), nullable=True),
        sa.Column("done_by", sa.String(length=128), nullable=False),
        sa.Column("reminders", sa.Integer(), nullable=False),
        sa.Column("reminded_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["joiner"], ["joiners.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("joiner", "run", "step"),
    )
    op.create_table(
        "periods",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "section_versions",
        sa.Column("section", sa.String(length=160), nullable=False),
        sa.Column("document", sa.String(length=256), nullable=False),
        sa.Column("title", sa.String(length=256), nullable=False),
        sa.Column("heading", sa.String(length=512), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("audience", sa.JSON(), nullable=False),
        sa.Column("effective", sa.String(length=10), nullable=True),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.Column("gone_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("section"),
    )
    with op.batch_alter_table("section_versions", schema=None) as batch_op:
        batch_op.create_index("versions_by_document", ["document"], unique=False)
        batch_op.create_index("versions_gone", ["gone_at"], unique=False)
    op.create_table(
        "standard_answers",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("variants", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sections", sa.JSON(), nullable=False),
        sa.Column("audience", sa.JSON(), nullable=False),
        sa.Column("approved_by", sa.String(length=160), nullable=False),
        sa.Column("approved_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("retired_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "golden_questions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("standard", sa.String(length=16), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("sections", sa.JSON(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["standard"], ["standard_answers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "gaps",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("variants", sa.JSON(), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("document", sa.String(length=256), nullable=False),
        sa.Column("heading", sa.String(length=512), nullable=False),
        sa.Column("sections", sa.JSON(), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("found_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("gaps")
    op.drop_table("golden_questions")
    op.drop_table("standard_answers")
    with op.batch_alter_table("section_versions", schema=None) as batch_op:
        batch_op.drop_index("versions_gone")
        batch_op.drop_index("versions_by_document")
    op.drop_table("section_versions")
    op.drop_table("periods")
    op.drop_table("onboarding_steps")
    with op.batch_alter_table("joiners", schema=None) as batch_op:
        batch_op.drop_index("joiners_due")
        batch_op.drop_index("joiners_by_user")
    op.drop_table("joiners")
