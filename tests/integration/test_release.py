"""Release decisions: recorded completely, in force from a date on, without changes of earlier results."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import numpy as np
import pytest
from typer.testing import CliRunner

from irt_assets.abilities.batch import measure, stale_months
from irt_assets.cli import app, installation
from irt_assets.cli.status import waiting_line
from irt_assets.common.partitions import Month, monthly
from irt_assets.decisions import release
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.lineage import lineage
from irt_assets.decisions.proposals import (
    Reference,
    State,
    latest_waiting,
    parse_reference,
    proposals,
    settled_items,
    waiting_proposals,
)
from irt_assets.decisions.release_impact import Impact, impact
from irt_assets.decisions.release_undo import Undo, undo
from irt_assets.drift.checks import build_drift_checks
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.publications import in_force
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import read_scales, write_pass_mark
from irt_assets.scores.standards import plan_mark
from irt_psychometrics.items import ItemRow
from jobs.sensors import plan_requests
from jobs.watching.overview import collect_overview
from resources.dagster_schema import rows_of
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.decided import decide_use
from tests.helpers.pictures import Picture
from tests.helpers.rooms import (
    SCALE,
    add_attempts,
    answer_matrix,
    call,
    check_context,
    link_made_up,
    made_up_calibration,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.waiting_decision import (
    ANCHORS,
    APRIL,
    FEB,
    JAN,
    MAR,
    MOVED,
    NOW,
    accept,
    answers_as_fitted,
    bank,
    calibrate,
    decisions,
    late_answer,
    link,
    proposal_of,
    publish,
    published_rows,
    refused,
    violations,
    waiting_references,
)
from tests.testbed.patience import patient

__all__ = ["bank"]  # a fixture


# -- waiting proposals -------------------------------------------------------------------------------


def test_waiting_proposals_equal_the_latest_waiting_of_all_proposals(bank: Database, store: FolderStore) -> None:
    """The items: never published, drifted, accepted since, and merely confirmed."""
    calibrate(bank, store, MAR, {"moved": (1.0, -0.3), "still": (1.2, 0.12), "late": (1.0, 0.7)})
    run_sql(bank, "DELETE FROM item_parameter_publication WHERE item_id = 'late'")
    run_sql(
        bank,
        """INSERT INTO item_parameter_proposal (month, scale_id, item_id, fit_id, parameters, why)
           SELECT month, scale_id, 'late', fit_id, parameters, 'first seen' FROM item_parameter_proposal
           WHERE (month, item_id) = (%s, 'moved')""",
        (MAR,),
    )
    found = call(bank, waiting_proposals)
    assert [(p.fit_id, p.new) for p in found] == [(p.fit_id, p.new) for p in latest_waiting(call(bank, proposals))]
    assert waiting_references(bank) == [f"{MAR}/late", str(MOVED)]
    accept(bank)
    assert waiting_references(bank) == [f"{MAR}/late"]


def test_proposal_made_after_the_clock_was_set_back_replaces_the_former(bank: Database, store: FolderStore) -> None:
    run_sql(bank, "UPDATE item_parameter_proposal SET created_at = created_at + interval '1 day'")
    calibrate(bank, store, FEB, {"moved": (1.0, -0.9), "still": (1.2, 0.1)})
    accept(bank, seen=[proposal_of(bank)])
    assert published_rows(bank)[-1][0] == -0.9


def test_decision_is_refused_if_its_proposal_has_changed_since_the_display(bank: Database, store: FolderStore) -> None:
    shown = proposal_of(bank)
    calibrate(bank, store, FEB, {"moved": (1.0, -0.9), "still": (1.2, 0.1)})
    for decide in (
        lambda: accept(bank, seen=[shown]),
        lambda: release.reject(bank, [MOVED], by="Ann", reason="no", seen=[shown]),
    ):
        assert "2026-02/moved proposes or replaces values that differ" in refusal(decide)
    assert decisions(bank) == []
    accept(bank, seen=[proposal_of(bank)])
    assert published_rows(bank)[-1][0] == -0.9


def test_commands_print_the_decided_proposals_as_json(bank: Database, irt: IrtOf) -> None:
    typed, signed = irt(bank.settings), ("--by", "Ann", "--reason", "reviewed", "--yes", "--json")
    accepted = typed("release", "accept", "2026-02/moved", "--effective-from", "2100-01-01", *signed)
    assert accepted.json == {"accepted": ["2026-02/moved"], "effective_from": "2100-01-01T00:00:00+00:00"}
    assert typed("release", "reject", "2026-02/still", *signed).json == {"rejected": ["2026-02/still"]}


def test_newest_decisions_include_whether_each_is_still_valid(bank: Database) -> None:
    accept(bank)
    release.reject(bank, [Reference(FEB, "still")], by="Ben", reason="too small")
    undo(bank, [MOVED], by="Ann", reason="an error", now=NOW)
    with bank.connect() as connection:
        found = newest_decisions(connection, 10)
        assert [(d.item_id, d.kind, d.by, d.stands) for d in found] == [
            ("moved", "undo", "Ann", False),
            ("still", "reject", "Ben", True),
            ("moved", "accept", "Ann", False),
        ]
        assert newest_decisions(connection, 1, month=FEB, scale_id=SCALE) == found[:1]
        others = newest_decisions(connection, 10, month=MAR), newest_decisions(connection, 10, scale_id="none")
        assert others == ([], [])


def test_onset_of_a_leak_is_taken_from_the_first_month_that_detected_the_leak(bank: Database) -> None:
    """January dates the onset to the 20th; February, to its own first day."""
    leak = '{"change": {"kind": "leak", "size": 0.5, "onset": "%s"}}'
    run_sql(bank, "UPDATE item_drift SET details = %s", (leak % "2026-02-01",))
    assert proposal_of(bank).drift["change"]["onset"] == "2026-02-01"
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, severity, details)
           VALUES (%s, %s, 'moved', 'em', 'high', %s)""",
        (JAN, SCALE, leak % "2026-01-20"),
    )
    run_sql(
        bank,
        """INSERT INTO drift_alerts (scale_id, item_id, kind, severity, opened_month)
           VALUES (%s, 'moved', 'leak', 'high', %s)""",
        (SCALE, JAN),
    )
    assert proposal_of(bank).drift["change"] == {
        "kind": "leak",
        "size": 0.5,
        "onset": "2026-01-20",
    }


