"""What Dagster's processes are told, without starting any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from irt_assets.environment import CONFIGURATION, LONGEST_SOCKET_PATH, instance_environment
from resources.database import Database
from resources.settings import Settings


def environment(
    home: Path, url: str = "postgresql://someone:secret@db.example/assess?sslmode=require"
) -> dict[str, str]:
    settings = Settings(irt_home=home, database_url=SecretStr(url), irt_first_month="2026-07")
    return instance_environment(settings, Database(settings))


def test_dagster_s_tables_get_a_schema_of_their_own_and_the_url_keeps_the_rest(tmp_path: Path) -> None:
    url = sa.make_url(environment(tmp_path)["IRT_DAGSTER_DATABASE_URL"])
    assert url.drivername == "postgresql+psycopg2"
    assert (url.username, url.password, url.host, url.database) == ("someone", "secret", "db.example", "assess")
    assert url.query == {"sslmode": "require", "options": "-csearch_path=dagster"}


def test_options_that_the_url_has_already_are_kept(tmp_path: Path) -> None:
    url = environment(tmp_path, "postgresql://db.example/assess?options=-cstatement_timeout%3D5s")
    options = sa.make_url(url["IRT_DAGSTER_DATABASE_URL"]).query["options"]
    assert options == "-cstatement_timeout=5s -csearch_path=dagster"


def test_children_see_the_settings_of_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://another.example/other")
    told = environment(tmp_path)
    assert told["IRT_HOME"] == str(tmp_path)
    assert told["IRT_FIRST_MONTH"] == "2026-07"
    assert told["DATABASE_URL"].startswith("postgresql://someone:secret@")
    assert "IRT_UI_PORT" not in told, "a default is not a wish: a child must not take it for one"


def test_dagster_home_holds_the_newest_configuration(tmp_path: Path) -> None:
    home = Path(environment(tmp_path)["DAGSTER_HOME"])
    (home / "dagster.yaml").write_text("of an older version")
    environment(tmp_path)
    assert (home / "dagster.yaml").read_bytes() == CONFIGURATION.read_bytes()
    assert home.stat().st_mode & 0o077 == 0, "its socket runs code for whoever can open it"


def test_a_deep_home_still_gets_a_socket_that_the_kernel_takes(tmp_path: Path) -> None:
    homes = [tmp_path / letter / ("deep" * 40) for letter in "ab"]
    first, second = (Path(environment(home)["IRT_CODE_SERVER_SOCKET"]) for home in homes)
    try:
        assert len(str(first)) <= LONGEST_SOCKET_PATH
        assert first != second
        assert environment(homes[0])["IRT_CODE_SERVER_SOCKET"] == str(first)
        assert first.parent.stat().st_mode & 0o077 == 0
    finally:
        first.parent.rmdir()
        second.parent.rmdir()
