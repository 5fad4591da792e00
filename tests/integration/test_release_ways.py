"""How a person decides on the command line."""

from __future__ import annotations

import json
import pwd
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from irt_assets.cli import app, installation
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import get_settings
from tests.helpers.rooms import run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.waiting_decision import FEB, answers_as_fitted, bank, decisions, late_answer, published

__all__ = ["bank"]  # a fixture
OLD = "a = 1.00 ± 0.01, b = 0.50 ± 0.10"


def test_rejecting_tells_its_own_effect_and_not_that_of_accepting(irt: Any, bank: Database) -> None:
    done = irt("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait", "--yes")
    assert done.exit_code == 0, done.output
    assert f"moved stays at {OLD}; no θ changes" in done.output
    assert "→" not in done.output
    assert len(published(bank)) == 1


@pytest.fixture
def irt(bank: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DATABASE_URL", bank.url)
    get_settings.cache_clear()

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["release", *words])

    return run


def test_the_list_holds_what_asks_and_all_of_it_on_demand(irt: Any) -> None:
    assert "2026-02/moved" in irt("list").output
    assert "still" not in irt("list").output
    assert "1 of 8 proposals need a decision; 7 open ones confirm" in irt("list").output
    listed = json.loads(irt("list", "--all", "--json").output)
    assert {p["proposal"] for p in listed if p["asks_for_a_decision"]} == {"2026-02/moved"}
    assert len(listed) == 8


def test_accepting_shows_the_change_and_asks(irt: Any, bank: Database) -> None:
    words = ("accept", "2026-02/all", "--by", "Ann", "--reason", "easier")
    refused = irt(*words)
    assert isinstance(refused.exception, PermanentFailure)
    assert "with --yes" in str(refused.exception)
    assert decisions(bank) == []
    done = irt(*words, "--effective-from", "2099-01-01", "--yes")
    assert done.exit_code == 0, done.output
    assert not unsaid(
        done.output,
        "2026-02/moved: a = 1.00 ± 0.01, b = 0.50 ± 0.10 → a = 1.00 ± 0.01, b = -0.30 ± 0.10",
        "in force from 2099-01-01",
    )
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "easier", datetime(2099, 1, 1, tzinfo=UTC))]


def test_every_way_to_decide_tells_of_answers_that_came_a_moment_ago(irt: Any, bank: Database) -> None:
    signed = ("2026-02/moved", "--by", "Ann", "--reason", "easier")
    told = "look at the answers of 2026-02 have changed since: `irt calibrate --month 2026-02` first"
    answers_as_fitted(bank)
    assert "have changed since" not in irt("show", "2026-02/moved").output
    late_answer(bank)
    for words in (("show", "2026-02/moved"), ("accept", *signed), ("reject", *signed)):
        assert told in " ".join(irt(*words).output.split())
    shown = json.loads(irt("show", "2026-02/moved", "--json").output)
    assert shown["changed_since"] == [told.removeprefix("look at ")]
    assert irt("accept", *signed, "--yes").exit_code == 0, "who decides is told, and decides"


def test_where_names_are_verified_a_typed_one_is_kept_with_the_account_that_typed_it(
    irt: Any, bank: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The account that logged in, which is the kernel's word; no variable changes it."""
    monkeypatch.setenv("JWT_ISSUER", "https://login.example.org")
    monkeypatch.setenv("LOGNAME", "zoe")
    monkeypatch.setattr(installation, "LOGIN_UID", tmp_path / "loginuid")
    (tmp_path / "loginuid").write_text(f"{pwd.getpwnam('daemon').pw_uid}")
    done = irt("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait", "--yes")
    assert done.exit_code == 0, done.output
    assert decisions(bank) == [(FEB, "moved", "reject", "Ben (irt, daemon)", "wait", None)]


def test_who_answers_no_has_decided_nothing(irt: Any, bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irt_assets.cli.console._has_terminal", lambda: True)
    words = ["release", "reject", "2026-02/moved", "--by", "Ben", "--reason", "wait"]
    assert (CliRunner().invoke(app, words, input="n\n").exit_code, decisions(bank)) == (1, [])
    assert CliRunner().invoke(app, words, input="y\n").exit_code == 0
    assert [row[1:4] for row in decisions(bank)] == [("moved", "reject", "Ben")]


def test_dropped_anchors_are_restored_by_a_command_that_the_drop_names(irt: Any, bank: Database) -> None:
    run_sql(
        bank,
        """INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash)
           SELECT scale_id, version, 'K4', parameters, errors_assumed, anchor_hash FROM anchor_set
           WHERE item_id = 'K1'""",
    )
    who = ["--from", FEB, "--by", "Ben", "--reason", "reworded", "--yes"]
    dropped = irt("drop-anchors", "K2", *who)
    assert dropped.exit_code == 0, dropped.output
    assert not unsaid(
        dropped.output,
        "`irt release restore-anchors K2 --from 2026-02 --by NAME --reason WHY` undoes it",
        "dropped: the scale has 3 anchors from 2026-02 on",
    )
    back = irt("restore-anchors", "K2", *who)
    assert back.exit_code == 0, back.output
    assert "restored: the scale has 4 anchors from 2026-02 on" in back.output
    assert [row[1:3] for row in decisions(bank)] == [("K2", "drop_anchor"), ("K2", "restore_anchor")]
    assert "no dropped anchors" in str(irt("restore-anchors", "K2", *who).exception)


def test_undoing_shows_what_comes_back_and_asks(irt: Any, bank: Database) -> None:
    irt("accept", "2026-02/moved", "--by", "Ann", "--reason", "easier", "--effective-from", "2099-01-01", "--yes")
    words = ("undo", "2026-02/moved", "--by", "Ben", "--reason", "too early")
    assert "with --yes" in str(irt(*words).exception)
    assert len(decisions(bank)) == 1
    done = irt(*words, "--yes")
    assert done.exit_code == 0, done.output
    assert f"moved is at {OLD} from 2099-01-01 on" in done.output
    assert "a = 1.00 ± 0.01, b = -0.30 ± 0.10 never comes into force" in " ".join(done.output.split())
    assert [row[2:4] for row in decisions(bank)] == [("accept", "Ann"), ("undo", "Ben")]
    shown = " ".join(irt("show", "2026-02/moved").output.split())
    assert "open again, the decision undone by Ben on" in shown
