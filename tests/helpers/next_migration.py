"""A further migration, as in a next version of the code. `next_version` puts it after the newest migration."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from resources.migrations import versions

revision = "0998_next"
down_revision = max(path.stem for path in Path(versions.__path__[0]).glob("0*.py"))
oldest_code = down_revision


def upgrade() -> None:
    op.add_column("anchor_set", sa.Column("note", sa.Text(), nullable=True, comment="what the next version says of it"))
    op.create_table("note", sa.Column("note", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("note"))
    op.create_index("anchor_set_note", "anchor_set", ["note"])


def downgrade() -> None:
    op.drop_table("note")
    op.drop_column("anchor_set", "note")
