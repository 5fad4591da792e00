"""The ways in which a person decides: the launchpad's job and the command line, through what they really run."""

from __future__ import annotations

import json
import pwd
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from irt_assets.cli import app, installation
from irt_assets.decisions import release
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.release import next_month
from irt_assets.definitions import build_defs
from irt_assets.ledger.decisions import decisions as decisions_of
from jobs.alerts import run_alert
from jobs.launched_by import LAUNCHED_BY
from jobs.release import waiting
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings, get_settings
from tests.helpers.rooms import add_items, rows, run_sql
from tests.helpers.waiting_decision import FEB, JAN, MOVED, bank, decisions, published, store

__all__ = ["bank", "store"]  # fixtures
OLD = "a = 1.00 ± 0.01, b = 0.50 ± 0.10"


def launch(
    settings: Settings,
    bank: Database,
    store: FolderStore,
    month: str = FEB,
    tags: dict[str, str] | None = None,
    **config: Any,
) -> dg.ExecuteInProcessResult:
    """The job with the config of the month as the launchpad fills it in, and what is written over it."""
    job = release_job(settings, bank, store)
    filled = waiting(bank, month) | config
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            partition_key=month,
            tags=tags,
            run_config={"ops": {"decide_on_proposals": {"config": filled}}},
            instance=instance,
            raise_on_error=False,
        )


def release_job(settings: Settings, bank: Database, store: FolderStore) -> dg.JobDefinition:
    resources: dict[str, object] = {"database": bank, "store": store}
    return build_defs(settings, resources=resources).resolve_job_def("release_decision")


def on(decision: str, **more: Any) -> dict[str, Any]:
    return {"proposals": {"2026-02/moved": {"decision": decision} | more}}


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


