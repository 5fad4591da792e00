"""The ways in which a person decides: the launchpad's job and the command line, through what they really run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from irt_assets.calibration.origin import initialise
from irt_assets.calibration.release import next_month
from irt_assets.cli import app
from irt_assets.definitions import build_defs
from resources.database import Database
from resources.failures import PermanentFailure
from resources.object_store import FolderStore
from resources.settings import Settings, get_settings
from tests.integration.rooms import add_items, rows, run_sql
from tests.integration.test_release import FEB, JAN, bank, decisions, published, store

__all__ = ["bank", "store"]  # fixtures
EFFECTIVE = next_month(datetime.now(UTC))


def launch(settings: Settings, bank: Database, store: FolderStore, **config: Any) -> dg.ExecuteInProcessResult:
    resources: dict[str, object] = {"database": bank, "store": store}
    job = build_defs(settings, resources=resources).resolve_job_def("release_decision")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            run_config={"ops": {"decide_on_proposals": {"config": {"month": FEB} | config}}},
            instance=instance,
            raise_on_error=False,
        )


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the step's output."""
    (output,) = [e.step_output_data for e in result.all_events if e.is_successful_output]
    assert output is not None
    return {name: value.value for name, value in output.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    assert failed is not None
    assert failed.user_failure_data is not None
    return failed.user_failure_data.description or ""


def test_the_launchpad_shows_and_decides_nothing_until_it_is_told_to(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    result = launch(settings, bank, store)
    assert result.success
    shown = told(result)
    assert shown["outcome"] == "dry run, nothing was decided"
    assert (
        "| 2026-02/moved | a = 1.00 ± 0.01, b = -0.30 ± 0.10 | a = 1.00 ± 0.01, b = 0.50 ± 0.10 |" in shown["proposals"]
    )
    assert "nobody answered" in shown["effect"]
    assert decisions(bank) == []


def test_the_launchpad_accepts_and_the_ledger_names_its_run(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    result = launch(settings, bank, store, items=["moved"], decided_by="Ann", reason="easier", dry_run=False)
    assert result.success
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "easier", EFFECTIVE)]
    assert rows(bank, "SELECT run_id FROM item_parameter_publication WHERE rule = 'decision'") == [(result.run_id,)]


def test_the_launchpad_rejects(settings: Settings, bank: Database, store: FolderStore) -> None:
    chosen = {"items": ["moved"], "decision": "reject", "decided_by": "Ben", "reason": "wait"}
    assert launch(settings, bank, store, **chosen, dry_run=False).success
    assert decisions(bank) == [(FEB, "moved", "reject", "Ben", "wait", None)]
    assert len(published(bank)) == 1


def test_the_launchpad_drops_anchors_once_it_is_told_to(settings: Settings, bank: Database, store: FolderStore) -> None:
    add_items(bank, {f"X{k}": {"a": 1.0, "b": k / 5, "a_se": 0.1, "b_se": 0.1} for k in range(6)}, "other")
    initialise(bank, "other", first_month=JAN)
    asked = {"month": "2026-04", "scale": "other", "items": ["X1"], "decision": "drop_anchors"}
    shown = told(launch(settings, bank, store, **asked))
    assert shown["effect"].startswith("X1 out of the anchors from 2026-04 on, 5 remain: no month is linked yet")
    assert decisions(bank) == []
    assert launch(settings, bank, store, **asked, decided_by="Ann", reason="reworded", dry_run=False).success
    assert [row[:4] for row in decisions(bank)] == [("2026-04", "X1", "drop_anchor", "Ann")]


def test_the_launchpad_asks_for_a_recalibration(settings: Settings, bank: Database, store: FolderStore) -> None:
    """Of made-up snapshots nothing can be fitted; that it gets so far is what is shown here."""
    asked = {"month": f"{FEB}:{FEB}", "decision": "recalibrate"}
    assert told(launch(settings, bank, store, **asked))["outcome"] == "dry run, nothing was fitted"
    run_sql(bank, "DELETE FROM publication_step")
    assert "no month of 2026-02:2026-02 is green" in failure(launch(settings, bank, store, **asked, dry_run=False))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"decision": "drop_anchors"}, "no anchors of scale default in 2026-02: all"),
        ({"dry_run": False}, "needs a name"),
        ({"items": ["nowhere"]}, "no item 'nowhere'"),
        ({"scale": "other"}, "not on scale other: moved"),
        ({"effective_from": "tomorrow"}, "wants a day"),
        ({"effective_from": "2026-02-01", "dry_run": False, "decided_by": "A", "reason": "b"}, "not in the future"),
        ({"items": []}, "no proposal is named"),
    ],
)
def test_the_launchpad_explains_what_it_refuses(
    settings: Settings, bank: Database, store: FolderStore, config: dict[str, Any], why: str
) -> None:
    result = launch(settings, bank, store, **config)
    assert not result.success
    assert why in failure(result)
    assert decisions(bank) == []


# -- the command line --------------------------------------------------------------------------------


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
    assert "1 of 8 proposals ask for a decision; 7 open ones confirm" in irt("list").output
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
    assert "2026-02/moved: a = 1.00 ± 0.01, b = 0.50 ± 0.10 → a = 1.00 ± 0.01, b = -0.30 ± 0.10" in done.output
    assert "in force from 2099-01-01" in done.output
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "easier", datetime(2099, 1, 1, tzinfo=UTC))]


def test_who_answers_no_has_decided_nothing(irt: Any, bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irt_assets.cli_release._attended", lambda: True)
    words = ["release", "reject", "2026-02/moved", "--by", "Ben", "--reason", "wait"]
    no = CliRunner().invoke(app, words, input="n\n")
    assert (no.exit_code, decisions(bank)) == (1, [])
    yes = CliRunner().invoke(app, words, input="y\n")
    assert yes.exit_code == 0
    assert [row[1:4] for row in decisions(bank)] == [("moved", "reject", "Ben")]


def test_a_decided_proposal_shows_its_decision(irt: Any) -> None:
    irt("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait [for] more", "--yes")
    shown = irt("show", "2026-02/moved").output
    assert "rejected by Ben on" in shown
    assert "wait [for] more" in shown