def test_recalibrated_month_supersedes_all_its_proposals_including_dropped_items(
    bank: Database, store: FolderStore
) -> None:
    calibrate(bank, store, FEB, {"moved": (1.0, -0.3)})
    states = {p.item_id: p.state for p in call(bank, proposals, windows=[FEB], items=["moved", "still"])}
    assert states == {"moved": State.OPEN, "still": State.SUPERSEDED}
    assert f"when {FEB} was calibrated again, and its newest run proposes nothing" in refusal(
        accept, bank, Reference(FEB, "still")
    )
    calibrate(bank, store, FEB, {"moved": (1.0, -0.3), "still": (-1.2, 0.1)})
    assert "its newest run holds the item back: a = -1.20 is not positive" in refusal(
        accept, bank, Reference(FEB, "still")
    )
    link_made_up(bank, store, FEB, made_up_calibration(ANCHORS | {"moved": (1.0, -0.3)}), q_p=0.001)
    publish(bank, store, FEB)
    assert f"cannot be decided on while {FEB} is held (3 anchors" in refusal(accept, bank, MOVED)


def test_proposal_of_a_leak_or_an_anchor_begins_with_its_caution(bank: Database) -> None:
    run_sql(
        bank, """UPDATE item_drift SET details = '{"change": {"kind": "leak", "size": 0.3, "onset": "2026-02-11"}}'"""
    )
    of_a_leak = [caution.split(":")[0].split(",")[0] for caution in proposal_of(bank).cautions]
    assert of_a_leak == ["leak", "it changed on 2026-02-11"]
    assert "drop-anchors K1" in proposal_of(bank, Reference(FEB, "K1")).cautions[0]


def test_contradicted_proposal_waits_again_only_after_a_later_month_confirms_the_change(
    bank: Database, store: FolderStore
) -> None:
    """Intervals are b ± 1.96 · 0.1; February proposes -0.3 and 0.5 is published. A red month changes nothing."""
    waiting = ("2026-02/moved: open", [str(MOVED)])
    contradicted = "2026-02/moved: contradicted by 2026-03", []

    def standing() -> tuple[str, list[str]]:
        p = proposal_of(bank)
        assert p.state is State.OPEN
        return f"{p.reference}: {p.state_in_words}", [str(p.reference) for p in call(bank, waiting_proposals)]

    def calibrate(month: str, b: float, *, q_p: float = 0.5, se: float = 0.1) -> None:
        link_made_up(
            bank, store, month, made_up_calibration(ANCHORS | {"moved": (1.0, b)}, b_se={"moved": se}), q_p=q_p
        )
        publish(bank, store, month)

    assert standing() == waiting
    for b in (0.32, 0.68):
        calibrate(MAR, b)
        assert standing() == contradicted
    for b in (0.28, 0.72, -0.12, -0.3):  # agrees with neither value, or with the proposed one
        calibrate(MAR, b)
        assert standing() == waiting
    calibrate(MAR, 0.72)
    for severity, expected in (("none", contradicted), ("medium", waiting)):
        run_sql(
            bank,
            """INSERT INTO item_drift (month, scale_id, item_id, engine, severity, details)
               VALUES (%s, %s, 'moved', 'em', %s, '{}')""",
            (MAR, SCALE, severity),
        )
        assert standing()[0] == expected[0]
        run_sql(bank, "DELETE FROM item_drift WHERE month = %s", (MAR,))
    calibrate(MAR, 0.1, se=0.5)  # both
    assert standing() == waiting
    calibrate(MAR, 0.5, q_p=0.001)
    assert standing() == waiting
    calibrate(MAR, 0.5)
    assert standing() == contradicted
    accept(bank)
    undo(bank, [MOVED], by="Ann", reason="March says otherwise", now=NOW)
    assert proposal_of(bank).needs_decision is False, "it is contradicted as before"
    calibrate("2026-04", -0.28)
    assert standing()[1] == [str(MOVED)]


