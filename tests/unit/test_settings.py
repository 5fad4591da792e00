"""Settings: sources, validation, secrets in errors, database URLs, and schemas."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr, ValidationError
from sqlalchemy import make_url

from resources.alerts.notifier import problems
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.database_url import TIMEOUTS, with_search_path
from resources.postgres.own_schema import first_of, named_schema, path_option
from resources.postgres.roles import role_statements
from resources.serving.logs import passwords_of, without_password
from resources.settings import Settings, configured_names, get_settings, known_names, private_home, write_env_file


def test_settings_have_the_documented_defaults(tmp_path: Path) -> None:
    settings = Settings(_env_file=None)
    found = settings.irt_home, settings.database_url, settings.s3_bucket, settings.irt_time_zone
    assert found == (tmp_path / "irt", None, None, "UTC")  # IRT_HOME is set for all tests


def test_environment_has_precedence_over_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / "other.env"
    env_file.write_text("IRT_UI_PORT=4000\nS3_BUCKET='from file'\n# a comment\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("IRT_ENV_FILE", str(env_file))
    monkeypatch.setenv("IRT_UI_PORT", "5000")
    settings = get_settings()
    assert (settings.irt_ui_port, settings.s3_bucket) == (5000, "from file")


def test_values_written_to_the_env_file_are_read_and_other_lines_are_kept(tmp_path: Path) -> None:
    (tmp_path / "irt").mkdir()
    (tmp_path / "irt" / "irt.env").write_text("# mine\nIRT_UI_PORT=4000\n")
    path = write_env_file(get_settings(), irt_ui_port="4001", irt_first_month="2026-07")
    assert (get_settings().irt_ui_port, get_settings().irt_first_month) == (4001, "2026-07")
    assert "# mine" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("before", "after"), [(None, 0o700), (0o755, 0o700), (0o777, 0o700), (0o1777, 0o1777)])
def test_home_is_made_private_unless_the_folder_has_the_sticky_bit(
    before: int | None, after: int, tmp_path: Path
) -> None:
    """IRT_HOME=/tmp, set by root, must not make /tmp private."""
    home = tmp_path / "irt"
    if before is not None:
        home.mkdir()
        home.chmod(before)
    assert private_home(get_settings()).stat().st_mode & 0o7777 == after


def test_error_names_a_home_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "irt").write_text("a file")
    with pytest.raises(PermanentFailure, match=r"IRT_HOME .*irt cannot be used"):
        private_home(get_settings())


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = get_settings()
    monkeypatch.setenv("IRT_UI_PORT", "5000")
    assert get_settings() is first


@pytest.mark.parametrize("name", ["DATABASE_URL", "S3_BUCKET"])
def test_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A compose file passes unset variables as `DATABASE_URL=`."""
    monkeypatch.setenv(name, "")
    assert getattr(Settings(_env_file=None), name.lower()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("irt_first_month", "2026-13"),
        ("irt_first_month", "2026-7"),
        ("irt_first_month", "July"),
        ("irt_ui_port", "0"),
        ("irt_ui_port", "seventy"),
        ("irt_ui_url", "irt.example.org"),
        ("irt_ui_url", "ftp://irt.example.org"),
        ("irt_ui_url", "https://irt.example.org/?a=1"),
        ("irt_threads", "0"),
        ("irt_time_zone", "Europe/Atlantis"),
        ("irt_time_zone", "../../etc/passwd"),
        *(("irt_code_server", value) for value in ("irt-code-server", "http://irt-code-server:4266", ":4266", "a b:1")),
        *(("irt_run_resources", value) for value in ("monthly", "monthly=4", "monthly=4/16GB", "yearly=1/1Gi")),
        ("irt_run_resources", "monthly=-1/1Gi"),
        *(("jwt_cookie_name", value) for value in ("", "a b", "a=b", "a;b", "é")),
        *(("jwt_jwks_url", value) for value in ("http://login.example.org/jwks", "ftp://x/y", "https://u:p@x/y")),
        *(("jwt_jwks_url", value) for value in ("x", "https://", "file:///k")),
    ],
)
def test_invalid_values_are_refused_with_the_name_of_their_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name.upper(), value)
    with pytest.raises(ValidationError, match=name):
        Settings(_env_file=None)


