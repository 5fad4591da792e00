"""Months are compared with the scale's origin, and new misfit holds them; scales that exist are warned of it."""

import sqlalchemy as sa
from alembic import op

revision = "0028_new_misfit"
down_revision = "0027_latent"
oldest_code = "0013_abilities_by_window"

SUBJECTS = "model, prior_a, prior_b, prior_c or guessing"
VALUES = "the model; a prior, such as lognormal(0, 0.5), or none; accepted, of guessing"


def upgrade() -> None:
    op.add_column(
        "calibration_scale",
        sa.Column(
            "new_misfit",
            sa.Text(),
            server_default=sa.text("'warn'"),
            nullable=False,
            comment="warn or hold: what new misfit does to a month",
        ),
    )
    op.add_column(
        "mirt_fit_meta",
        sa.Column(
            "calibration",
            sa.LargeBinary(),
            nullable=True,
            comment="of an origin window: the Calibration, compressed",
        ),
    )
    op.alter_column("scale_decision", "subject", comment="model, prior_a, prior_b, prior_c, guessing or misfit")
    op.alter_column("scale_decision", "value", comment=f"{VALUES} and misfit; reference, of misfit")


def downgrade() -> None:
    op.drop_column("calibration_scale", "new_misfit")
    op.drop_column("mirt_fit_meta", "calibration")
    op.alter_column("scale_decision", "subject", comment=SUBJECTS)
    op.alter_column("scale_decision", "value", comment=VALUES)
