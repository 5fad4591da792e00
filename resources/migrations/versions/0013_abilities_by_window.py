"""Abilities are found by window and scale: one row tells which set a month was measured with."""

from alembic import op

revision = "0013_abilities_by_window"
down_revision = "0012_dif_errors"


def upgrade() -> None:
    op.drop_index("mirt_ability_window", "mirt_ability")
    op.create_index("mirt_ability_window", "mirt_ability", ["kind", "window_end", "scale_id"])


def downgrade() -> None:
    op.drop_index("mirt_ability_window", "mirt_ability")
    op.create_index("mirt_ability_window", "mirt_ability", ["kind", "window_end"])
