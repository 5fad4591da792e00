"""How a company's own tables become the log is stored, so that the view `attempt` over them can be made again."""

from alembic import op

revision = "0041_log_mapping"
down_revision = "0040_attempt_corrections"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE log_mapping (
            target text NOT NULL, source text NOT NULL, query text NOT NULL, options jsonb NOT NULL,
            made_by text NOT NULL, made_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target));
        COMMENT ON TABLE log_mapping IS
            'How the company''s own tables become the log, or are copied; no row ''log'': the log is response_log.';
        COMMENT ON COLUMN log_mapping.target IS 'log, question or learner';
        COMMENT ON COLUMN log_mapping.source IS 'the table, or the file of the SELECT';
        COMMENT ON COLUMN log_mapping.query IS
            'SELECT over the company''s tables, with columns of the view attempt, or of an import';
        COMMENT ON COLUMN log_mapping.options IS 'as irt connect was called: map, zone';
        COMMENT ON COLUMN log_mapping.made_by IS 'account that connected them';
        COMMENT ON COLUMN log_mapping.made_at IS 'when';
        COMMENT ON COLUMN partition_source.asset IS
            'features_topic_daily, item_response_time, or attempts: the days of a company''s own tables';
        COMMENT ON COLUMN partition_source.partition IS 'a day; as_of/since of item times';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE log_mapping;
        COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily or item_response_time';
        COMMENT ON COLUMN partition_source.partition IS 'a day of features; as_of/since of item times'
        """
    )
