"""The comments on decisions say that an anchor may be restored, as one that was dropped."""

from alembic import op

revision = "0032_restored_anchors"
down_revision = "0031_newer_rules"
oldest_code = "0013_abilities_by_window"

COMMENTS = {
    "decision": (
        "accept, reject, undo (of an accept or reject) or drop_anchor",
        "accept, reject, undo (of an accept or reject), drop_anchor or restore_anchor",
    ),
    "month": (
        "window of the proposal; of an anchor the first month without it",
        "window of the proposal; of an anchor the first month without it, or with it again",
    ),
}


def upgrade() -> None:
    for column, (_, comment) in COMMENTS.items():
        op.alter_column("release_decision", column, comment=comment)


def downgrade() -> None:
    for column, (comment, _) in COMMENTS.items():
        op.alter_column("release_decision", column, comment=comment)