def test_rejected_leak_waits_again_only_if_its_value_leaves_the_rejected_interval(
    bank: Database, store: FolderStore
) -> None:
    """b = -0.3 ± 1.96 · 0.1 was rejected, and a = 1 ± 1.96 · 0.01."""
    run_sql(bank, """UPDATE item_drift SET details = '{"change": {"kind": "leak", "size": 0.3}}'""")
    release.reject(bank, [MOVED], by="Ben", reason="leaked; to be replaced")
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, severity, details)
           VALUES (%s, %s, 'moved', 'em', 'high', '{"change": {"kind": "leak"}}')""",
        (MAR, SCALE),
    )

    def asked(month: str, a: float, b: float) -> list[str]:
        calibrate(bank, store, month, {"moved": (a, b)})
        return [str(p.reference) for p in call(bank, waiting_proposals)]

    assert asked(FEB, 1.01, -0.3) == []
    again = proposal_of(bank)
    assert (again.state, again.state_in_words) == (State.OPEN, "the leak of 2026-02 that Ben rejected")
    assert (asked(MAR, 0.99, -0.45), asked(MAR, 1.0, -0.51)) == ([], ["2026-03/moved"])
    assert (asked(MAR, 1.03, -0.3), asked(MAR, 1.0, -0.3)) == (["2026-03/moved"], [])
    decide_use(bank, ["moved"], "withdrawn", by="Ann", reason="posted", now=NOW)
    decide_use(bank, ["moved"], "restored", by="Ann", reason="replaced", now=NOW)
    assert asked(MAR, 1.0, -0.31) == ["2026-03/moved"], "it was out of use in between"


def test_proposal_distinguishes_dif_detected_not_detected_and_not_tested(bank: Database) -> None:
    run_sql(
        bank,
        """INSERT INTO dif_analysis (month, scale_id, item_id, attribute, focal_group, reference_group, p_value,
                                     q_value, ets_class, details)
           VALUES (%s, %s, 'moved', 'lang', 'ko', 'en', 1e-5, 1e-4, 'C', '{"wald": {"severity": "high"}}'),
                  (%s, %s, 'still', 'lang', 'ko', 'en', 0.4, 0.6, 'A', '{"wald": {"severity": "none"}}'),
                  (%s, %s, 'K1', 'lang', 'ko', 'en', NULL, NULL, NULL, '{"wald": null}')""",
        (FEB, SCALE) * 3,
    )
    found = {item: proposal_of(bank, Reference(FEB, item)).dif for item in ("moved", "still", "K1")}
    assert found == {"moved": ("DIF high for lang = ko, q = 0.0001, ETS C",), "still": (), "K1": None}


# -- accepted ----------------------------------------------------------------------------------------


def test_accepted_value_is_in_force_from_its_date_with_the_name_and_the_reason(
    bank: Database, store: FolderStore
) -> None:
    accept(bank)
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "it became easier", APRIL)]
    assert published_rows(bank) == [
        (0.5, "first", JAN, None, f"first published by the green month {JAN}", Month(JAN).end),
        (-0.3, "decision", FEB, "Ann", "it became easier", APRIL),
    ]
    assert [b_at(bank, at) for at in (APRIL - timedelta(microseconds=1), APRIL)] == [0.5, -0.3]
    assert (proposal_of(bank).state, waiting_references(bank), violations(bank, store)) == (State.ACCEPTED, [], [])


def test_accepted_value_leaves_earlier_abilities_bit_identical_and_makes_later_months_stale(
    bank: Database,
) -> None:
    rng = np.random.default_rng(7)
    names = [*ANCHORS, "moved", "still"]
    theta, a, b = rng.normal(size=60), np.ones(5), np.array([-1.0, 0.0, 1.0, 0.0, 0.1])
    for month in (JAN, FEB, MAR):
        users = [f"{month} {k}" for k in range(60)]
        add_attempts(bank, answer_matrix(month, model_scores(theta, a, b, rng), names, users))
    query = """SELECT user_id, theta, se, set_hash FROM mirt_ability WHERE window_end = %s ORDER BY 1"""
    for month in (JAN, FEB, MAR):
        measure(bank, month, f"{month} before")
    before = {month: rows(bank, query, (Month(month).end,)) for month in (FEB, MAR)}
    assert len(before[FEB]) > 100
    accept(bank)
    stale = call(bank, stale_months)
    assert list(stale) == [MAR], "its end is the date from which the new value is in force"
    assert [(ask.month, ask.settle) for ask in plan_requests((), stale, ())] == [(MAR, False)]
    for month in (FEB, MAR):
        measure(bank, month, f"{month} after")
    assert rows(bank, query, (Month(FEB).end,)) == before[FEB]
    assert rows(bank, query, (Month(MAR).end,)) != before[MAR]
    assert call(bank, stale_months) == {}


# -- months that run again ---------------------------------------------------------------------------


def test_rerun_month_with_the_same_numbers_does_not_reopen_decided_proposals(
    bank: Database, store: FolderStore
) -> None:
    accept(bank)
    release.reject(bank, [Reference(FEB, "still")], by="Ben", reason="within error")
    before = published_rows(bank), published_rows(bank, "still")
    calibrate(bank, store, FEB, {"moved": (1.0, -0.3), "still": (1.2, 0.12)})
    assert (published_rows(bank), published_rows(bank, "still")) == before
    still_open = [p.item_id for p in call(bank, proposals, windows=[FEB]) if p.state is State.OPEN]
    assert still_open == list(ANCHORS)


def test_decision_on_a_month_closes_the_proposals_of_earlier_months(bank: Database, store: FolderStore) -> None:
    run_sql(
        bank,
        "INSERT INTO item_drift SELECT '2026-03', scale_id, item_id, engine, delta_a, delta_b, delta_c, p_value, "
        "q_value, wabc, severity, details, computed_at FROM item_drift",
    )
    calibrate(bank, store, MAR, {"moved": (1.0, -0.35)})
    assert waiting_references(bank) == ["2026-03/moved"], "the latest evidence on an item"
    release.reject(bank, [Reference(MAR, "moved")], by="Ben", reason="it will be replaced")
    assert waiting_references(bank) == []


# -- refused -----------------------------------------------------------------------------------------


SIGNED: dict[str, dict[str, Any]] = {
    "no name": {"by": " "},
    "no reason": {"reason": ""},
    "a dash as the reason": {"reason": "—"},
    "a reason that cannot be printed": {"reason": "a\x00b"},
    "a name of 3,000 letters": {"by": "A" * 3000},
    "now": {"effective_from": NOW},
    "the past": {"effective_from": Month(FEB).start},
}
NOT_PROPOSED = (
    Reference(FEB, "nowhere"),
    Reference(MAR, "moved"),
    Reference(MAR, "late"),
    Reference(FEB, "late"),
    Reference(MAR, "all"),
)


def test_decision_without_name_reason_future_or_proposal_is_refused(bank: Database, picture: Picture) -> None:
    found = {title: refused(bank, **others) for title, others in SIGNED.items()}
    picture(found | {str(one): refused(bank, one) for one in NOT_PROPOSED}, "refused")


@pytest.mark.parametrize("text", ["", "moved", "2026-02", "2026-02/", "2026-2/moved", "../etc", "2026-02:/moved"])
def test_invalid_name_of_a_proposal_is_refused(text: str) -> None:
    assert not missing_sentences(refusal(parse_reference, text), "names no proposal", "irt release list --all")


def test_closed_proposal_makes_the_whole_decision_fail(bank: Database) -> None:
    accept(bank)
    refused(bank, Reference(FEB, "still"), MOVED)
    assert len(published_rows(bank, "still")) == 1


def test_decision_is_refused_if_its_month_has_been_fitted_again_since(bank: Database, store: FolderStore) -> None:
    link(bank, store, FEB, {"moved": (1.0, -0.4)})
    assert "publication step has not run since" in refused(bank), "linked, and not taken to the ledger yet"


def test_decision_is_refused_if_its_date_precedes_an_earlier_decisions_date(bank: Database, store: FolderStore) -> None:
    accept(bank, effective_from=datetime(2026, 6, 1, tzinfo=UTC))
    calibrate(bank, store, MAR, {"moved": (1.0, -0.4)})
    assert "in force from 2026-06-01" in refused(bank, Reference(MAR, "moved"))
    accept(bank, Reference(MAR, "moved"), effective_from=datetime(2026, 7, 1, tzinfo=UTC))
    assert violations(bank, store) == []


def test_second_of_two_concurrent_decisions_fails_and_names_the_first(bank: Database) -> None:
    together = Barrier(2)

    def decide(name: str) -> str:
        together.wait()
        try:
            accept(bank, by=name)
        except PermanentFailure as failure:
            return str(failure)
        return "won"

    with ThreadPoolExecutor(2) as people:
        ends = list(people.map(decide, ["Ann", "Ben"]))
    assert sorted(ends)[1] == "won"
    winner = ("Ann", "Ben")[ends.index("won")]
    assert f"was accepted by {winner}" in sorted(ends)[0]
    assert (len(decisions(bank)), len(published_rows(bank))) == (1, 2)


KILLED = """
import time
from datetime import UTC, datetime
from irt_assets.decisions import release
from irt_assets.decisions.proposals import Reference
from resources.postgres.database import Database
from resources.settings import get_settings
publish = release.publish
def slowly(*args):
    publish(*args)
    print("written", flush=True)
    time.sleep(600)
