"""What a nightly fit has otherwise than a month's is said where the columns are described."""

from alembic import op

revision = "0005_nightly_fits"
down_revision = "0004_partition_source"


def upgrade() -> None:
    op.alter_column(
        "mirt_fit_meta", "snapshot_hash", comment="snapshot it was fitted on; empty for a night, which keeps none"
    )
    op.alter_column(
        "mirt_item_params",
        "params",
        comment="a, b, c, a_se, b_se, c_se, cov_ab on the bank's scale; the unlinked ones under raw; of a night "
        "provisional: true where nothing is published for the item",
    )


def downgrade() -> None:
    """Comments stay: no code reads them."""
