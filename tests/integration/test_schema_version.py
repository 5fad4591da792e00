"""Code and schema of different ages: what runs, what is refused with which sentence, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import alembic.command
import pytest

from resources.doctor import diagnose
from resources.failures import PermanentFailure
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.open_database import open_database
from resources.postgres.schema_version import COMMIT_OF_FIRST_SCHEMA, REMEDY, newest_known, schema_version
from resources.settings import Settings
from tests.helpers.rooms import rows, run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.typed import command_line

FIRST, BEFORE_THE_FIRST = "0057_verdict_state", "0039_learner_reports"
COMMANDS = (
    ("status",),
    ("prune", "--dry-run"),
    ("calibrate", "--month", "2026-06"),
    ("lineage", "A01"),
    ("import", "attempts", "answers.csv"),
    ("import", "questions", "answers.csv"),
    ("import", "learners", "answers.csv"),
    ("scale", "pass-mark", "1"),
    ("release", "list"),
    ("report", "drift", "--month", "2026-06"),
    ("runs", "list"),
)


@pytest.fixture
def typed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """What `irt` answers to these words: the exit code, and what it printed."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())

    irt = command_line(monkeypatch, capsys)

    def run(*words: str) -> tuple[int, str]:
        done = irt(*words)
        return done.code, done.out + done.err

    return run


def became(database: Database, revision: str, oldest_code: str | None) -> None:
    """The schema as if a migration that this code does not have had run."""
    run_sql(database, "UPDATE irt_alembic_version SET version_num = %s, oldest_code = %s", (revision, oldest_code))


def structure(database: Database) -> set[str]:
    """Every column and index, in words; the log's partitions come with the clock."""
    return {
        str(row)
        for query in (
            """SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name <> 'irt_alembic_version'
                 AND table_name !~ '^response_log_2'""",
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '^response_log_2'",
        )
        for row in rows(database, query)
    }


def test_every_command_names_the_way_to_the_newer_schema(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]]
) -> None:
    before = str(schema_version(database).revision)
    for words in COMMANDS:
        code, printed = typed(*words)
        assert (code, "run `irt db upgrade`" in printed, before in printed) == (2, True, True), (words, printed)
    assert typed("db", "upgrade") == (0, f"schema is at {next_version}, with its tables in public\n")
    assert schema_version(database).fault is None


@pytest.mark.parametrize("had_oldest_code", [True, False])
def test_a_schema_from_before_the_first_is_refused_by_every_command_and_by_an_upgrade(
    had_oldest_code: bool, database: Database, settings: Settings, typed: Callable[..., tuple[int, str]]
) -> None:
    """The commit whose code brings it to the first is named, as `irt db upgrade` of this code cannot."""
    became(database, BEFORE_THE_FIRST, None)
    if not had_oldest_code:
        run_sql(database, "ALTER TABLE irt_alembic_version DROP COLUMN oldest_code")
    before = structure(database)
    for words in (
        *COMMANDS,
        ("db", "upgrade"),
        ("serve",),
        ("run", "code-server"),
        ("run", "daemon"),
        ("run", "webserver"),
    ):
        code, printed = typed(*words)
        missing = unsaid(printed, f"at {BEFORE_THE_FIRST}", f"git checkout {COMMIT_OF_FIRST_SCHEMA}", "irt db upgrade")
        assert (code, missing) == (2, []), (words, printed)
    [finding] = [each for each in diagnose(settings) if each.subject == "schema"]
    assert (finding.state, finding.fix) == ("error", REMEDY)
    assert (schema_version(database).revision, structure(database)) == (BEFORE_THE_FIRST, before)


def test_a_newer_schema_that_serves_this_code_is_used_as_it_is(database: Database, settings: Settings) -> None:
    became(database, "0999_from_tomorrow", schema_version(database).revision)
    assert open_database(settings).url == database.url
    schema.upgrade(database)
    assert schema_version(database).revision == "0999_from_tomorrow"


