"""The schema says which code it still serves, so that a newer one need not stop everything at once."""

import sqlalchemy as sa
from alembic import op

revision = "0014_oldest_code"
down_revision = "0013_abilities_by_window"
oldest_code = "0013_abilities_by_window"

TABLE = "irt_alembic_version"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("oldest_code", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column(TABLE, "oldest_code")
