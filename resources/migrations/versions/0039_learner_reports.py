"""`report_artifacts` shows the reports of learners alone, and a learner's quiet days do not date their week anew.

So that the documents' queries of the newest weeks and of the reports of a week answer what they ask.
"""

from alembic import op

revision = "0039_learner_reports"
down_revision = "0038_month_impact"
oldest_code = "0039_learner_reports"
COLUMNS = 'artifact_id, user_id, week_start, "window", format, url, sha256, generated_at, inputs_hash'


def _rename(old: str, new: str) -> None:
    op.execute(f"ALTER TABLE {old} RENAME TO {new}")
    for name in ("pkey", "one", "url", "week"):
        op.execute(f"ALTER INDEX {old}_{name} RENAME TO {new}_{name}")
    op.execute(f"ALTER SEQUENCE {old}_artifact_id_seq RENAME TO {new}_artifact_id_seq")


def upgrade() -> None:
    _rename("report_artifacts", "report_file")
    op.execute(
        f"""
        CREATE VIEW report_artifacts AS SELECT {COLUMNS} FROM report_file WHERE user_id IS NOT NULL;
        ALTER TABLE weekly_kpi ADD COLUMN inactivity_at timestamptz;
        COMMENT ON COLUMN weekly_kpi.inactivity_at IS
            'when P and S were last set because the learner had gone quiet; null: not since updated_at';
        COMMENT ON COLUMN weekly_kpi.updated_at IS
            'when the week was computed; its Monday where only P and S of a quiet learner were';
        """
    )


def downgrade() -> None:
    op.execute("DROP VIEW report_artifacts")
    _rename("report_file", "report_artifacts")
    op.execute(
        """
        UPDATE weekly_kpi SET updated_at = inactivity_at WHERE inactivity_at > updated_at;
        ALTER TABLE weekly_kpi DROP COLUMN inactivity_at;
        COMMENT ON COLUMN weekly_kpi.updated_at IS 'when this row was computed';
        """
    )
