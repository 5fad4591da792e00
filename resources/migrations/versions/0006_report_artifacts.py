"""A report has one row, and its row says what the file was made from."""

import sqlalchemy as sa
from alembic import op

revision = "0006_report_artifacts"
down_revision = "0005_nightly_fits"


def upgrade() -> None:
    op.add_column(
        "report_artifacts",
        sa.Column(
            "inputs_hash",
            sa.Text(),
            nullable=True,
            comment="hash of what the file was made from; the same now means that it need not be made again",
        ),
    )
    op.execute(
        """DELETE FROM report_artifacts old USING report_artifacts new
           WHERE new.artifact_id > old.artifact_id AND new.format = old.format
             AND (new.user_id, new.week_start, new."window") IS NOT DISTINCT FROM
                 (old.user_id, old.week_start, old."window")"""
    )
    op.create_index(
        "report_artifacts_one",
        "report_artifacts",
        ["user_id", "week_start", "window", "format"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("report_artifacts_week", "report_artifacts", ["week_start"])
    op.create_index("report_artifacts_url", "report_artifacts", ["url"])


def downgrade() -> None:
    for index in ("report_artifacts_one", "report_artifacts_week", "report_artifacts_url"):
        op.drop_index(index, "report_artifacts")
    op.drop_column("report_artifacts", "inputs_hash")
