"""How a schema is named to a connection, and that every connection is made in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.database_url import with_search_path
from resources.postgres.own_schema import first_of, named_schema, path_option
from resources.postgres.roles import role_statements
from resources.settings import Settings, get_settings

ROOT = Path(__file__).parents[2]
MADE_IN = {
    "resources/postgres/database.py": {"Connection.connect(", "create_engine("},
    "services/theta_api/ledger.py": {"ConnectionPool("},
    "irt_assets/intake/pulling/rows.py": {"create_engine("},  # to databases of others
}


def settings(options: str = "", **others: object) -> Settings:
    url = f"postgresql://u:p%40@h/d?sslmode=require&options={options}"
    return Settings(database_url=SecretStr(url), _env_file=None, **others)  # type: ignore[arg-type]


def test_connections_are_made_in_one_place() -> None:
    """A connection made elsewhere would see other schemas, and other options than DATABASE_URL's."""
    made = re.compile(
        r"\b(?:Async)?Connection\.connect\(|\bpsycopg2?\.connect\(|\bcreate_(?:async_)?engine\(|\b\w*ConnectionPool\("
    )
    found: dict[str, set[str]] = {}
    for folder in ("irt_assets", "jobs", "resources", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            if names := set(made.findall(path.read_text("utf-8"))):
                found[str(path.relative_to(ROOT))] = names
    assert found == MADE_IN
    assert "kwargs=self._database.arguments(" in (ROOT / "services/theta_api/ledger.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("irt", "irt"),
        ('"$user", public', "public"),
        ('"Five\'s ""own""" , public', 'Five\'s "own"'),
        ("pg_catalog,Exam", "exam"),
        ('"$user"', None),
        ("", None),
    ],
)
def test_the_first_schema_of_a_path_is_the_one_that_is_named(path: str, first: str | None) -> None:
    assert first_of(path) == first


@pytest.mark.parametrize("name", ["irt", "Five's own", 'a "b" \\c'])
def test_a_schema_is_named_by_an_option_that_is_read_back(name: str) -> None:
    url = with_search_path("postgresql://u:p%40@h/d?sslmode=require&options=-c%20a%3Db", name)
    parts = conninfo_to_dict(url)
    assert (parts["password"], parts["sslmode"]) == ("p@", "require")
    assert parts["options"] == f"-c a=b {path_option(name)}"
    assert named_schema(settings(), str(parts["options"])) == name


def test_the_setting_counts_more_than_the_address_whose_last_option_counts() -> None:
    options = "-c search_path=first --search-path=second -c statement_timeout=5s"
    assert named_schema(settings(), options) == "second"
    assert named_schema(settings(irt_db_schema="third"), options) == "third"
    assert named_schema(settings(), "-c statement_timeout=5s") is None


def test_the_options_of_the_address_stay_and_ours_come_last() -> None:
    database = Database(settings("-c%20statement_timeout%3D5s", irt_db_schema="exam"))
    options = database.arguments("-c statement_timeout=9s", application_name="other")["options"]
    assert options.startswith("-c statement_timeout=9s -c statement_timeout=5s -c timezone=UTC ")
    assert options.endswith(" -c search_path=exam")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IRT_DB_SCHEMA", "Exam", "IRT_DB_SCHEMA"),
        ("IRT_DB_SCHEMA", "dagster", "name one schema"),
        ("IRT_DAGSTER_SCHEMA", "a.b", "IRT_DAGSTER_SCHEMA"),
    ],
)
def test_a_name_that_no_schema_of_ours_can_have_is_refused(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PermanentFailure, match=said):
        get_settings()


def test_where_our_tables_are_in_public_its_owner_stays() -> None:
    names = {"owner": "o", "service": "s", "reader": "r", "database": "d", "schema": "public", "dagster": "dagster"}
    text = "\n".join(role_statements(["exam.Results"], **names))
    assert 'GRANT USAGE, CREATE ON SCHEMA "public" TO "o"' in text
    assert 'ALTER SCHEMA "public"' not in text
    assert 'GRANT SELECT ON "exam"."Results" TO "o"' in text
