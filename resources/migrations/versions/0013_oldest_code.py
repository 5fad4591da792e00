"""The schema says which code it still serves, so that a newer one need not stop everything at once."""

import sqlalchemy as sa
from alembic import op

revision = "0013_oldest_code"
down_revision = "0012_dif_errors"
oldest_code = "0012_dif_errors"

TABLE = "irt_alembic_version"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("oldest_code", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column(TABLE, "oldest_code")