release.publish = slowly
release.accept(Database(get_settings()), [Reference("2026-02", "moved")], by="Ann", reason="it moved",
               effective_from=None, now=datetime(2026, 3, 10, tzinfo=UTC))
"""


def test_killed_decision_stores_no_rows_and_does_not_block_the_next(bank: Database) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DATABASE_URL": bank.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child.stdout:
        assert child.stdout.readline() == "written\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert (decisions(bank), len(published_rows(bank))) == ([], 1)
    began = time.monotonic()
    accept(bank)
    assert time.monotonic() - began < patient(30), "the lock of the dead goes with its connection"


# -- impact ------------------------------------------------------------------------------------------


def scored_twice(bank: Database) -> np.ndarray:
    """θ of each learner (learners × before, after) on 401 nodes, item by item, without the code that scores."""
    nodes = np.linspace(-6, 6, 401)
    answers = rows(bank, "SELECT user_id, item_id, correct FROM response_log ORDER BY 1")
    old = ANCHORS | {"moved": (1.0, 0.5), "still": (1.2, 0.1)}
    theta: dict[str, list[float]] = {}
    for items in (old, old | {"moved": (1.0, -0.3)}):
        weight: dict[str, np.ndarray] = {}
        for user, item, correct in answers:
            a, b = items[item]
            p = 1 / (1 + np.exp(-a * (nodes - b)))
            weight[user] = weight.get(user, np.exp(-(nodes**2) / 2)) * (p if correct else 1 - p)
        for user, w in weight.items():
            theta.setdefault(user, []).append(float((w * nodes).sum() / w.sum()))
    return np.array(list(theta.values()))


def the_impact(bank: Database) -> Impact:
    start, end = Month(FEB).bounds
    judge_differing(bank, start.date(), end.date())
    return call(bank, impact, call(bank, read_scales)[SCALE], {"moved": ItemRow(1.0, -0.3)}, APRIL)


def test_impact_equals_the_difference_of_two_complete_scorings(bank: Database) -> None:
    rng = np.random.default_rng(11)
    scores = model_scores(rng.normal(size=200), np.ones(5), np.array([-1.0, 0.0, 1.0, 0.0, 0.1]), rng)
    scores[:50, 3] = np.nan  # these learners have not seen the item that changes
    add_attempts(bank, answer_matrix(FEB, scores, [*ANCHORS, "moved", "still"]))
    call(bank, write_pass_mark, SCALE, 0.3)
    before, after = scored_twice(bank).T
    shift = after - before
    found = the_impact(bank)
    assert (found.month, found.learners, found.touched, found.added) == (FEB, 200, 150, 0)
    # 61 nodes against 401: both are exact to far more digits than are shown.
    largest = shift[np.argmax(np.abs(shift))]
    assert (found.mean, found.sd, found.largest) == pytest.approx((shift.mean(), shift.std(), largest), abs=1e-6)
    assert (found.large_share, found.newly_passed) == ((np.abs(shift) > 0.2).mean(), 0)
    assert found.newly_failed == ((before >= 0.3) & (after < 0.3)).sum() > 0
    assert f"{found.newly_failed} newly fail" in found.sentence


@pytest.mark.parametrize(("scale", "theta", "reason"), [("other", 0.5, "no origin"), (SCALE, np.nan, "got nan")])
def test_invalid_pass_mark_or_scale_is_refused(bank: Database, scale: str, theta: float, reason: str) -> None:
    assert reason in refusal(call, bank, plan_mark, scale, theta)


def test_impact_without_learners_or_pass_mark_names_the_missing_part(bank: Database) -> None:
    assert "no answers to published items" in the_impact(bank).sentence
    add_attempts(bank, answer_matrix(FEB, np.ones((1, 1)), ["moved"]))
    assert "no pass mark is set" in the_impact(bank).sentence
    run_sql(bank, "DELETE FROM publication_step")
    assert "no month of the scale is green yet" in the_impact(bank).sentence


# -- the ways to decide ------------------------------------------------------------------------------
# How a person decides on the command line.

OF_THIS_RUN = {"now": r"(?<=by Ben on )[\d-]+ [\d:]+ UTC", "fit": r"(?<=-em-)[0-9a-f]{8}"}


@pytest.fixture
def typed(bank: Database, irt: IrtOf) -> Irt:
    return partial(irt(bank.settings), "release")


def run_to_text(typed: Irt, *words: str) -> str:
    """The output or the refusal of a command, and its exit status, without wrapped lines."""
    done = typed(*words)
    return f"{' '.join(f'{done.out} {done.err}'.split())} [{done.code}]"


def test_list_shows_proposals_that_need_a_decision_and_all_proposals_on_demand(typed: Irt, picture: Picture) -> None:
    picture("\n".join([typed("list").out, typed("list", "--all").out]), "list")
    listed = typed("list", "--all", "--json").json
    assert {p["proposal"] for p in listed if p["asks_for_a_decision"]} == {"2026-02/moved"}
    assert len(listed) == 8


def test_decision_commands_print_their_own_effect_before_the_prompt(
    typed: Irt, bank: Database, picture: Picture
) -> None:
    """Rejecting does not print the effect of accepting."""
    reject = ("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait", "--yes")
    accept_all = ("accept", "2026-02/all", "--by", "Ann", "--reason", "easier", "--effective-from", "2099-01-01")
    take_back = ("undo", "2026-02/moved", "--by", "Ben", "--reason", "too early")
    steps = (accept_all, (*accept_all, "--yes"), take_back, (*take_back, "--yes"), ("show", "2026-02/moved"), reject)
    picture({" ".join(words): run_to_text(typed, *words) for words in steps}, "decisions", **OF_THIS_RUN)
    assert [row[1:4] for row in decisions(bank)] == [
        ("moved", "accept", "Ann"),
        ("moved", "undo", "Ben"),
        ("moved", "reject", "Ben"),
    ]


def test_show_accept_and_reject_warn_if_answers_have_changed_since_the_fit(typed: Irt, bank: Database) -> None:
    signed = ("2026-02/moved", "--by", "Ann", "--reason", "easier")
    warning = "look at the answers of 2026-02 have changed since: `irt calibrate --month 2026-02` first"
    answers_as_fitted(bank)
    assert "have changed since" not in typed("show", "2026-02/moved").out
    late_answer(bank)
    for words in (("show", "2026-02/moved"), ("accept", *signed), ("reject", *signed)):
        assert warning in " ".join(typed(*words).out.split())
    assert typed("show", "2026-02/moved", "--json").json["changed_since"] == [warning.removeprefix("look at ")]
    assert typed("accept", *signed, "--yes").code == 0, "who decides is told, and decides"


def test_typed_name_is_stored_with_the_account_if_names_are_verified(
    typed: Irt, bank: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The account is the login that the kernel records; no environment variable changes it."""
    monkeypatch.setenv("JWT_ISSUER", "https://login.example.org")
    monkeypatch.setenv("LOGNAME", "zoe")
    monkeypatch.setattr(installation, "LOGIN_UID", tmp_path / "loginuid")
    (tmp_path / "loginuid").write_text(f"{pwd.getpwnam('daemon').pw_uid}")
    done = typed("reject", "2026-02/moved", "--by", "Ben", "--reason", "wait", "--yes")
    assert done.code == 0, done.err
    assert decisions(bank) == [(FEB, "moved", "reject", "Ben (irt, daemon)", "wait", None)]