def test_relative_home_is_resolved_against_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRT_HOME", "here")
    settings = Settings(_env_file=None)
    monkeypatch.chdir("/")
    assert settings.irt_home == tmp_path / "here"


@pytest.mark.parametrize(
    "given",
    [
        "postgres://u:p%40@h:5432/d?sslmode=require",
        "postgresql://u:p%40@h:5432/d?sslmode=require",
        "postgresql+psycopg://u:p%40@h:5432/d?sslmode=require",
        "postgresql+psycopg2://u:p%40@h:5432/d?sslmode=require\n",
    ],
)
def test_usual_forms_of_the_database_url_are_accepted(given: str) -> None:
    database = Database(Settings(database_url=SecretStr(given), _env_file=None))
    rest = "u:p%40@h:5432/d?sslmode=require"
    assert (database.url, database.arguments()["password"]) == (f"postgresql://{rest}", "p@")


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:p%40@h:5432/d?sslmode=require",
        "postgresql://u@a:5431,b:5432/d?target_session_attrs=read-write",
        "postgresql://u@[::1]:5432/d",
        "postgresql://u@%2Frun%2Fpostgresql/d",
        "postgresql://u@h/d?connect_timeout=2",
    ],
)
def test_dagster_uses_the_connection_options_of_the_url_and_default_timeouts(given: str) -> None:
    database = Database(Settings(database_url=SecretStr(given), _env_file=None))
    url = make_url(database.dagster_url)
    _, arguments = url.get_dialect()().create_connect_args(url)
    assert {name: str(value) for name, value in arguments.items()} == TIMEOUTS | conninfo_to_dict(given) | {
        "options": "-c search_path=dagster"
    }


@pytest.mark.parametrize("given", ["mysql://u:secret@h/d", "localhost/d", "postgresql://", "host=h password=secret"])
def test_url_of_a_different_database_system_is_refused_without_its_text(given: str) -> None:
    with pytest.raises(PermanentFailure, match="DATABASE_URL must start with postgresql://") as refused:
        _ = Database(Settings(database_url=SecretStr(given), _env_file=None)).url
    assert "secret" not in str(refused.value)


SECRET = "S3cretX"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("postgresql://u:ab/S3cretX@h:5432/d", "an @ too many"),
        ("postgresql://u:ab@S3cretX@h:5432/d", "an @ too many"),
        ("postgresql://u:ab@/S3cretX@h/d", "an @ too many"),
        ("postgresql://u:ab%S3cretX@h/d", "a % that begins no"),
        ("postgresql://u:%00S3cretX@h/d", "a % that begins no"),
        ("postgresql://u:ab S3cretX@h/d", "a space"),
        ("postgresql://u:ab\nS3cretX@h/d", "a control character"),
        ("postgresql://u:ab\udcffS3cretX@h/d", "a control character"),
        ("postgresql://u:S3cretX@h:5432port/d", "no number from 1 to 65535"),
        ("postgresql://u:S3cretX@h:543200/d", "no number from 1 to 65535"),
        ("postgresql://:S3cretX", "no number from 1 to 65535"),
        ("postgresql://u:S3cretX@[::1:5432/d", "without its ]"),
        ("postgresql://u:S3cretX@h/d?S3cretX=1", "after its ?"),
        ("postgresql://u:S3cretX@h/d?S3cretX", "after its ?"),
        ("postgresql://u:ab@c?S3cretX@h/d", "after its ?"),
    ],
)
def test_error_for_a_malformed_url_gives_the_fault_and_no_part_of_the_url(given: str, fault: str) -> None:
    """libpq and SQLAlchemy quote a part that they cannot parse, which may be the password."""
    with pytest.raises(PermanentFailure, match="DATABASE_URL") as refused:
        _ = Database(Settings(database_url=SecretStr(given), _env_file=None)).url
    assert fault in str(refused.value)
    assert not any(part in str(refused.value) for part in (SECRET, "5432", "u:", "ab", given))
    assert SECRET not in printed_traceback(refused)


