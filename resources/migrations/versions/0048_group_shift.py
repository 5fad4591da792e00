"""What a month does to θ is no longer measured: its anchors as a group are compared with the other published items.

Code of the release before still writes the other columns, so they stay, and newer code leaves them at 0. Drift's
details have τ in the place of what errors were multiplied by.
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
    op.execute(
        """
        COMMENT ON COLUMN item_drift.details IS
            'published {a, b, c}, delta_a_se, delta_b_se, delta_b_95, wald, tau, most_tau, limits {a, b, c}, '
            'chance_a_large, chance_b_large, log_bayes_factor, trend {b_a_month, se, q, months}, change {kind, '
            'size, gains, time_z, onset, distractor_above_the_key}; curves {right, right_se, with_ability, '
            'with_ability_se, df} of what is compared by its curves, across_models where it was published as '
            'another model (no changes of parameters then); of an item without an estimate published, change and '
            'proportion_correct {n, observed, expected, difference, se, z, why}';
        """
    )


def downgrade() -> None:
    for name in OF_SCORING:
        op.execute(f"ALTER TABLE month_impact ALTER COLUMN {name} DROP DEFAULT")
