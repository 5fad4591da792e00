"""Abilities have their error with that of the item parameters, and fits what their items' errors have in common."""

from alembic import op

revision = "0047_total_error"
down_revision = "0046_pull"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE mirt_fit_meta ADD COLUMN common_errors jsonb;
        COMMENT ON COLUMN mirt_fit_meta.common_errors IS
            '[4], covariance of (stretch, shift) that all items'' errors share; null: unknown';
        ALTER TABLE mirt_ability ADD COLUMN se_total double precision;
        COMMENT ON COLUMN mirt_ability.se_total IS 'with the errors of item parameters and linking; null: unknown';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE mirt_ability DROP COLUMN se_total;
        ALTER TABLE mirt_fit_meta DROP COLUMN common_errors;
        """
    )