def test_answer_no_at_the_prompt_stores_no_decision(
    typed: Irt, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.cli.console._has_terminal", lambda: True)
    words = ["release", "reject", "2026-02/moved", "--by", "Ben", "--reason", "wait"]
    assert (CliRunner().invoke(app, words, input="n\n").exit_code, decisions(bank)) == (1, [])
    assert CliRunner().invoke(app, words, input="y\n").exit_code == 0
    assert [row[1:4] for row in decisions(bank)] == [("moved", "reject", "Ben")]


def test_drop_anchors_prints_the_command_that_restores_the_anchors(
    typed: Irt, bank: Database, picture: Picture
) -> None:
    run_sql(
        bank,
        """INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash)
           SELECT scale_id, version, 'K4', parameters, errors_assumed, anchor_hash FROM anchor_set
           WHERE item_id = 'K1'""",
    )
    who = ["--from", FEB, "--by", "Ben", "--reason", "reworded", "--yes"]
    steps = (("drop-anchors", "K2", *who), ("restore-anchors", "K2", *who), ("restore-anchors", "K2", *who))
    picture("\n\n".join(run_to_text(typed, *words) for words in steps), "anchors", **OF_THIS_RUN)
    assert [row[1:3] for row in decisions(bank)] == [("K2", "drop_anchor"), ("K2", "restore_anchor")]


# -- decisions that are undone -----------------------------------------------------------------------
# A later decision undoes an earlier one. Both stay on record, and no reported number changes.

IN_APRIL = datetime(2026, 4, 15, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def undo_decision(database: Database, *references: Reference, **others: Any) -> list[Undo]:
    values = {"by": "Ben", "reason": "the text was not simplified", "now": NOW} | others
    return undo(database, references or (MOVED,), **values)


def refused_undo(database: Database, *references: Reference, **others: Any) -> str:
    return refused(database, *references, decide=undo_decision, **others)


def b_at(database: Database, at: datetime) -> float:
    return call(database, in_force, SCALE, at).items["moved"].b


def test_undone_value_never_comes_into_force_if_its_date_is_in_the_future(bank: Database, store: FolderStore) -> None:
    before = call(bank, in_force, SCALE, APRIL)
    accept(bank)
    (done,) = undo_decision(bank)
    assert call(bank, in_force, SCALE, APRIL) == before, "the hash of the set too, so that no θ is stale"
    exported = call(bank, read_export, "parameters", APRIL).set_index("item_id")
    newest = call(bank, lineage, "moved")[0]
    assert (exported.b["moved"], exported.rule["moved"]) == (0.5, "undo")
    assert (newest["rule"], newest["decided_by"], newest["month"]) == ("undo", "Ben", JAN)
    assert (done.since, done.never_in_force, done.restored.b) == (APRIL, True, 0.5)
    assert [row[:3] for row in published_rows(bank)] == [
        (0.5, "first", JAN),
        (pytest.approx(-0.3), "decision", FEB),
        (0.5, "undo", JAN),
    ], "nothing is changed or deleted"
    assert decisions(bank)[-1] == (FEB, "moved", "undo", "Ben", "the text was not simplified", APRIL)
    assert waiting_references(bank) == ["2026-02/moved"]
    assert violations(bank, store) == []


@pytest.mark.parametrize(
    ("others", "since"), [({"now": IN_APRIL}, MAY), ({"effective_from": JUNE}, JUNE)], ids=["next first", "named date"]
)
def test_undone_value_stays_in_force_until_the_next_month_or_a_named_later_date(
    bank: Database, store: FolderStore, others: dict[str, datetime], since: datetime
) -> None:
    accept(bank)
    (done,) = undo_decision(bank, **others)
    assert (done.since, done.never_in_force) == (since, False)
    in_between = since - timedelta(days=1)
    assert [b_at(bank, at) for at in (NOW, APRIL, in_between, since)] == [0.5, *[pytest.approx(-0.3)] * 2, 0.5]
    assert violations(bank, store) == []


def test_undone_proposal_can_be_accepted_for_the_same_day_and_undone_again(bank: Database, store: FolderStore) -> None:
    reject = partial(release.reject, references=[MOVED], by="Cleo", reason="the key changed")
    for decide, b, state in (
        *((accept, -0.3, State.ACCEPTED), (undo_decision, 0.5, State.OPEN)) * 2,
        (reject, 0.5, State.REJECTED),
    ):
        decide(bank)
        assert (b_at(bank, APRIL), proposal_of(bank).state) == (pytest.approx(b), state)
    assert violations(bank, store) == []


def test_rejected_proposal_waits_again_after_an_undo(bank: Database, store: FolderStore) -> None:
    release.reject(bank, [MOVED], by="Ann", reason="within error")
    assert waiting_references(bank) == []
    (done,) = undo_decision(bank)
    assert (done.restored, done.since, waiting_references(bank)) == (None, None, ["2026-02/moved"])
    assert (len(published_rows(bank)), violations(bank, store)) == (1, [])


def test_rerun_month_proposes_the_undone_value_again(bank: Database, store: FolderStore) -> None:
    """The numbers are unchanged, but no decision on them is valid any more."""
    accept(bank)
    undo_decision(bank)
    calibrate(bank, store, FEB, {"moved": (1.0, -0.3), "still": (1.2, 0.12)})
    assert (waiting_references(bank), proposal_of(bank).state) == (["2026-02/moved"], State.OPEN)


def test_later_of_two_accepts_has_to_be_undone_first(bank: Database, store: FolderStore) -> None:
    accept(bank)
    calibrate(bank, store, MAR, {"moved": (1.0, -0.4)})
    accept(bank, Reference(MAR, "moved"), effective_from=MAY)
    assert "after 2026-02/moved, 2026-03/moved was accepted: undo 2026-03/moved first" in refused_undo(bank)
    undo_decision(bank, Reference(MAR, "moved"))
    assert [b_at(bank, at) for at in (APRIL, MAY)] == [pytest.approx(-0.3), pytest.approx(-0.3)]
    undo_decision(bank)
    assert [b_at(bank, at) for at in (APRIL, MAY)] == [pytest.approx(-0.3), 0.5], "not before what is published last"
    assert violations(bank, store) == []


def test_refused_undo_states_the_reason_and_the_remedy(bank: Database, picture: Picture) -> None:
    found = {
        "not decided on": refused_undo(bank),
        "never proposed": refused_undo(bank, Reference("2025-01", "moved")),
        "all of a month": refused_undo(bank, Reference(FEB, "all")),
    }
    accept(bank)
    found |= {
        "now": refused_undo(bank, effective_from=NOW),
        "before it is in force": refused_undo(bank, effective_from=datetime(2026, 3, 20, tzinfo=UTC)),
        "no reason": refused_undo(bank, reason=" "),
    }
    undo_decision(bank)
    picture(found | {"undone already": refused_undo(bank)}, "not_undone", **OF_THIS_RUN)


def test_first_publication_of_an_item_cannot_be_undone_only_withdrawn(bank: Database, store: FolderStore) -> None:
    calibrate(bank, store, JAN, {"late": (1.0, 0.4)})
    accept(bank, Reference(JAN, "late"), MOVED)
    reason = refused_undo(bank, MOVED, Reference(JAN, "late"))
    assert not missing_sentences(
        reason, "nothing was published for late before 2026-01/late", "irt items withdraw late"
    )
    assert proposal_of(bank).state is State.ACCEPTED, "none of them where not all"


def test_reject_is_not_undone_if_its_month_has_proposed_the_item_again(bank: Database, store: FolderStore) -> None:
    release.reject(bank, [MOVED], by="Ann", reason="wait for more answers")
    calibrate(bank, store, FEB, {"moved": (1.0, -0.35), "still": (1.2, 0.12)})
    assert "2026-02/moved is open: its month has proposed it again" in refused_undo(bank)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (
            """UPDATE item_parameter_publication SET parameters = parameters || jsonb_build_object('b', 0.4)
               WHERE rule = 'undo'""",
            "an undo published other values than those before",
        ),
        ("DELETE FROM release_decision WHERE decision = 'undo'", "changed without a recorded decision"),
    ],
)
def test_undo_without_decision_or_with_wrong_values_violates_an_invariant(
    bank: Database, store: FolderStore, plant: str, message: str
) -> None:
    accept(bank)
    undo_decision(bank)
    run_sql(bank, plant)
    assert violations(bank, store) == [f"one_set_is_in_force_and_changes_are_decided: moved: {message}"]