@pytest.mark.parametrize("oldest_code", ["0998_breaks_it", None])
def test_a_newer_schema_that_does_not_serve_this_code_is_refused(
    oldest_code: str | None, database: Database, settings: Settings, typed: Callable[..., tuple[int, str]]
) -> None:
    became(database, "0999_from_tomorrow", oldest_code)
    for words in (("release", "list"), ("db", "upgrade")):
        code, printed = typed(*words)
        assert (code, "install the newer irt-assets" in printed) == (2, True), words


def test_the_newest_schema_says_which_code_it_serves(database: Database) -> None:
    version = schema_version(database)
    assert version.fault is None
    assert int(version.oldest_code[:4]) <= newest_known()  # type: ignore[index]


def test_each_way_back_leaves_what_was_there_before(database: Database, next_version: str) -> None:
    """Upgraded step by step from the first schema, and taken back step by step; no row is in the way."""
    config = schema._alembic()
    config.attributes["database"] = database
    names = [script.revision for script in schema.ScriptDirectory.from_config(config).walk_revisions()][::-1]
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    then = {}
    for name in names:
        alembic.command.upgrade(config, name)
        then[name] = structure(database)
    for name in names[-2::-1]:
        assert schema.downgrade(database, name) == schema_version(database).revision == name
        assert structure(database) == then[name], name
    schema.upgrade(database)
    assert structure(database) == then[next_version]


def test_going_back_is_refused_where_the_ledger_would_lose_something(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]]
) -> None:
    earlier = str(schema_version(database).revision)
    schema.upgrade(database)
    run_sql(
        database,
        "INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash, note) "
        "VALUES ('default', 1, 'A01', '{\"a\": 1, \"b\": 0, \"c\": 0}', false, 'x', 'kept')",
    )
    before = schema_version(database), structure(database)
    code, printed = typed("db", "downgrade", earlier[:4], "--yes")
    assert (code, "1 values of anchor_set.note" in printed) == (2, True)
    assert (schema_version(database), structure(database)) == before
    run_sql(database, "UPDATE anchor_set SET note = NULL")
    assert typed("db", "downgrade", earlier[:4], "--yes")[1].endswith(f"schema is at {earlier}\n")
    assert schema.drift(database) == []


@pytest.mark.parametrize("revision", ["0999", "", "0", "base", "head"])
def test_only_an_earlier_schema_can_be_gone_back_to(revision: str, database: Database, next_version: str) -> None:
    schema.upgrade(database)
    with pytest.raises(PermanentFailure, match="does not name one of the earlier"):
        schema.downgrade(database, revision)


def test_nothing_comes_before_the_first_schema(database: Database) -> None:
    run_sql(database, "UPDATE irt_alembic_version SET version_num = %s", (FIRST,))
    with pytest.raises(PermanentFailure, match=r"'0013' does not name one of the earlier \(there is none\)"):
        schema.downgrade(database, "0013")


def test_going_back_wants_a_backup(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = str(schema_version(database).revision)
    schema.upgrade(database)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, printed = typed("db", "downgrade", earlier)
    assert (code, "irt backup" in printed) == (2, True)
    assert schema_version(database).revision == next_version


def test_the_first_command_makes_an_embedded_database_with_its_schema(tmp_path: Path) -> None:
    """Doctor promises "made at first use"; the first import asked for `irt db upgrade` instead."""
    settings = Settings(irt_home=tmp_path / "home", _env_file=None)
    try:
        database = open_database(settings)
        assert schema_version(database).fault is None
        assert rows(database, "SELECT count(*) FROM response_log") == [(0,)]
    finally:
        EmbeddedPostgres(settings.irt_home / "postgres").stop()


def test_a_database_of_somebody_elses_server_is_not_migrated_unasked(database: Database, settings: Settings) -> None:
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(PermanentFailure, match="has no schema yet: run `irt db upgrade`"):
        open_database(settings)
    assert rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
