"""What is made from verdicts is stored with their state, and triggers count no changes any more.

What an earlier release made is marked: days and weeks count as current, and months are compared in the next night.
Verdicts have an index by time, so that those of a day or week are found without reading their month.
"""

from alembic import op

revision = "0057_verdict_state"
down_revision = "0056_files_by_key"
oldest_code = "0057_verdict_state"

TRIGGERS = {
    "log_changed": "response_log",
    "item_added_or_removed": "question",
    "item_changed": "question",
    "test_account_added": "learner",
    "test_account_changed": "learner",
    "test_account_removed": "learner",
}
COUNTING = r"""
    CREATE TABLE data_change (
        change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, part text NOT NULL, changes bigint NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX data_change_part ON data_change (part);
    CREATE TABLE data_version (
        month text PRIMARY KEY, data_hash text NOT NULL, log_state text NOT NULL, bank_state text NOT NULL,
        account_state text NOT NULL, items jsonb NOT NULL, test_accounts text NOT NULL,
        computed_at timestamptz NOT NULL DEFAULT now());

CREATE FUNCTION count_change(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE noted text := 'irt.changed_' || translate(name, '-', '_');
        BEGIN
          IF current_setting(noted, true) IS DISTINCT FROM 'yes' THEN
            INSERT INTO {schema}.data_change (part, changes) VALUES (name, 1);
            PERFORM set_config(noted, 'yes', true), set_config('irt.changes', 'yes', true);
          END IF;
        END $$;

CREATE FUNCTION count_changed_day() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE day text;
        BEGIN
          IF TG_OP <> 'DELETE' THEN
            day := to_char(NEW.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD');
            IF current_setting('irt.changed_' || translate(day, '-', '_'), true) IS DISTINCT FROM 'yes' THEN
              PERFORM {schema}.count_change(day);
            END IF;
          END IF;
          IF TG_OP <> 'INSERT' THEN
            PERFORM {schema}.count_change(to_char(OLD.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'));
          END IF;
          RETURN NULL;
        END $$;

CREATE FUNCTION count_changed_table() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM {schema}.count_change(TG_TABLE_NAME);
          RETURN NULL;
        END $$;

    CREATE TRIGGER log_changed AFTER INSERT OR UPDATE OR DELETE ON response_log FOR EACH ROW
        EXECUTE FUNCTION count_changed_day();
    CREATE TRIGGER item_added_or_removed AFTER INSERT OR DELETE ON question FOR EACH ROW
        EXECUTE FUNCTION count_changed_table();
    CREATE TRIGGER item_changed AFTER UPDATE ON question FOR EACH ROW
        WHEN ((OLD.item_id, OLD.scale_id, OLD.topic_id, OLD.max_score) IS DISTINCT FROM
              (NEW.item_id, NEW.scale_id, NEW.topic_id, NEW.max_score))
        EXECUTE FUNCTION count_changed_table();
    CREATE TRIGGER test_account_added AFTER INSERT ON learner FOR EACH ROW
        WHEN (NEW.is_test)
        EXECUTE FUNCTION count_changed_table();
    CREATE TRIGGER test_account_changed AFTER UPDATE ON learner FOR EACH ROW
        WHEN ((OLD.user_id, OLD.is_test) IS DISTINCT FROM (NEW.user_id, NEW.is_test))
        EXECUTE FUNCTION count_changed_table();
    CREATE TRIGGER test_account_removed AFTER DELETE ON learner FOR EACH ROW
        WHEN (OLD.is_test)
        EXECUTE FUNCTION count_changed_table();
"""


def upgrade() -> None:
    for trigger, table in TRIGGERS.items():
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    op.execute(
        """
        DROP FUNCTION count_changed_day();
        DROP FUNCTION count_changed_table();
        DROP FUNCTION count_change(text);
        DROP TABLE data_change;
        DROP TABLE data_version;

        CREATE INDEX attempt_verdict_time ON attempt_verdict USING brin (completed_at) WITH (autosummarize = on);
        ALTER TABLE scored_snapshot ADD COLUMN verdict_state text;
        COMMENT ON COLUMN scored_snapshot.verdict_state IS
            'state of the verdicts it was read from; null: made by an earlier release, and not compared yet';
        COMMENT ON COLUMN judged_day.judged_at IS 'when a verdict of it last changed';
        COMMENT ON TABLE partition_source IS
            'What days of features, weeks of KPIs and item times were made from: if it is another now, they are stale.';
        COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily, weekly_kpi or item_response_time';
        COMMENT ON COLUMN partition_source.partition IS 'a day; the Monday of a week; as_of/since of item times';
        COMMENT ON COLUMN partition_source.data_hash IS
            'state of the verdicts, of item times hash of the answers; earlier: made by a release that stored neither';
        UPDATE partition_source SET data_hash = 'earlier' WHERE asset = 'features_topic_daily';
        INSERT INTO partition_source (asset, partition, data_hash)
        SELECT DISTINCT 'weekly_kpi', week_start::text, 'earlier' FROM weekly_kpi;
        """
    )


def downgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(
        """
        DELETE FROM partition_source WHERE asset = 'weekly_kpi';
        DROP INDEX attempt_verdict_time;
        ALTER TABLE scored_snapshot DROP COLUMN verdict_state;
        """
        + COUNTING.replace("{schema}", schema)
    )
    for trigger, table in TRIGGERS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