@pytest.mark.parametrize("option", ["sslmode", "channel_binding", "target_session_attrs"])
def test_error_does_not_contain_a_value_that_libpq_refuses(option: str) -> None:
    url = SecretStr(f"postgresql://u@127.0.0.1:1/d?{option}={SECRET}")
    database = Database(Settings(database_url=url, _env_file=None))
    with pytest.raises(PermanentFailure, match=f"DATABASE_URL gives {option}") as refused, database.connect():
        pass
    assert SECRET not in printed_traceback(refused)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "irt_home"])
def test_error_for_an_invalid_setting_does_not_contain_its_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret may have been pasted under the wrong name."""
    monkeypatch.setenv(name.upper(), SECRET)
    with suppress(PermanentFailure):
        get_settings()
        return
    with pytest.raises(PermanentFailure, match=name.upper()) as refused:
        get_settings()
    assert SECRET not in printed_traceback(refused)
    with pytest.raises(ValidationError, match=f"(?i){name}") as refused_by_pydantic:
        Settings(_env_file=None)
    assert SECRET not in printed_traceback(refused_by_pydantic)


def test_error_names_an_env_file_that_is_not_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binary.env").write_bytes(b"DATABASE_URL=\xff" + SECRET.encode())
    monkeypatch.setenv("IRT_ENV_FILE", str(tmp_path / "binary.env"))
    with pytest.raises(PermanentFailure, match=r"binary\.env is not UTF-8") as refused:
        get_settings()
    assert SECRET not in printed_traceback(refused)


@pytest.mark.parametrize("url", [f"smtp://u:{SECRET}/ab@h:25", f"smtp://u:[{SECRET}]@h", f"smtp://u:[{SECRET}@h"])
def test_error_for_an_invalid_alert_address_does_not_contain_its_value(url: str) -> None:
    settings = Settings(
        smtp_url=SecretStr(url),
        alert_email="a@b.org",
        alert_webhook_url=SecretStr(url.replace("smtp", "https")),
        slack_webhook_url=SecretStr(url.replace("smtp", "https")),
        _env_file=None,
    )
    message = "\n".join(problems(settings))
    assert all(name in message for name in ("SMTP_URL", "ALERT_WEBHOOK_URL", "SLACK_WEBHOOK_URL"))
    assert SECRET not in message


def printed_traceback(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the printed traceback, including causes."""
    return "".join(traceback.format_exception(caught.value))


def test_password_is_hidden_in_representations_of_settings() -> None:
    settings = Settings(database_url=SecretStr("postgresql://u:secret@h/d"), _env_file=None)
    assert "secret" not in repr(settings) + str(settings.model_dump())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql:///d?host=/run&password=secret&user=u", "postgresql:///d?host=/run&password=***&user=u"),
        ("postgresql://u:se@cr/et@h/d", "postgresql://u:***@h/d"),
        ('bad URI "postgresql://u:secret@h:port/d": port', 'bad URI "postgresql://u:***@h:port/d": port'),
        ("postgresql://u:@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://u@h/d?sslmode=require&sslpassword=geheim&password=secret&application_name=irt",
            "postgresql://u@h/d?sslmode=require&sslpassword=***&password=***&application_name=irt",
        ),
        ("https://h/x?access_token=a.b&page=2", "https://h/x?access_token=***&page=2"),
        ("https://h/x?KEY=a&X-Amz-Signature=0f&X-Amz-Date=1", "https://h/x?KEY=***&X-Amz-Signature=***&X-Amz-Date=1"),
        (
            'cannot open "https://h/x?api_key=a;client_secret=b"',
            'cannot open "https://h/x?api_key=***;client_secret=***"',
        ),
        ("is key=B right? partition_key=2026-06", "is key=B right? partition_key=2026-06"),
    ],
)
def test_password_is_removed_from_a_printed_url(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_passwords_in_the_query_of_a_url_are_found() -> None:
    """libpq accepts a password there, too. Log lines must hide it, whatever the text around it."""
    url = "postgresql://u:first%40@h/d?sslmode=require&password=sec%20ond&sslpassword=third"
    assert passwords_of(url) == {"first%40", "first@", "sec%20ond", "sec ond", "third"}
    assert passwords_of("postgresql://h/d?keepalives_idle=3") == {""}


def test_unknown_names_of_settings_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "irt").mkdir()
    (tmp_path / "irt" / "irt.env").write_text("DATABSE_URL=x\nIRT_UI_PORT=1\n")
    monkeypatch.setenv("IRT_TREADS", "2")
    given = configured_names(get_settings())
    assert {name for name in given if name not in known_names()} == {"DATABSE_URL", "IRT_TREADS"}
    assert given["DATABSE_URL"].endswith("irt.env")


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        (None, ""),
        ("https://irt.example.org/", ""),
        ("https://example.org/dagster/", "/dagster"),
        ("http://h:1/a/b", "/a/b"),
    ],
)
def test_prefix_of_the_ui_is_the_path_of_its_address(url: str | None, prefix: str) -> None:
    assert Settings(irt_ui_url=url, _env_file=None).ui_prefix == prefix


