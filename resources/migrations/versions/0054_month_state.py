"""Months close: what a closed month was made from is recorded, and every scale says after how many days.

And an UPDATE of an answer sets recorded_at, by which a day that has to be judged again is found.
"""

from alembic import context, op

revision = "0054_month_state"
down_revision = "0053_verdicts"
oldest_code = "0039_learner_reports"

UPGRADE = """
    CREATE TABLE month_state (
        month text NOT NULL, scale_id text NOT NULL, since timestamptz NOT NULL DEFAULT now(), state text NOT NULL,
        decided_by text NOT NULL, reason text NOT NULL, snapshot_hash text NOT NULL, rules jsonb NOT NULL,
        items jsonb NOT NULL, test_accounts jsonb NOT NULL, came jsonb NOT NULL DEFAULT '{}', counted_at timestamptz,
        PRIMARY KEY (month, scale_id, since));
    COMMENT ON TABLE month_state IS
        'Months that closed or were reopened. The newest row holds; without one, a month is open.';
    COMMENT ON COLUMN month_state.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
    COMMENT ON COLUMN month_state.scale_id IS 'bank whose items measure one ability';
    COMMENT ON COLUMN month_state.since IS 'since when';
    COMMENT ON COLUMN month_state.state IS 'closed or reopened';
    COMMENT ON COLUMN month_state.decided_by IS 'who reopened it; nightly: it closed by the rule late_days; upgrade';
    COMMENT ON COLUMN month_state.reason IS 'why';
    COMMENT ON COLUMN month_state.snapshot_hash IS 'sha256 of the file that the month closed with';
    COMMENT ON COLUMN month_state.rules IS 'the rules that its answers were judged by; absent ones are the defaults';
    COMMENT ON COLUMN month_state.items IS 'highest score of each item of the scale when it closed';
    COMMENT ON COLUMN month_state.test_accounts IS 'keys of the test accounts when it closed';
    COMMENT ON COLUMN month_state.came IS
        'its answers when it closed, those that changed since by kind, and the share of items with more than 5 %';
    COMMENT ON COLUMN month_state.counted_at IS 'when these were counted';

    CREATE FUNCTION keep_recorded_at() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.recorded_at := now();
          RETURN NEW;
        END $$;
    CREATE TRIGGER recorded_at_of_changed BEFORE UPDATE ON response_log FOR EACH ROW
        WHEN (NEW.recorded_at = OLD.recorded_at)
        EXECUTE FUNCTION keep_recorded_at();
    ALTER TABLE response_log ENABLE ALWAYS TRIGGER recorded_at_of_changed;

    INSERT INTO month_state
      (month, scale_id, since, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
    SELECT p.month, p.scale_id, s.created_at, 'closed', 'upgrade',
           'its publication step was done and late_days had passed', s.snapshot_hash, s.rules -> p.scale_id,
           coalesce((SELECT jsonb_object_agg(item_id, coalesce(max_score, 1)) FROM question q
                     WHERE q.scale_id = p.scale_id), '{}'),
           coalesce((SELECT jsonb_agg(learner_key) FROM learner WHERE is_test), '[]')
    FROM publication_step p
      JOIN calibration_scale c USING (scale_id)
      JOIN fit_staging f ON f.fit_id = p.fit_id
      JOIN scored_snapshot s ON (s.month, s.snapshot_hash) = (p.month, f.snapshot_hash)
        AND s.superseded_at IS NULL AND s.rules ? p.scale_id
    WHERE p.state = 'done'
      AND ((p.month || '-01')::timestamp + interval '1 month'
           + coalesce((c.rules ->> 'late_days')::int, 14) * interval '1 day') AT TIME ZONE 'UTC' <= now();
"""
NO_LIMIT = """
    UPDATE calibration_scale SET rules = rules - 'late_days' WHERE rules -> 'late_days' = 'null' RETURNING scale_id
"""
CLOSED = """
    SELECT scale_id, string_agg(month, ', ' ORDER BY month) FROM month_state GROUP BY scale_id ORDER BY scale_id
"""


def upgrade() -> None:
    connection, notes = op.get_bind(), context.config.attributes.setdefault("notes", [])
    op.execute(UPGRADE)
    for scale in sorted(scale for (scale,) in connection.exec_driver_sql(NO_LIMIT)):
        notes.append(
            f"scale {scale}: its rule late_days was empty and is 14 now: later answers count once a month is reopened"
        )
    for scale, months in connection.exec_driver_sql(CLOSED):
        notes.append(f"scale {scale}: closed with their stored files: {months}; all other months are open")


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER recorded_at_of_changed ON response_log;
        DROP FUNCTION keep_recorded_at();
        DROP TABLE month_state;
        """
    )
