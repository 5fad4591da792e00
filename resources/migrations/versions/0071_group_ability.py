"""Abilities of groups of learners, by month.

Earlier code can read the new schema.
"""

from alembic import op

revision = "0071_group_ability"
down_revision = "0070_category_changes"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE group_ability (
            month TEXT NOT NULL,
            scale_id TEXT NOT NULL,
            attribute TEXT NOT NULL,
            group_name TEXT NOT NULL,
            n INTEGER NOT NULL,
            reference_group TEXT NOT NULL,
            mean DOUBLE PRECISION,
            mean_se DOUBLE PRECISION,
            sd DOUBLE PRECISION,
            sd_se DOUBLE PRECISION,
            difference DOUBLE PRECISION,
            difference_se DOUBLE PRECISION,
            change DOUBLE PRECISION,
            change_se DOUBLE PRECISION,
            change_q DOUBLE PRECISION,
            details JSONB DEFAULT '{}'::jsonb NOT NULL,
            computed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (month, scale_id, attribute, group_name)
        );
        COMMENT ON TABLE group_ability IS
            'Ability of each group of a month''s learners by latent regression: mean, SD, percentiles and changes '
            'with errors.';
        COMMENT ON COLUMN group_ability.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
        COMMENT ON COLUMN group_ability.scale_id IS 'scale';
        COMMENT ON COLUMN group_ability.attribute IS 'learner attribute';
        COMMENT ON COLUMN group_ability.group_name IS 'group; empty: the attribute as a whole';
        COMMENT ON COLUMN group_ability.n IS 'number of learners with an answer that counts in the month';
        COMMENT ON COLUMN group_ability.reference_group IS
            'reference group, the largest group; empty: no group is large enough';
        COMMENT ON COLUMN group_ability.mean IS 'mean ability';
        COMMENT ON COLUMN group_ability.mean_se IS 'standard error of the mean';
        COMMENT ON COLUMN group_ability.sd IS 'standard deviation of ability';
        COMMENT ON COLUMN group_ability.sd_se IS 'standard error of the standard deviation';
        COMMENT ON COLUMN group_ability.difference IS
            'mean minus the mean of the reference group; null: it is the reference';
        COMMENT ON COLUMN group_ability.difference_se IS 'standard error of the difference';
        COMMENT ON COLUMN group_ability.change IS
            'mean minus the mean of the month before, both by the set in force now';
        COMMENT ON COLUMN group_ability.change_se IS 'standard error of the change';
        COMMENT ON COLUMN group_ability.change_q IS
            'q-value (Benjamini-Hochberg) of the change over the scale''s groups';
        COMMENT ON COLUMN group_ability.details IS
            'for a group: why_not (why it has no estimates, or empty), n_responses, item_se (part of mean_se that '
            'comes from the errors of the items; null: not known, and no error includes it), percentiles '
            '[{percentile, theta, se}], passing {mark, share, se} or null (without a pass mark in θ), no_change (why '
            'change is null, or empty). For an attribute as a whole: why_not (why no group is described, or empty), '
            'smaller_groups {groups, learners}, n_unknown, n_unreadable (part of n_unknown), sample (in words; empty:'
            ' all learners)';
        COMMENT ON COLUMN group_ability.computed_at IS 'time of the computation';
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE group_ability")
