"""${message}"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
oldest_code = revision  # the oldest migration whose code works with this schema: an earlier one, if nothing breaks it


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}



def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
