"""Snapshots that were written again with learners' keys: the hash by which they are cited, and the hash of the file."""

from alembic import op

revision = "0056_files_by_key"
down_revision = "0055_one_log"
oldest_code = "0056_files_by_key"
carried = ("snapshot_rewrite",)


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE snapshot_rewrite (
            old_hash text PRIMARY KEY, new_hash text NOT NULL, rewritten_at timestamptz NOT NULL DEFAULT now());
        COMMENT ON TABLE snapshot_rewrite IS
            'Snapshots that were searched for ids of learners, and written again with their keys if they had any.';
        COMMENT ON COLUMN snapshot_rewrite.old_hash IS 'hash under which the snapshot was taken and is cited';
        COMMENT ON COLUMN snapshot_rewrite.new_hash IS 'sha256 of the file in its place; equal if it had no ids';
        COMMENT ON COLUMN snapshot_rewrite.rewritten_at IS 'when';
        COMMENT ON COLUMN scored_snapshot.snapshot_hash IS
            'sha256 of the file, or of the former one that named learners by id (see snapshot_rewrite)';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE snapshot_rewrite;
        COMMENT ON COLUMN scored_snapshot.snapshot_hash IS 'sha256 of the file';
        """
    )
