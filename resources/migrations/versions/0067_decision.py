"""One table for decisions. The first kinds in it: reopened months, items' use, and policies of adaptive tests.

Former rows get new numbers in order of time, after the running maximum of each table's times, because a clock may have
been set back. New decisions are numbered after all former numbers, which the view `item_status` shows.

Earlier code can read the new schema. Its decisions of these kinds fail: the view takes no rows, and reopened months and
policies must name their decision.
"""

from alembic import op

revision = "0067_decision"
down_revision = "0066_month_verdict"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE decision (
            decision_id BIGINT GENERATED ALWAYS AS IDENTITY,
            kind TEXT NOT NULL,
            scale_id TEXT NOT NULL,
            subject TEXT DEFAULT '' NOT NULL,
            "window" TEXT,
            value JSONB NOT NULL,
            undoes BIGINT,
            effective_from TIMESTAMP WITH TIME ZONE,
            decided_by TEXT NOT NULL,
            reason TEXT NOT NULL,
            decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            former_table TEXT,
            former_id BIGINT,
            PRIMARY KEY (decision_id)
        );
        CREATE INDEX decision_subject ON decision (kind, scale_id, subject);
        COMMENT ON TABLE decision IS
            'Decisions of people, of all kinds that `irt decisions` lists. Append-only.';
        COMMENT ON COLUMN decision.decision_id IS 'number of the decision, in order';
        COMMENT ON COLUMN decision.kind IS 'kind of the decision, such as: withdraw an item';
        COMMENT ON COLUMN decision.scale_id IS 'scale';
        COMMENT ON COLUMN decision.subject IS 'item or test that was decided on; empty: the window';
        COMMENT ON COLUMN decision."window" IS 'month that was decided on; null: no month';
        COMMENT ON COLUMN decision.value IS 'decided value; its fields depend on the kind';
        COMMENT ON COLUMN decision.undoes IS 'decision that this one undoes';
        COMMENT ON COLUMN decision.effective_from IS
            'time from which the decision holds; null: the time of the decision';
        COMMENT ON COLUMN decision.decided_by IS 'person who decided';
        COMMENT ON COLUMN decision.reason IS 'reason';
        COMMENT ON COLUMN decision.decided_at IS 'time of the decision';
        COMMENT ON COLUMN decision.former_table IS
            'table that had the decision before an upgrade; null: made since';
        COMMENT ON COLUMN decision.former_id IS 'number of the decision in former_table';

        INSERT INTO decision (kind, scale_id, subject, "window", value, effective_from, decided_by, reason, decided_at,
                              former_table, former_id)
        SELECT kind, scale_id, subject, "window", value, effective_from, decided_by, reason, decided_at, former_table,
               former_id
        FROM (
            SELECT 'reopen a month' AS kind, scale_id, '' AS subject, month AS "window",
                   jsonb_build_object('snapshot_hash', snapshot_hash) AS value, NULL AS effective_from, decided_by,
                   reason, since AS decided_at, 'month_state' AS former_table, state_id AS former_id
            FROM month_state WHERE state = 'reopened'
            UNION ALL
            SELECT CASE state WHEN 'withdrawn' THEN 'withdraw an item' ELSE 'restore an item' END,
                   coalesce(scale_id, 'default'), item_id, NULL, jsonb_build_object('state', state), effective_from,
                   decided_by, reason, decided_at, 'item_status', status_id
            FROM item_status LEFT JOIN question USING (item_id)
            UNION ALL
            SELECT 'set the policy of a test', scale_id, test_id, NULL, jsonb_build_object('policy', policy),
                   effective_from, decided_by, reason, decided_at, 'adaptive_test', version
            FROM adaptive_test) former
        ORDER BY max(decided_at) OVER (PARTITION BY former_table ORDER BY former_id), former_table, former_id;

        ALTER TABLE month_state ADD COLUMN decision_id BIGINT;
        COMMENT ON COLUMN month_state.decision_id IS 'decision that reopened the month; null: closed';
        UPDATE month_state SET decision_id = d.decision_id FROM decision d
        WHERE (d.former_table, d.former_id) = ('month_state', state_id);
        ALTER TABLE month_state ADD CONSTRAINT month_state_reopened_by_decision
            CHECK (state <> 'reopened' OR decision_id IS NOT NULL);
        ALTER TABLE adaptive_test ADD COLUMN decision_id BIGINT;
        COMMENT ON COLUMN adaptive_test.decision_id IS 'decision that made this version';
        UPDATE adaptive_test SET decision_id = d.decision_id FROM decision d
        WHERE (d.former_table, d.former_id) = ('adaptive_test', version);
        ALTER TABLE adaptive_test ALTER COLUMN decision_id SET NOT NULL;
        UPDATE decision SET undoes = undone.decision_id
        FROM adaptive_test test JOIN adaptive_test undone ON undone.version = test.undoes
        WHERE test.decision_id = decision.decision_id;

        DO $$
            BEGIN
              IF (SELECT count(*) FROM adaptive_test WHERE undoes IS NOT NULL) <> (SELECT count(undoes) FROM decision)
              THEN
                RAISE EXCEPTION 'adaptive_test.undoes must name a version, got: %', (
                  SELECT string_agg(undoes::text, ', ') FROM adaptive_test
                  WHERE undoes NOT IN (SELECT version FROM adaptive_test));
              END IF;
            END $$;
        SELECT setval(pg_get_serial_sequence('decision', 'decision_id'),
                      greatest(max(decision_id), max(former_id), 0) + 1, false)
        FROM decision;

        DROP VIEW item_withdrawal;
        DROP TABLE item_status;
        CREATE VIEW item_status AS
            SELECT coalesce(former_id, decision_id) AS status_id, subject AS item_id, value ->> 'state' AS state,
                   effective_from, reason, decided_by, decided_at
            FROM decision
            WHERE kind IN ('withdraw an item', 'restore an item');
        """
        + ITEM_WITHDRAWAL
    )


def downgrade() -> None:
    """Return migrated decisions to their tables. `resources.postgres.schema` refuses to drop later ones."""
    op.execute(
        """
        DROP VIEW item_withdrawal;
        DROP VIEW item_status;
        CREATE TABLE item_status (
            status_id BIGINT GENERATED ALWAYS AS IDENTITY,
            item_id TEXT NOT NULL,
            state TEXT NOT NULL,
            effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
            reason TEXT NOT NULL,
            decided_by TEXT NOT NULL,
            decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (status_id)
        );
        CREATE INDEX item_status_item ON item_status (item_id, effective_from);
        INSERT INTO item_status (status_id, item_id, state, effective_from, reason, decided_by, decided_at)
        OVERRIDING SYSTEM VALUE
        SELECT former_id, subject, value ->> 'state', effective_from, reason, decided_by, decided_at
        FROM decision WHERE former_table = 'item_status';
        SELECT setval(pg_get_serial_sequence('item_status', 'status_id'), coalesce(max(status_id), 0) + 1, false)
        FROM item_status;
        """
        + ITEM_WITHDRAWAL
        + """
        ALTER TABLE month_state DROP COLUMN decision_id;
        ALTER TABLE adaptive_test DROP COLUMN decision_id;
        DROP TABLE decision;
        """
    )


ITEM_WITHDRAWAL = """
        CREATE VIEW item_withdrawal AS
            SELECT item_id, since, until, reason, decided_by, decided_at FROM (
              SELECT *, effective_from AS since, lead(effective_from) OVER (
                PARTITION BY item_id ORDER BY effective_from, status_id) AS until
              FROM item_status) decided
            WHERE state = 'withdrawn' AND (until IS NULL OR until > since);
        """
