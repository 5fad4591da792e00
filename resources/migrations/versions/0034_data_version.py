"""A month has one stored hash: rows are written out to be hashed in one way."""

from alembic import op

revision = "0034_data_version"
down_revision = "0033_rules"
oldest_code = "0034_data_version"


def upgrade() -> None:
    op.execute(
        """
        DELETE FROM data_version d USING data_version o WHERE o.month = d.month AND o.encoding > d.encoding;
        ALTER TABLE data_version DROP COLUMN encoding, ADD PRIMARY KEY (month);
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE data_version DROP CONSTRAINT data_version_pkey, ADD COLUMN encoding integer NOT NULL DEFAULT 2;
        ALTER TABLE data_version ALTER COLUMN encoding DROP DEFAULT, ADD PRIMARY KEY (month, encoding);
        """
    )
