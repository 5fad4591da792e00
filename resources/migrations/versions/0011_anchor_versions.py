"""Versions of an anchor set are used from a date on; what a recalibration writes is described."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0011_anchor_versions"
down_revision = "0010_dif_large"

COMMENTS = {
    ("mirt_fit_meta", "kind"): "monthly, nightly, origin, or pooled of a recalibration",
    ("calibration_scale", "anchor_version"): "newest version of the anchor set",
    ("item_parameter_publication", "month"): (
        "month whose fit it comes from, or FIRST:LAST of a recalibration; null for bank values"
    ),
    ("item_parameter_proposal", "month"): "calendar month of the window, or FIRST:LAST of a recalibration",
    ("release_decision", "month"): "window of the proposal; of an anchor the first month without it",
    ("release_decision", "fit_id"): "fit of the proposal; of an anchor the last linked one",
    ("release_decision", "decision"): "accept, reject or drop_anchor",
}


def upgrade() -> None:
    op.add_column(
        "anchor_set",
        sa.Column(
            "effective_from",
            TIMESTAMP(timezone=True),
            nullable=True,
            comment="windows that begin from then on are linked to this version; null: from the origin on",
        ),
    )
    for (table, column), comment in COMMENTS.items():
        op.alter_column(table, column, comment=comment)
    op.create_table_comment(
        "item_parameter_proposal", "What a month, or a recalibration, would publish but only a person may."
    )
    op.create_table_comment("release_decision", "What a person decided on a proposal or an anchor.")


def downgrade() -> None:
    op.drop_column("anchor_set", "effective_from")