# -- checks of later months --------------------------------------------------------------------------
# Items in drift that a person has decided on: the checks of later months do not fail for them again.

FAR, _, _, _, LOST, _ = build_drift_checks(monthly(JAN))
ACCEPTED_FROM = "UPDATE release_decision SET decision = 'accept', effective_from = '{} 00:00+00'"


@pytest.fixture
def drifted(bank: Database, store: FolderStore) -> Database:
    """An item that drifted in February and March, by nearly the same amount."""
    calibrate(bank, store, MAR, {"moved": (1.0, -0.4), "still": (1.2, 0.1)})
    run_sql(bank, "UPDATE item_drift SET wabc = 0.15 WHERE month = %s", (FEB,))
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, wabc, severity, details)
           VALUES (%s, %s, 'moved', 'em', -0.9, 0.17, 'high', '{}')""",
        (MAR, SCALE),
    )
    return bank


def test_status_lists_waiting_proposals(bank: Database, settings: Settings, tmp_path: Path) -> None:
    """Proposals that confirm the published values do not wait."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert collect_overview(bank, instance, settings).waiting == ["2026-02/moved"]
        assert waiting_line(["2026-02/moved"]) == "1 proposal waits: 2026-02/moved"
        assert waiting_line(list("abcde")) == "5 proposals wait: a, b, c and 2 more"
        release.reject(bank, [MOVED], by="Ann", reason="it is being replaced")
        assert collect_overview(bank, instance, settings).waiting == []


