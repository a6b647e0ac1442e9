"""Names of documents and sections as long as a file system allows. SQLite never cut them; PostgreSQL refuses longer."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LONGER = (
    ("section_versions", "section", 160, 320),
    ("section_versions", "document", 256, 512),
    ("section_versions", "title", 256, 512),
    ("gaps", "document", 256, 512),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column, _, longer in LONGER:
            op.alter_column(table, column, type_=sa.String(longer))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column, shorter, _ in LONGER:
            op.alter_column(
                table, column, type_=sa.String(shorter), postgresql_using=f'substr("{column}", 1, {shorter})'
            )
