"""Where each pull from another database or a lake table stands, and which answers it brought."""

from alembic import op

revision = "0046_pull"
down_revision = "0045_inbox"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE pull_source (
            name text PRIMARY KEY, number integer GENERATED ALWAYS AS IDENTITY, columns jsonb NOT NULL,
            "position" jsonb NOT NULL, stood jsonb NOT NULL DEFAULT '[]', again jsonb, first_pull jsonb,
            refused jsonb NOT NULL DEFAULT '{}', notices_regrading boolean NOT NULL, stopped text,
            pulled_at timestamptz NOT NULL DEFAULT now());
        COMMENT ON TABLE pull_source IS 'Where each pull stands, in the transaction of the answers that it brought.';
        COMMENT ON COLUMN pull_source.name IS 'as the file of sources has it';
        COMMENT ON COLUMN pull_source.number IS 'response_log.pulled_from';
        COMMENT ON COLUMN pull_source.columns IS
            'names and types of its columns, and its zone, as the first pull had them';
        COMMENT ON COLUMN pull_source."position" IS
            'cursor and key of the last row that was taken; of an Iceberg table the snapshot';
        COMMENT ON COLUMN pull_source.stood IS
            'where it stood before, each with the time, for as long as rows may commit out of order';
        COMMENT ON COLUMN pull_source.again IS
            'what is to be read once more, from where to where, and since when; null: nothing is begun';
        COMMENT ON COLUMN pull_source.first_pull IS
            'days of the first pull that are to be read, in order; null: it is over';
        COMMENT ON COLUMN pull_source.refused IS
            'hashes of refused rows that are read again, each with the time: they count once';
        COMMENT ON COLUMN pull_source.notices_regrading IS 'whether its cursor is the time of the last write';
        COMMENT ON COLUMN pull_source.stopped IS 'why it is not pulled; null: it is';
        COMMENT ON COLUMN pull_source.pulled_at IS 'when it was last read';
        CREATE TABLE pull_day (
            name text NOT NULL, day date NOT NULL, there bigint NOT NULL,
            here bigint NOT NULL, missing bigint NOT NULL, vanished bigint NOT NULL, waits boolean NOT NULL,
            compared_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (name, day));
        COMMENT ON TABLE pull_day IS
            'Days of a source compared with the log: what was missing, and what it no longer has.';
        COMMENT ON COLUMN pull_day.name IS 'source';
        COMMENT ON COLUMN pull_day.day IS 'day of the answers (UTC)';
        COMMENT ON COLUMN pull_day.there IS 'rows of the source';
        COMMENT ON COLUMN pull_day.here IS 'answers of the log that came from it';
        COMMENT ON COLUMN pull_day.missing IS 'answers that were fetched, or are to be';
        COMMENT ON COLUMN pull_day.vanished IS 'answers that were withdrawn, or are to be';
        COMMENT ON COLUMN pull_day.waits IS
            'nothing was changed: it is more than 1 % of the day, and a person has to confirm it';
        COMMENT ON COLUMN pull_day.compared_at IS 'when';
        ALTER TABLE response_log ADD COLUMN pulled_from integer
            DEFAULT nullif(current_setting('irt.pull', true), '')::integer;
        ALTER TABLE attempt_correction ADD COLUMN pulled_from integer;
        COMMENT ON COLUMN response_log.pulled_from IS 'pull_source.number of the pull that brought it; null: none did';
        COMMENT ON COLUMN attempt_correction.pulled_from IS
            'pull_source.number of the pull that brought it; null: none did';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE attempt_correction DROP COLUMN pulled_from;
        ALTER TABLE response_log DROP COLUMN pulled_from;
        DROP TABLE pull_day;
        DROP TABLE pull_source;
        """
    )
