"""Decisions on proposals can be undone by another; a view tells which of them stand."""

from alembic import op

revision = "0017_undone_decisions"
down_revision = "0016_item_response_time"
oldest_code = "0013_abilities_by_window"

COMMENTS = {
    ("item_parameter_publication", "rule"): (
        "origin, first or decision",
        "origin, first, decision or undo (of a decision: the values before it)",
    ),
    ("release_decision", "decision"): (
        "accept, reject or drop_anchor",
        "accept, reject, undo (of an accept or reject) or drop_anchor",
    ),
    ("release_decision", "effective_from"): ("from when on, where accepted", "from when on, where values change"),
}


def upgrade() -> None:
    for (table, column), (_, comment) in COMMENTS.items():
        op.alter_column(table, column, comment=comment)
    op.execute("""
        CREATE VIEW standing_decision AS
        SELECT * FROM (
          SELECT DISTINCT ON (month, scale_id, item_id, fit_id) *
          FROM release_decision
          WHERE decision IN ('accept', 'reject', 'undo')
          ORDER BY month, scale_id, item_id, fit_id, decision_id DESC) last
        WHERE decision <> 'undo'
    """)


def downgrade() -> None:
    op.execute("DROP VIEW standing_decision")
    for (table, column), (comment, _) in COMMENTS.items():
        op.alter_column(table, column, comment=comment)
