"""A scale's rules stand in one column, those that differ from the defaults. It took five, as each release before the
first read another one.

The way back keeps them where a release reads the names that it knows.
"""

from alembic import op

revision = "0033_rules"
down_revision = "0032_restored_anchors"
oldest_code = "0033_rules"
carried = ("calibration_scale.rules",)


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE calibration_scale ADD COLUMN rules jsonb NOT NULL DEFAULT '{}'::jsonb;
        COMMENT ON COLUMN calibration_scale.rules IS
            'settings that differ from the defaults; a release reads those that it knows';
        UPDATE calibration_scale SET rules = newer_rules || thresholds || jsonb_strip_nulls(jsonb_build_object(
            'latent', nullif(latent, 'normal'), 'new_misfit', nullif(new_misfit, 'warn')));
        ALTER TABLE calibration_scale DROP COLUMN thresholds, DROP COLUMN newer_rules, DROP COLUMN latent,
            DROP COLUMN new_misfit, DROP COLUMN assignment;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE calibration_scale
            ADD COLUMN thresholds jsonb NOT NULL DEFAULT '{}'::jsonb,
            ADD COLUMN newer_rules jsonb NOT NULL DEFAULT '{}'::jsonb,
            ADD COLUMN latent text NOT NULL DEFAULT 'normal',
            ADD COLUMN new_misfit text NOT NULL DEFAULT 'warn',
            ADD COLUMN assignment text NOT NULL DEFAULT 'linear';
        UPDATE calibration_scale SET
            newer_rules = rules - 'latent' - 'new_misfit',
            latent = coalesce(rules->>'latent', 'normal'),
            new_misfit = coalesce(rules->>'new_misfit', 'warn'),
            assignment = CASE rules->>'assignment' WHEN 'by_level' THEN 'adaptive' ELSE 'linear' END;
        ALTER TABLE calibration_scale DROP COLUMN rules;
        """
    )
