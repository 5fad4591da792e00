"""Tables and columns that nobody reads are dropped, and each snapshot has a state of verdicts.

Days and weeks from before states of verdicts were stored count as current for good. A month of that time that was not
compared with its verdicts has the state of a month without any: if open, it is stale once a day of it is judged.
`ability_state` and `month_impact.learners` stay for code of 0057, which reads them.
"""

from alembic import op

revision = "0058_one_shape"
down_revision = "0057_verdict_state"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        DROP TABLE item_response_time;
        ALTER TABLE inbox_file DROP COLUMN last_line;
        ALTER TABLE month_impact DROP COLUMN pass_theta, DROP COLUMN scored, DROP COLUMN newly_passed,
            DROP COLUMN newly_failed, DROP COLUMN flip_se;
        COMMENT ON TABLE month_impact IS
            'How far a month''s anchors as a group moved against the other published items.';

        DELETE FROM ability_state;
        COMMENT ON TABLE ability_state IS
            'Empty: earlier releases stored here what the θ API went on from where ability moves.';
        DELETE FROM partition_source WHERE asset = 'item_response_time' OR data_hash = 'earlier';
        COMMENT ON TABLE partition_source IS
            'The state of the verdicts that each day of features and each week of KPIs was made from.';
        COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily or weekly_kpi';
        COMMENT ON COLUMN partition_source.partition IS 'a day, or the Monday of a week';
        COMMENT ON COLUMN partition_source.data_hash IS 'state of the verdicts';

        UPDATE scored_snapshot SET verdict_state = '' WHERE verdict_state IS NULL;
        ALTER TABLE scored_snapshot ALTER COLUMN verdict_state SET NOT NULL;
        COMMENT ON COLUMN scored_snapshot.verdict_state IS 'state of the verdicts it was read from';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE scored_snapshot ALTER COLUMN verdict_state DROP NOT NULL;
        ALTER TABLE month_impact ADD COLUMN pass_theta double precision,
            ADD COLUMN scored integer NOT NULL DEFAULT 0, ADD COLUMN newly_passed integer NOT NULL DEFAULT 0,
            ADD COLUMN newly_failed integer NOT NULL DEFAULT 0, ADD COLUMN flip_se double precision NOT NULL DEFAULT 0;
        ALTER TABLE inbox_file ADD COLUMN last_line bigint NOT NULL DEFAULT 0;
        CREATE TABLE item_response_time (
            as_of timestamptz NOT NULL, since timestamptz NOT NULL, item_id text NOT NULL,
            median_ms double precision NOT NULL, n bigint NOT NULL, PRIMARY KEY (as_of, since, item_id));
        """
    )