def settled_values(database: Database, month: str = MAR) -> dict[tuple[str, str], str]:
    return call(database, settled_items, month)


def evaluate(check: Any, database: Database, store: FolderStore, month: str) -> dg.AssetCheckResult:
    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = check_context(month, instance)
        found: dg.AssetCheckResult = check.op.compute_fn.decorated_fn(context, database, store)
    return found


def test_drifted_item_fails_the_check_until_a_decision_and_is_named_afterwards(
    drifted: Database, store: FolderStore
) -> None:
    assert settled_values(drifted) == {}
    found = evaluate(FAR, drifted, store, MAR)
    assert (found.passed, found.severity, found.description) == (
        False,
        dg.AssetCheckSeverity.ERROR,
        f"{MAR}: one item: moved",
    )
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    assert settled_values(drifted) == {(SCALE, "moved"): f"{FEB}, rejected by Ann"}
    found = evaluate(FAR, drifted, store, MAR)
    assert (found.passed, found.description) == (
        True,
        f"{MAR}: no item of high severity; no decision needed: moved",
    )
    assert [row["known from"] for row in rows_of(found.metadata, "items")] == [f"{FEB}, rejected by Ann"]


def test_lost_information_passes_the_check_after_a_decision_on_the_items_drift(
    drifted: Database, store: FolderStore
) -> None:
    """Both findings are the same change."""
    run_sql(
        drifted,
        """INSERT INTO test_information (month, scale_id, item_id, curve, flagged, details)
           VALUES (%s, %s, 'moved', '{}', true, '{"ratio": 0.7}')""",
        (MAR, SCALE),
    )
    assert evaluate(LOST, drifted, store, MAR).description == f"{MAR}: one item: moved (keeps 70%)"
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    assert evaluate(LOST, drifted, store, MAR).passed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (f"UPDATE item_drift SET wabc = 0.21 WHERE month = '{MAR}'", []),
        (f"UPDATE item_drift SET severity = 'medium' WHERE month = '{FEB}'", []),
        (ACCEPTED_FROM.format("2026-04-01"), [f"{FEB}, accepted by Ann"]),
        (ACCEPTED_FROM.format("2026-03-01"), []),
    ],
    ids=["grown drift", "formerly small drift", "value not in force yet", "undecided new value"],
)
def test_decision_covers_drift_until_the_drift_grows_or_the_new_value_is_in_force(
    drifted: Database, change: str, expected: list[str]
) -> None:
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    run_sql(drifted, change)
    assert list(settled_values(drifted).values()) == expected


def test_item_passes_the_check_if_a_later_month_contradicts_its_proposal(bank: Database, store: FolderStore) -> None:
    """February runs late, as after a decision on its anchors; March has shown that the change is not real."""
    assert evaluate(FAR, bank, store, FEB).description == f"{FEB}: one item: moved (drift)"
    calibrate(bank, store, MAR, {"moved": (1.0, 0.5), "still": (1.2, 0.1)})
    assert settled_values(bank, FEB) == {(SCALE, "moved"): f"contradicted by {MAR}"}
    found = evaluate(FAR, bank, store, FEB)
    assert (found.passed, found.description) == (
        True,
        f"{FEB}: no item of high severity; no decision needed: moved",
    )


def test_item_passes_the_check_of_earlier_months_if_a_later_value_was_accepted(
    drifted: Database, store: FolderStore
) -> None:
    """February runs again after the decision on March, when February's drift can no longer be decided on."""
    accept(drifted, Reference(MAR, "moved"))
    assert settled_values(drifted, FEB) == {(SCALE, "moved"): f"{MAR}, accepted by Ann"}
    assert evaluate(FAR, drifted, store, FEB).passed
