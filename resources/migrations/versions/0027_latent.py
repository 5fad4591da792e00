"""Each scale says what is taken for the distribution of θ; those that exist keep a normal one."""

import sqlalchemy as sa
from alembic import op

revision = "0027_latent"
down_revision = "0026_errors_of_guessing"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.add_column(
        "calibration_scale",
        sa.Column(
            "latent",
            sa.Text(),
            server_default=sa.text("'normal'"),
            nullable=False,
            comment="what em takes for the distribution of θ: normal, histogram or auto",
        ),
    )


def downgrade() -> None:
    op.drop_column("calibration_scale", "latent")
