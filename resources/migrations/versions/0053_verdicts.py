"""Learners have a key, every attempt has a learner, and each attempt gets a verdict that is stored."""

from alembic import op

revision = "0053_verdicts"
down_revision = "0052_movement"
oldest_code = "0039_learner_reports"
carried = ("learner.learner_key",)

UPGRADE = """
    ALTER TABLE learner ADD COLUMN learner_key bigint UNIQUE
        DEFAULT (hashtextextended(gen_random_uuid()::text, 0) & 9223372036854775807);
    COMMENT ON COLUMN learner.learner_key IS 'random number that verdicts and files carry in place of the id';
    INSERT INTO learner (user_id) SELECT DISTINCT user_id FROM response_log ORDER BY user_id ON CONFLICT DO NOTHING;

    CREATE TABLE item_time (
        month text NOT NULL, item_id text NOT NULL, median_ms double precision NOT NULL, n bigint NOT NULL,
        taken_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (month, item_id));
    COMMENT ON TABLE item_time IS 'Median response time of an item over the live answers of a month.';
    COMMENT ON COLUMN item_time.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
    COMMENT ON COLUMN item_time.item_id IS 'item';
    COMMENT ON COLUMN item_time.median_ms IS 'median response time of its live answers';
    COMMENT ON COLUMN item_time.n IS 'live answers with a response time';
    COMMENT ON COLUMN item_time.taken_at IS 'when it was computed from the log';

    CREATE TABLE attempt_verdict (
        attempt_id text NOT NULL, completed_at timestamptz NOT NULL, learner_key bigint NOT NULL,
        item_id text NOT NULL, scale_id text NOT NULL, reason text, score smallint, max_score smallint,
        rules_hash bigint NOT NULL, recorded_at timestamptz NOT NULL, judged_at timestamptz NOT NULL,
        PRIMARY KEY (attempt_id, completed_at)) PARTITION BY RANGE (completed_at);
    CREATE INDEX attempt_verdict_learner ON attempt_verdict (learner_key, completed_at);
    COMMENT ON TABLE attempt_verdict IS
        'Each attempt''s verdict: the score that counts, or the reason why it does not. Partitioned as response_log.';
    COMMENT ON COLUMN attempt_verdict.attempt_id IS 'id of the answer event';
    COMMENT ON COLUMN attempt_verdict.completed_at IS
        'when it was answered, or when an unanswered item left the screen';
    COMMENT ON COLUMN attempt_verdict.learner_key IS 'learner.learner_key';
    COMMENT ON COLUMN attempt_verdict.item_id IS 'item';
    COMMENT ON COLUMN attempt_verdict.scale_id IS 'bank whose items measure one ability';
    COMMENT ON COLUMN attempt_verdict.reason IS 'why it does not count; null: it counts';
    COMMENT ON COLUMN attempt_verdict.score IS 'the score that counts, from 0; null: none does';
    COMMENT ON COLUMN attempt_verdict.max_score IS 'highest score of the item; null: 1';
    COMMENT ON COLUMN attempt_verdict.rules_hash IS 'hash of the eligibility rules that judged it';
    COMMENT ON COLUMN attempt_verdict.recorded_at IS 'recorded_at of the answer as it was judged';
    COMMENT ON COLUMN attempt_verdict.judged_at IS 'when';

    CREATE TABLE judged_day (
        day date PRIMARY KEY, n bigint NOT NULL, recorded_sum numeric NOT NULL, revision_sum numeric NOT NULL,
        test_accounts text NOT NULL, items text NOT NULL, rules text NOT NULL,
        judged_at timestamptz NOT NULL DEFAULT now());
    COMMENT ON TABLE judged_day IS 'What the verdicts of a day were made from; if the log differs, it is judged again.';
    COMMENT ON COLUMN judged_day.day IS 'day of the answers (UTC)';
    COMMENT ON COLUMN judged_day.n IS 'attempts';
    COMMENT ON COLUMN judged_day.recorded_sum IS 'sum of recorded_at since 1970 (µs)';
    COMMENT ON COLUMN judged_day.revision_sum IS 'sum of revision';
    COMMENT ON COLUMN judged_day.test_accounts IS 'hash of its test accounts';
    COMMENT ON COLUMN judged_day.items IS 'hash of the scales and maximum scores of its items';
    COMMENT ON COLUMN judged_day.rules IS 'hash of the rules of its month, and of the times that judge it';
    COMMENT ON COLUMN judged_day.judged_at IS 'when';

    CREATE FUNCTION make_learners() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF current_setting('irt.makes_learners', true) = 'yes' THEN
            RETURN NULL;
          END IF;
          INSERT INTO {schema}.learner (user_id)
          SELECT DISTINCT n.user_id FROM new_attempts n
          WHERE NOT EXISTS (SELECT FROM {schema}.learner l WHERE l.user_id = n.user_id)
          ORDER BY 1 ON CONFLICT DO NOTHING;
          RETURN NULL;
        END $$;
    CREATE TRIGGER learners_of_new AFTER INSERT ON response_log REFERENCING NEW TABLE AS new_attempts
        FOR EACH STATEMENT EXECUTE FUNCTION make_learners();
    CREATE TRIGGER learners_of_changed AFTER UPDATE ON response_log REFERENCING NEW TABLE AS new_attempts
        FOR EACH STATEMENT EXECUTE FUNCTION make_learners();
"""


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(UPGRADE.replace("{schema}", schema))


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER learners_of_changed ON response_log;
        DROP TRIGGER learners_of_new ON response_log;
        DROP FUNCTION make_learners();
        DROP TABLE judged_day;
        DROP TABLE attempt_verdict;
        DROP TABLE item_time;
        ALTER TABLE learner DROP COLUMN learner_key;
        """
    )