@pytest.mark.parametrize(
    ("values", "handed_out"),
    [
        ({}, True),
        ({"irt_ui_url": "http://localhost:3000/dagster"}, True),
        ({"irt_ui_url": "https://irt.example.org"}, False),
        ({"irt_ui_url": "https://irt.example.org", "irt_ui_learner_reports": "true"}, True),
        ({"irt_ui_learner_reports": "false"}, False),
        ({"irt_ui_learner_reports": ""}, True),
    ],
)
def test_learner_reports_are_served_by_default_only_if_the_ui_is_local(
    values: dict[str, str], handed_out: bool
) -> None:
    assert Settings(_env_file=None, **values).ui_hands_out_learner_reports is handed_out


PG = {"PGHOST": "db.example.org", "PGUSER": "irt@corp", "PGPASSWORD": "a/b:c", "PGDATABASE": "bank"}


PARTS = {"host": "db.example.org", "port": "5432", "user": "irt@corp", "password": "a/b:c", "dbname": "bank"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (PG, PARTS),
        (PG | {"PGDATABASE": "", "PGUSER": "irt"}, PARTS | {"user": "irt", "dbname": "irt"}),
        (
            {"PGHOST": "/run/postgresql", "PGDATABASE": "bank"},
            {"host": "/run/postgresql", "port": "5432", "dbname": "bank"},
        ),
    ],
    ids=["all", "a database of the user's name", "a folder of sockets"],
)
def test_database_url_is_built_from_libpq_variables_if_no_url_is_set(
    variables: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = get_settings()
    assert settings.database_url is not None
    assert conninfo_to_dict(settings.database_url.get_secret_value()) == expected
    assert "a/b:c" not in repr(settings)


@pytest.mark.parametrize(
    "more",
    [{"DATABASE_URL": "postgresql://other/x"}, {"DATABASE_URL": ""}, {"PGHOST": ""}, {"PGDATABASE": "", "PGUSER": ""}],
)
def test_libpq_variables_are_ignored_if_incomplete_or_if_the_url_is_set(
    more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Child processes of servers have an empty DATABASE_URL, and PGHOST alone is intended for psql."""
    for name, value in {**PG, **more}.items():
        monkeypatch.setenv(name, value)
    found = get_settings().database_url
    assert (found.get_secret_value() if found else "") == more.get("DATABASE_URL", "")


def test_ports_of_two_servers_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    for port, message in (("9464", "METRICS_PORT and PROMETHEUS_METRICS_PORT"), ("9466", r"METRICS_PORT \+ 2")):
        monkeypatch.setenv("PROMETHEUS_METRICS_PORT", port)
        with pytest.raises(PermanentFailure, match=f"IRT_EXPORTER_{message} are both {port}"):
            get_settings()
    monkeypatch.setenv("PROMETHEUS_METRICS_PORT", "9090")
    assert get_settings().irt_exporter_metrics_port == 9464


# -- the search path ---------------------------------------------------------------------------------
# The schema in a connection's options, and the modules that may open connections.

ROOT = Path(__file__).parents[2]
MADE_IN = {
    "resources/postgres/database.py": {"Connection.connect(", "create_engine("},
    "services/theta_api/parameter_cache.py": {"ConnectionPool("},
    "irt_assets/intake/pulling/rows.py": {"create_engine("},  # to the company's databases
}


def settings(options: str = "", **others: object) -> Settings:
    url = f"postgresql://u:p%40@h/d?sslmode=require&options={options}"
    return Settings(database_url=SecretStr(url), _env_file=None, **others)  # type: ignore[arg-type]


def test_connections_are_opened_only_in_listed_modules() -> None:
    """Connections opened elsewhere would lack the schema and the options of DATABASE_URL."""
    made = re.compile(
        r"\b(?:Async)?Connection\.connect\(|\bpsycopg2?\.connect\(|\bcreate_(?:async_)?engine\(|\b\w*ConnectionPool\("
    )
    found: dict[str, set[str]] = {}
    for folder in ("irt_assets", "jobs", "resources", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            if names := set(made.findall(path.read_text("utf-8"))):
                found[str(path.relative_to(ROOT))] = names
    assert found == MADE_IN
    assert "kwargs=self._database.arguments(" in (ROOT / "services/theta_api/parameter_cache.py").read_text("utf-8")


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
def test_first_schema_of_a_search_path_skips_the_user_and_the_system_catalogue(path: str, first: str | None) -> None:
    assert first_of(path) == first


@pytest.mark.parametrize("name", ["irt", "Five's own", 'a "b" \\c'])
def test_schema_is_set_by_an_option_and_read_from_the_option(name: str) -> None:
    url = with_search_path("postgresql://u:p%40@h/d?sslmode=require&options=-c%20a%3Db", name)
    parts = conninfo_to_dict(url)
    assert (parts["password"], parts["sslmode"], parts["options"]) == ("p@", "require", f"-c a=b {path_option(name)}")
    assert named_schema(settings(), str(parts["options"])) == name


def test_schema_setting_has_precedence_over_the_last_option_of_the_url() -> None:
    options = "-c search_path=first --search-path=second -c statement_timeout=5s"
    given = (settings(), options), (settings(irt_db_schema="third"), options), (settings(), "-c statement_timeout=5s")
    assert [named_schema(*one) for one in given] == ["second", "third", None]


def test_options_of_the_url_are_kept_before_our_options() -> None:
    database = Database(settings("-c%20statement_timeout%3D5s", irt_db_schema="exam"))
    options = database.arguments("-c statement_timeout=9s", application_name="other")["options"]
    assert options.startswith("-c statement_timeout=9s -c statement_timeout=5s -c timezone=UTC ")
    assert options.endswith(" -c search_path=exam")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IRT_DB_SCHEMA", "Exam", "IRT_DB_SCHEMA"),
        ("IRT_DB_SCHEMA", "dagster", "name the same schema"),
        ("IRT_DAGSTER_SCHEMA", "a.b", "IRT_DAGSTER_SCHEMA"),
    ],
)
def test_invalid_or_duplicate_name_of_a_schema_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PermanentFailure, match=message):
        get_settings()


def test_owner_of_schema_public_is_unchanged_if_our_tables_are_in_public() -> None:
    names = {"owner": "o", "service": "s", "reader": "r", "database": "d", "schema": "public", "dagster": "dagster"}
    text = "\n".join(role_statements(["exam.Results"], **names))
    assert 'GRANT USAGE, CREATE ON SCHEMA "public" TO "o"' in text
    assert 'ALTER SCHEMA "public"' not in text
    assert 'GRANT SELECT ON "exam"."Results" TO "o"' in text
