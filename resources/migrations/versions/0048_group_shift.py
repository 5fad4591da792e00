"""What a month does to θ is no longer measured: its anchors as a group are compared with the other published items.

Code of the release before still writes the other columns, so they stay, and newer code leaves them at 0.
"""

from alembic import op

revision = "0048_group_shift"
down_revision = "0047_total_error"
oldest_code = "0039_learner_reports"

OF_SCORING = ("learners", "scored", "newly_passed", "newly_failed", "flip_se")


def upgrade() -> None:
    for name in OF_SCORING:
        op.execute(f"ALTER TABLE month_impact ALTER COLUMN {name} SET DEFAULT 0")
    op.execute(
        """
        COMMENT ON TABLE month_impact IS
            'How far a month''s anchors as a group moved against the other published items. Release 1.0.0 measured it '
            'by θ on the same answers, once with the values in force and once with the month''s own, and counted who '
            'crossed the pass mark.';
        COMMENT ON COLUMN month_impact.learners IS 'of release 1.0.0: learners behind the shift; else 0';
        COMMENT ON COLUMN month_impact.shift IS 'by how much their b moved against that of the anchors';
        COMMENT ON COLUMN month_impact.pass_theta IS
            'of release 1.0.0: the scale''s pass mark; null where it has none';
        COMMENT ON COLUMN month_impact.scored IS 'of release 1.0.0: learners whose θ is reported; else 0';
        """
    )


def downgrade() -> None:
    for name in OF_SCORING:
        op.execute(f"ALTER TABLE month_impact ALTER COLUMN {name} DROP DEFAULT")
