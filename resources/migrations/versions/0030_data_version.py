"""The hash of a month's answers is stored, with what proves that it still holds; triggers count the changes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0030_data_version"
down_revision = "0029_testlet_sd"
oldest_code = "0013_abilities_by_window"

UTC = TIMESTAMP(timezone=True)
TRIGGERS = {
    "response_log": {"log_changed": "INSERT OR UPDATE OR DELETE"},
    "question": {
        "item_added_or_removed": "INSERT OR DELETE",
        "item_changed": "UPDATE",
    },
    "learner": {
        "test_account_added": "INSERT",
        "test_account_changed": "UPDATE",
        "test_account_removed": "DELETE",
    },
}
WHEN = {
    "item_changed": """
        (OLD.item_id, OLD.scale_id, OLD.topic_id) IS DISTINCT FROM (NEW.item_id, NEW.scale_id, NEW.topic_id)""",
    "test_account_added": "NEW.is_test",
    "test_account_changed": "(OLD.user_id, OLD.is_test) IS DISTINCT FROM (NEW.user_id, NEW.is_test)",
    "test_account_removed": "OLD.is_test",
}
FUNCTIONS = {
    # Whoever may write answers need not be allowed to write the counts.
    "count_change(name text)": """
        RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE noted text := 'irt.changed_' || translate(name, '-', '_');
        BEGIN
          IF current_setting(noted, true) IS DISTINCT FROM 'yes' THEN
            INSERT INTO {schema}.data_change (part, changes) VALUES (name, 1);
            PERFORM set_config(noted, 'yes', true), set_config('irt.changes', 'yes', true);
          END IF;
        END $$""",
    "count_changed_day()": """
        RETURNS trigger LANGUAGE plpgsql AS $$
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
        END $$""",
    "count_changed_table()": """
        RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM {schema}.count_change(TG_TABLE_NAME);
          RETURN NULL;
        END $$""",
}


def upgrade() -> None:
    op.create_table(
        "data_change",
        sa.Column("change_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of writing"),
        sa.Column("part", sa.Text(), nullable=False, comment="a day of the log (UTC), question or learner"),
        sa.Column(
            "changes", sa.BigInteger(), nullable=False, comment="transactions that changed it; rows of a part add up"
        ),
        sa.PrimaryKeyConstraint("change_id"),
        comment="How often the answers of a day, the bank's items and scales, or the test accounts were changed. "
        "Written by triggers: equal sums prove that nothing was changed.",
    )
    op.create_index("data_change_part", "data_change", ["part"])
    op.create_table(
        "data_version",
        sa.Column("month", sa.Text(), nullable=False, comment="calendar month of the window, e.g. 2026-09 (UTC)"),
        sa.Column("encoding", sa.Integer(), nullable=False, comment="how rows are written out to be hashed"),
        sa.Column(
            "data_hash", sa.Text(), nullable=False, comment="hash of the month's answers as eligibility sees them"
        ),
        sa.Column(
            "log_state",
            sa.Text(),
            nullable=False,
            comment="changes of the window's days, its partitions and the query: where it is another now, the hash "
            "may be",
        ),
        sa.Column("bank_state", sa.Text(), nullable=False, comment="the same of the item bank"),
        sa.Column("account_state", sa.Text(), nullable=False, comment="the same of the learners"),
        sa.Column(
            "items",
            JSONB(),
            nullable=False,
            comment="items answered in the month: scale and topic; null where the bank did not have it",
        ),
        sa.Column("test_accounts", sa.Text(), nullable=False, comment="hash of the test accounts that answered"),
        sa.Column("computed_at", UTC, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("month", "encoding"),
        comment="The hash of a month's answers, and what proves that it still is.",
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for signature, body in FUNCTIONS.items():
        op.execute(f"CREATE FUNCTION {schema}.{signature} {body.format(schema=schema)}")
    for table, triggers in TRIGGERS.items():
        function = "count_changed_day" if table == "response_log" else "count_changed_table"
        for name, events in triggers.items():
            when = f"WHEN ({WHEN[name]})" if name in WHEN else ""
            op.execute(
                f"CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH ROW {when} "
                f"EXECUTE FUNCTION {schema}.{function}()"
            )
            # Also for what a replication writes.
            op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    for table, triggers in TRIGGERS.items():
        for name in triggers:
            op.execute(f"DROP TRIGGER {name} ON {table}")
    for signature in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_table("data_version")
    op.drop_table("data_change")
