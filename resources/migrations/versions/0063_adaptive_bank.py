"""Banks of adaptive tests, stored by content, and the bank of each session."""

from alembic import op

revision = "0063_adaptive_bank"
down_revision = "0062_adaptive"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE adaptive_bank (
            bank_hash TEXT NOT NULL,
            content JSONB NOT NULL,
            stored_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (bank_hash)
        );
        COMMENT ON TABLE adaptive_bank IS
            'Banks that sessions of adaptive tests use: all that a session''s items and θ depend on, apart from the '
            'answers. Append-only.';
        COMMENT ON COLUMN adaptive_bank.bank_hash IS 'hash of the content';
        COMMENT ON COLUMN adaptive_bank.content IS
            'policy, scale, hash of the published set, and values, errors and topics of the items';
        COMMENT ON COLUMN adaptive_bank.stored_at IS 'time at which a session used the bank first';
        ALTER TABLE adaptive_session ADD COLUMN bank_hash TEXT;
        COMMENT ON COLUMN adaptive_session.bank_hash IS
            'bank in adaptive_bank; null: the session began before banks were stored';
        COMMENT ON COLUMN adaptive_session.started_at IS 'time of the first request';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE adaptive_session DROP COLUMN bank_hash;
        COMMENT ON COLUMN adaptive_session.started_at IS
            'time of the first request; the published set of this time is used';
        DROP TABLE adaptive_bank;
        """
    )