def test_picking_a_month_fills_in_what_waits_each_undecided(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    config = release_job(settings, bank, store).partitioned_config
    assert config is not None
    filled = config.get_run_config_for_partition_key(FEB)["ops"]["decide_on_proposals"]["config"]
    assert filled["note"].startswith("1 proposals of 2026-02 wait. Replace `undecided` with your decisions")
    assert list(filled["proposals"]) == ["2026-02/moved"]
    line = filled["proposals"]["2026-02/moved"]
    assert line["decision"] == "undecided"
    assert line["evidence"].startswith("a = 1.00 ± 0.01, b = 0.50 ± 0.10 → a = 1.00 ± 0.01, b = -0.30 ± 0.10; wABC ")
    empty = config.get_run_config_for_partition_key(JAN)["ops"]["decide_on_proposals"]["config"]
    assert (empty["note"], empty["proposals"]) == ("no proposal of 2026-01 waits", {})


def test_without_a_database_the_list_is_empty_and_says_so(settings: Settings) -> None:
    absent = Database(settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/none")}))
    filled = waiting(absent, FEB)
    assert filled["proposals"] == {}
    assert filled["note"].startswith("what waits could not be read, so nothing is listed: ")
    assert "\n" not in filled["note"]


def test_the_launchpad_shows_and_decides_nothing_until_it_is_told_to(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    result = launch(settings, bank, store)
    assert result.success
    shown = told(result)
    assert shown["outcome"] == "nothing was decided"
    (row,) = (record.data for record in shown["proposals"].records)
    assert (row["proposal"], row["decision"]) == ("2026-02/moved", "undecided")
    assert (row["proposed"], row["published"]) == (
        "a = 1.00 ± 0.01, b = -0.30 ± 0.10",
        "a = 1.00 ± 0.01, b = 0.50 ± 0.10",
    )
    assert "no answers to published items" in shown["effect"]
    assert decisions(bank) == []


def test_the_launchpad_accepts_and_ledger_and_asset_name_who_and_from_when(
    settings: Settings, bank: Database, store: FolderStore, now: datetime
) -> None:
    result = launch(settings, bank, store, **on("accept"), decided_by="Ann", reason="easier")
    assert result.success, failure(result)
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "easier", next_month(now))]
    assert rows(bank, "SELECT run_id FROM item_parameter_publication WHERE rule = 'decision'") == [(result.run_id,)]
    (seen,) = [e.asset_observation_data.asset_observation for e in result.all_events if e.is_asset_observation]
    assert (seen.asset_key.to_user_string(), seen.partition) == ("published_item_parameters", FEB)
    assert seen.description == f"2026-02/moved accepted, in force from {next_month(now):%Y-%m-%d} on; by Ann: easier"
    with bank.connect() as connection:
        ((what, decision, by, _, since, why),) = decisions_of(connection, FEB)
    assert (what, decision, by, why) == ("2026-02/moved", "accept", "Ann", "easier")
    assert since == f"{next_month(now):%Y-%m-%d}"


def test_the_launchpad_rejects(settings: Settings, bank: Database, store: FolderStore) -> None:
    done = launch(settings, bank, store, **on("reject"), decided_by="Ben", reason="wait")
    assert told(done)["effect"] == f"moved stays at {OLD}; no θ changes, and the proposals are closed"
    assert decisions(bank) == [(FEB, "moved", "reject", "Ben", "wait", None)]
    assert len(published(bank)) == 1


def test_behind_a_login_decisions_are_of_whoever_launched_the_run(
    settings: Settings, bank: Database, store: FolderStore, now: datetime
) -> None:
    settings = settings.model_copy(update={"jwt_issuer": "https://login.example.org"})
    asked = on("accept") | {"reason": "easier"}
    ann = {LAUNCHED_BY: "ann"}
    refused = launch(settings, bank, store, tags=ann, **asked, decided_by="zoe")
    assert failure(refused).startswith("decided_by says 'zoe', and the run was launched by 'ann'")
    for tags in ({}, {LAUNCHED_BY: ""}, ann | {"dagster/backfill": "abc"}):
        assert failure(launch(settings, bank, store, tags=tags, **asked)).startswith("a decision needs a name")
        refused = launch(settings, bank, store, tags=tags, **asked, decided_by="ann")
        assert failure(refused).startswith("no login vouches for 'ann'")
    assert decisions(bank) == []
    assert launch(settings, bank, store, tags=ann, **asked).success
    assert decisions(bank) == [(FEB, "moved", "accept", "ann", "easier", next_month(now))]


def test_a_name_that_was_verified_counts_wherever_the_job_runs(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    """A code server need not know of the login that the page has."""
    ann = {LAUNCHED_BY: "ann"}
    refused = launch(settings, bank, store, tags=ann, **on("reject"), decided_by="zoe", reason="wait")
    assert failure(refused).startswith("decided_by says 'zoe', and the run was launched by 'ann'")
    assert launch(settings, bank, store, tags=ann, **on("reject"), decided_by=" ann ", reason="wait").success
    assert decisions(bank) == [(FEB, "moved", "reject", "ann", "wait", None)]


def test_a_leak_is_accepted_by_a_flag_of_its_own_alone(settings: Settings, bank: Database, store: FolderStore) -> None:
    run_sql(
        bank, """UPDATE item_drift SET details = details || '{"change": {"kind": "leak"}}' WHERE item_id = 'moved'"""
    )
    assert waiting(bank, FEB)["proposals"]["2026-02/moved"]["although_it_leaked"] is False
    who = {"decided_by": "Ann", "reason": "replaced"}
    refused = launch(settings, bank, store, **on("accept"), **who)
    assert failure(refused).startswith("2026-02/moved leaked: the new value says who knows the answer")
    assert decisions(bank) == []
    assert launch(settings, bank, store, **on("accept", although_it_leaked=True), **who).success
    assert len(decisions(bank)) == 1


def test_the_launchpad_drops_anchors_once_it_is_told_to(settings: Settings, bank: Database, store: FolderStore) -> None:
    add_items(bank, {f"X{k}": {"a": 1.0, "b": k / 5, "a_se": 0.1, "b_se": 0.1} for k in range(6)}, "other")
    initialise(bank, "other", first_month=JAN)
    shown = told(launch(settings, bank, store, "2026-04", anchors={"X1": {}}))
    assert shown["effect"].startswith("X1 out of the anchors from 2026-04 on, 5 remain: no month is linked yet")
    assert decisions(bank) == []
    who = {"decided_by": "Ann", "reason": "reworded"}
    assert launch(settings, bank, store, "2026-04", anchors={"X1": {"decision": "drop"}}, **who).success
    assert launch(settings, bank, store, "2026-04", anchors={"X1": {"decision": "restore"}}, **who).success
    assert [row[:4] for row in decisions(bank)] == [
        ("2026-04", "X1", "drop_anchor", "Ann"),
        ("2026-04", "X1", "restore_anchor", "Ann"),
    ]


def test_the_launchpad_asks_for_a_recalibration(settings: Settings, bank: Database, store: FolderStore) -> None:
    """Of made-up snapshots nothing can be fitted; that it gets so far is what is shown here."""
    run_sql(bank, "DELETE FROM publication_step")
    result = launch(settings, bank, store, recalibrate=[{"first_month": FEB}])
    assert "no month of 2026-02:2026-02 is green" in failure(result)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            {"anchors": {"moved": {"decision": "drop"}}, "decided_by": "A", "reason": "b"},
            "no anchors of scale default in 2026-02: moved",
        ),
        ({"anchors": {"nowhere": {}}}, "the bank has no items nowhere"),
        (on("accept"), "needs a name"),
        ({"proposals": {"2026-02/nowhere": {}}}, "no item 'nowhere'"),
        ({"proposals": {"2026-01/moved": {}}}, "not of 2026-02, the month that was picked: 2026-01/moved"),
        ({"effective_from": "tomorrow"}, "wants a day"),
        ({**on("accept"), "effective_from": "2026-02-01", "decided_by": "A", "reason": "b"}, "not in the future"),
    ],
)
def test_the_launchpad_explains_what_it_refuses(
    settings: Settings, bank: Database, store: FolderStore, config: dict[str, Any], why: str
) -> None:
    result = launch(settings, bank, store, **config)
    assert not result.success
    assert why in failure(result)
    assert decisions(bank) == []


@pytest.mark.parametrize(
    "config",
    [
        on("acept"),
        {"proposals": {"2026-02/moved": {"decision": "accept", "allthough_it_leaked": True}}},
        {"anchors": {"X1": {"decision": "keep out"}}},
        {"decided_by": 7},
        {"item": ["moved"]},
    ],
)
def test_input_of_another_shape_is_refused_at_launch(
    settings: Settings, bank: Database, store: FolderStore, config: dict[str, Any]
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        launch(settings, bank, store, **config)


def test_what_is_refused_is_read_by_whoever_launched_it_and_is_no_alert(
    settings: Settings, bank: Database, store: FolderStore
) -> None:
    job = release_job(settings, bank, store)
    config = {"ops": {"decide_on_proposals": {"config": on("accept")}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(partition_key=FEB, run_config=config, instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
        assert run_alert(instance, run) is None


# -- the command line --------------------------------------------------------------------------------


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
    assert "2026-02/moved: a = 1.00 ± 0.01, b = 0.50 ± 0.10 → a = 1.00 ± 0.01, b = -0.30 ± 0.10" in done.output
    assert "in force from 2099-01-01" in done.output
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "easier", datetime(2099, 1, 1, tzinfo=UTC))]


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
    no = CliRunner().invoke(app, words, input="n\n")
    assert (no.exit_code, decisions(bank)) == (1, [])
    yes = CliRunner().invoke(app, words, input="y\n")
    assert yes.exit_code == 0
    assert [row[1:4] for row in decisions(bank)] == [("moved", "reject", "Ben")]


def test_dropped_anchors_are_restored_by_a_command_that_the_drop_names(irt: Any, bank: Database) -> None:
    run_sql(
        bank,
        """INSERT INTO anchor_set (scale_id, version, item_id, a, b, c, a_se, b_se, cov_ab, errors_assumed, anchor_hash)
           SELECT scale_id, version, 'K4', a, b, c, a_se, b_se, cov_ab, errors_assumed, anchor_hash FROM anchor_set
           WHERE item_id = 'K1'""",
    )
    who = ["--from", FEB, "--by", "Ben", "--reason", "reworded", "--yes"]
    dropped = irt("drop-anchors", "K2", *who)
    assert dropped.exit_code == 0, dropped.output
    assert "`irt release restore-anchors K2 --from 2026-02 --by NAME --reason WHY` undoes it" in dropped.output
    assert "dropped: 3 anchors from 2026-02 on" in dropped.output
    back = irt("restore-anchors", "K2", *who)
    assert back.exit_code == 0, back.output
    assert "restored: 4 anchors from 2026-02 on" in back.output
    assert [row[1:3] for row in decisions(bank)] == [("K2", "drop_anchor"), ("K2", "restore_anchor")]
    assert "no dropped anchors" in str(irt("restore-anchors", "K2", *who).exception)


def test_a_decided_proposal_shows_its_decision(irt: Any) -> None:
    irt("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait [for] more", "--yes")
    shown = irt("show", "2026-02/moved").output
    assert "rejected by Ben on" in shown
    assert "wait [for] more" in shown


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


def test_the_launchpad_undoes_what_was_decided_before(settings: Settings, bank: Database, store: FolderStore) -> None:
    release.reject(bank, [MOVED], by="Ann", reason="wait")
    result = launch(settings, bank, store, **on("undo"), decided_by="Ben", reason="no need to wait")
    assert result.success, failure(result)
    assert "2026-02/moved: what was decided is undone; by Ben: no need to wait" in str(told(result)["outcome"])
    assert decisions(bank)[-1][2:4] == ("undo", "Ben")
    again = launch(settings, bank, store, **on("undo"), decided_by="Ben", reason="twice")
    assert "the decision undone by Ben" in failure(again)
