"""Decision pages show waiting proposals with their evidence, and record each decision once, under the user's name."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from threading import Barrier
from typing import NamedTuple

import dagster as dg
import pytest
from htmltools import TagList
from pydantic import SecretStr

from irt_assets.adaptive.policy import Policy
from irt_assets.blocks import html, plain
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import moved_anchors
from irt_assets.decisions.proposals import Reference, State, find_proposals
from irt_assets.decisions.release import next_month
from irt_assets.decisions.release_impact import impacts
from irt_assets.drift.alerts import settle_alerts
from irt_assets.drift.blocks import change_in_words
from irt_assets.ledger import proposals
from irt_assets.reports import item_blocks
from irt_assets.reports.month_blocks import flagged_items
from irt_assets.scales.scale import read_scales
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, DecisionOutcome, decide, review
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.dashboard.views import decisions as decisions_page, item, proposal
from services.jwt_verifier.tokens import LEEWAY_S, Identity, Role
from tests.helpers.databases import READ_ONLY, altered
from tests.helpers.decided import set_policy
from tests.helpers.pictures import Picture
from tests.helpers.rooms import SCALE, add_attempts, attempt, call, rows, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import command_line
from tests.helpers.waiting_decision import (
    FEB,
    JAN,
    MAR,
    MOVED,
    NOW,
    answers_as_fitted,
    bank,
    calibrate,
    decisions,
    late_answer,
    proposal_of,
    published_rows,
)

__all__ = ["bank"]  # a fixture
ANN = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
BEN = replace(ANN, sub="Ben")
STILL = Reference(FEB, "still")
ACCEPT = DecisionForm("accept", (MOVED,), "it became easier", "2026-05-01")
REJECT = DecisionForm("reject", (MOVED,), "too few answers")
UNDO = DecisionForm("undo", (MOVED,), "an error")
Ask = Callable[..., ViewRequest]
Page = Callable[..., str]
Look = Callable[..., None]


class ReaderAtTime(Reader):
    """A reader with a fixed current time."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def reader(settings: Settings, bank: Database) -> Iterator[Reader]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield ReaderAtTime(settings, instance)


@pytest.fixture
def ask(reader: Reader) -> Ask:
    def asked(view: str = "proposal", identity: Identity = ANN, **fields: str) -> ViewRequest:
        return ViewRequest(view, fields, identity, reader)

    return asked


@pytest.fixture
def page(ask: Ask) -> Page:
    """Returns the text of a page with this status; `fields` is a mapping, as names may contain a colon."""

    def text(view: str, fields: dict[str, str], identity: Identity = ANN, status: int = 200) -> str:
        found, shown = make_page(ViewRequest(view, fields, identity, ask().reader))
        assert found == status
        return unescape(f"{shown.title}\n{shown.body}")

    return text


@pytest.fixture
def look(ask: Ask, picture: Picture) -> Look:
    """Compare a page with its picture, except the hash of the fit and the times of decisions."""

    def compare(view: str, name: str, **fields: str) -> None:
        _, shown = make_page(ask(view, **fields))
        html = f"<h1>{escape(shown.title)}</h1>{TagList(shown.body).get_html_string()}"
        picture(html, name, fit=r"(?<=-em-)[0-9a-f]{8}", time=r"20\d\d-\d\d-\d\d \d\d:\d\d UTC")

    return compare


def person(*roles: Role) -> Identity:
    return replace(ANN, roles=roles)


def leaked(bank: Database) -> None:
    run_sql(bank, """UPDATE item_drift SET details = '{"change": {"kind": "leak", "size": -0.8}}'""")


def refusal(outcome: DecisionOutcome) -> str:
    assert not outcome.ok
    return outcome_text(outcome)


def refusals(request: ViewRequest, *forms: DecisionForm) -> list[str]:
    """Reasons why both a review and a decision refuse these forms."""
    return [refusal(attempt(request, form)) for attempt in (review, decide) for form in forms]


def headline_of(name: str, ask: Ask) -> str:
    return plain(item_blocks.item_in_short(item.find_facts(ask("item", item=name)), NOW))


def outcome_text(outcome: DecisionOutcome) -> str:
    return " ".join(outcome.sentences)


# -- deciding ----------------------------------------------------------------------------------------


def test_accept_is_previewed_and_then_recorded_in_the_name_of_the_logged_in_user(bank: Database, ask: Ask) -> None:
    outcome = review(ask(), ACCEPT)
    assert (outcome.ok, decisions(bank)) == (True, [])
    assert "moved is published with a = 1.00 ± 0.01, b = -0.30 ± 0.10 from 2026-05-01 on, in place of" in outcome_text(
        outcome
    )
    done = decide(ask(), ACCEPT, outcome)
    assert (done.ok, outcome_text(done)) == (True, "Accepted: 2026-02/moved, in force from 2026-05-01 00:00 UTC on.")
    assert decisions(bank) == [(FEB, "moved", "accept", "Ann", "it became easier", datetime(2026, 5, 1, tzinfo=UTC))]
    assert published_rows(bank)[-1][:2] == (-0.3, "decision")


def test_review_warns_if_answers_have_changed_since_the_fit(bank: Database, ask: Ask) -> None:
    answers_as_fitted(bank)
    assert "have changed since" not in outcome_text(review(ask(), ACCEPT)) + outcome_text(review(ask(), REJECT))
    late_answer(bank)
    for form in (ACCEPT, REJECT):
        assert "the answers of 2026-02 have changed since: `irt calibrate --month 2026-02`" in outcome_text(
            review(ask(), form)
        )


def test_accept_without_a_day_takes_effect_on_the_first_of_the_next_month(bank: Database, ask: Ask) -> None:
    assert decide(ask(), replace(ACCEPT, since="")).ok
    assert published_rows(bank)[-1][-1] == next_month(NOW)


def test_decisions_are_refused_if_the_role_is_too_low(bank: Database, ask: Ask) -> None:
    drop = DecisionForm("drop", (Reference(FEB, "K1"),), "why", scale_id=SCALE)
    for identity in (person("viewer"), person("analyst"), person()):
        errors = refusals(ask(identity=identity), ACCEPT, REJECT, UNDO, drop)
        assert all("needs the role psychometrician" in reason for reason in errors)
    assert decisions(bank) == []
    assert decide(ask(identity=person("operator")), REJECT).ok, "the role is above"


def test_decisions_are_refused_if_the_login_has_expired(bank: Database, ask: Ask) -> None:
    ended = replace(ANN, exp=time.time() - LEEWAY_S - 1)
    assert all("Your login has expired: reload the page" in reason for reason in refusals(ask(identity=ended), REJECT))
    assert decisions(bank) == []


def test_decisions_are_refused_without_a_meaningful_reason(bank: Database, ask: Ask) -> None:
    for reason in ("", "  \n", "…", "x" * 2_001, "a\x00b"):
        errors = refusals(ask(), replace(ACCEPT, reason=reason), replace(REJECT, reason=reason))
        assert all("reason" in why for why in errors)
    assert decisions(bank) == []


def test_accept_is_refused_if_the_day_is_invalid_or_past(bank: Database, ask: Ask) -> None:
    for reason, days in {
        "is not in the future": ("2026-03-10", "1999-01-01"),
        "a day such as": ("tomorrow", "2026-02-30", "٢٠٢٦-٠٥-٠١", "2026-05-01T00:00"),
    }.items():
        errors = refusals(ask(), *(replace(ACCEPT, since=day) for day in days))
        assert all(reason in one for one in errors)
    assert decisions(bank) == []


def test_leaked_items_are_accepted_only_if_the_box_is_ticked(bank: Database, ask: Ask) -> None:
    leaked(bank)
    reason = "2026-02/moved leaked: the new value measures who knows the answer"
    assert [reason in outcome_text(attempt(ask(), ACCEPT)) for attempt in (review, decide)] == [True, True]
    assert decisions(bank) == []
    assert decide(ask(), replace(ACCEPT, although_it_leaked=True)).ok


def test_only_the_first_of_two_simultaneous_decisions_is_recorded(bank: Database, ask: Ask) -> None:
    """The second user is told the first user's decision and reason."""
    seen = review(ask(), ACCEPT)
    both = Barrier(2)

    def click(identity: Identity, form: DecisionForm) -> DecisionOutcome:
        both.wait()
        return decide(ask(identity=identity), form, seen)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(click, (ANN, BEN), (ACCEPT, REJECT)))
    ((_, _, decision, by, reason, _),) = decisions(bank)
    (first,) = [outcome for outcome in outcomes if outcome.ok]
    (second,) = [outcome for outcome in outcomes if not outcome.ok]
    assert first is outcomes[0 if by == "Ann" else 1]
    assert not missing_sentences(outcome_text(second), f"2026-02/moved was {decision}ed by {by} on", reason)
    assert len(published_rows(bank)) == (2 if decision == "accept" else 1)


def test_the_same_click_twice_decides_once(bank: Database, ask: Ask) -> None:
    seen = review(ask(), ACCEPT)
    assert [decide(ask(), ACCEPT, seen).ok for _ in range(3)] == [True, False, False]
    assert len(decisions(bank)) == 1


def test_several_proposals_are_decided_together_or_not_at_all(bank: Database, ask: Ask) -> None:
    assert decide(ask(), replace(REJECT, references=(STILL,))).ok
    assert "2026-02/still was rejected by Ann" in refusal(decide(ask(), replace(REJECT, references=(MOVED, STILL))))
    assert [item for _, item, *_ in decisions(bank)] == ["still"]


def test_accept_is_refused_if_the_month_was_fitted_again_since_the_review(
    bank: Database, store: FolderStore, ask: Ask
) -> None:
    seen = review(ask(), ACCEPT)
    calibrate(bank, store, FEB, {"moved": (1.0, -0.9), "still": (1.2, 0.1)})
    assert "values that differ from the values shown" in outcome_text(decide(ask(), ACCEPT, seen))
    assert decisions(bank) == []


def test_undo_is_previewed_and_reopens_the_proposal(bank: Database, ask: Ask) -> None:
    assert "2026-02/moved has not been decided on yet" in outcome_text(review(ask(), UNDO))
    assert decide(ask(), ACCEPT).ok
    outcome = review(ask(), UNDO)
    never = "from 2026-05-01 on, a = 1.00 ± 0.01, b = -0.30 ± 0.10 never comes into force"
    assert (outcome.ok, never in outcome_text(outcome)) == (True, True)
    assert decide(ask(identity=BEN), UNDO).ok
    assert [(decision, by) for _, _, decision, by, _, _ in decisions(bank)] == [("accept", "Ann"), ("undo", "Ben")]
    assert proposal_of(bank).state is State.OPEN
    assert not decide(ask(), UNDO).ok


def test_unreachable_database_is_reported_with_a_remedy(
    ask: Ask, settings: Settings, instance: dg.DagsterInstance
) -> None:
    unreachable = settings.model_copy(
        update={"database_url": SecretStr("postgresql://irt@127.0.0.1:1/irt?connect_timeout=2")}
    )
    request = ViewRequest("proposal", {}, ANN, ReaderAtTime(unreachable, instance))
    missing = [
        missing_sentences(reason, "try again", "What you typed is still there") for reason in refusals(request, ACCEPT)
    ]
    assert missing == [[], []]


def test_read_only_database_allows_a_review_and_refuses_the_decision(ask: Ask, settings: Settings) -> None:
    with altered(settings, *READ_ONLY):
        assert review(ask(), ACCEPT).ok
        assert "cannot be changed at the moment" in refusal(decide(ask(), ACCEPT))
    assert decide(ask(), ACCEPT).ok


def test_internal_errors_are_reported_without_a_traceback(ask: Ask) -> None:
    ask().reader.now = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert missing_sentences(refusal(decide(ask(), ACCEPT)), "fault of the dashboard", "zero") == ["zero"]


def test_next_page_shows_a_months_new_state_after_a_decision(red: Database, ask: Ask, page: Page) -> None:
    """Also if another process, such as a command, recorded the decision."""
    address = {"month": FEB, "scale": SCALE}
    run_sql(red, "UPDATE mirt_fit_meta SET anchor_hash = (SELECT min(anchor_hash) FROM anchor_set)")
    assert missing_sentences(page("month", address), "is red and not safe to release") == []
    assert "decided, to be made again" not in page("months", address)
    elsewhere = replace(ask(), reader=ReaderAtTime(ask().reader.settings, ask().reader.instance))
    drop = DecisionForm("drop", (Reference(FEB, "K2"),), "its text was changed", scale_id=SCALE)
    assert decide(elsewhere, drop).ok
    for view in ("month", "months"):
        assert missing_sentences(page(view, address), "decided, to be made again") == []


# -- the pages ---------------------------------------------------------------------------------------


def test_alerts_of_a_proposal_are_found_by_an_index(bank: Database) -> None:
    """After three years, thousands of alerts are open and a thousand proposals wait."""
    parameters = {"windows": None, "items": None, "scale": None, "may_ask": True}
    with bank.connect() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = connection.execute(f"EXPLAIN {proposals._PROPOSALS}".encode(), parameters).fetchall()
    assert any("drift_alerts_item" in line for (line,) in plan)


def test_waiting_proposals_are_listed_with_a_line_of_evidence(page: Page, look: Look) -> None:
    """`still` is not listed, as its estimate confirms the published values."""
    look("decisions", "waits")
    assert "Nothing of 2026-01 waits for a decision." in page("decisions", {"month": JAN})
    assert str(STILL) in page("decisions", {"month": FEB, "all": "1"})


def test_latest_decisions_are_listed_and_decisions_in_force_can_be_undone(ask: Ask, look: Look) -> None:
    assert decide(ask(), ACCEPT).ok
    look("decisions", "accepted")
    look("proposal", "accepted_proposal", proposal=str(MOVED))
    assert decide(ask(), UNDO).ok
    look("decisions", "undone")


def test_proposals_of_a_month_are_listed_in_pages(bank: Database, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions_page, "PER_PAGE", 1)
    (n,) = rows(bank, "SELECT count(*) FROM item_parameter_proposal WHERE month = %s", (FEB,))[0]
    for odd in ("-1", "0", "x", "99", "1e9", "٣"):
        page("decisions", {"month": FEB, "all": "1", "page": odd}, status=404)
    text = page("decisions", {"month": FEB, "all": "1", "page": "2"})
    assert not missing_sentences(text, f"2 to 2 of {n}", str(STILL))
    assert f'chosen:{MOVED}"' not in text, "it is first, as it changes most"


def test_proposal_page_shows_the_question_the_evidence_and_both_curves(bank: Database, page: Page, look: Look) -> None:
    look("proposal", "proposal", proposal=str(MOVED))
    text = page("proposal", {"proposal": str(MOVED)})
    assert not missing_sentences(text, '"name":"published"', '"name":"estimate of 2026-02"', proposal_of(bank).fit_id)
    leaked(bank)
    look("proposal", "leaked", proposal=str(MOVED))


def test_proposals_contradicted_by_a_later_month_name_that_month_and_can_be_decided(
    bank: Database, store: FolderStore, page: Page, look: Look
) -> None:
    calibrate(bank, store, MAR, {"moved": (1.0, 0.47), "still": (1.2, 0.1)})
    look("proposal", "contradicted", proposal=str(MOVED))
    look("decisions", "contradicted_list")
    assert "contradicted by 2026-03" in page("decisions", {"month": FEB, "all": "1"})
    assert "No decision needed" not in page("decisions", {"month": MAR})


def test_leaked_item_can_be_withdrawn_on_the_page_of_its_proposal(bank: Database, ask: Ask, page: Page) -> None:
    offered, elsewhere = "Take it out of use …", "Take the item out of use</a>"
    assert offered not in page("proposal", {"proposal": str(MOVED)})
    leaked(bank)
    assert offered in page("proposal", {"proposal": str(MOVED)})
    assert decide(ask(), REJECT).ok
    missing = missing_sentences(page("proposal", {"proposal": str(MOVED)}), offered, elsewhere)
    assert missing == [offered], "the day of the form there is that of the undoing"
    form = DecisionForm("withdraw", (MOVED,), "leaked")
    assert "moved is out of use from 2026-03-11 00:00 UTC on" in outcome_text(review(ask(), form))
    assert decide(ask(), form).ok
    assert elsewhere not in page("proposal", {"proposal": str(MOVED)})
    text = page("decisions", {})
    assert "Two decisions, the newest first" in text
    assert text.index("withdraw an item") < text.index("rejected")
    assert "The item is withdrawn from 2026-03-11 on by Ann: leaked." in page("proposal", {"proposal": str(MOVED)})


def test_values_decided_for_a_later_day_are_shown_on_the_item_and_bank_pages(
    bank: Database, ask: Ask, page: Page
) -> None:
    run_sql(bank, "UPDATE item_drift SET details = '{}'")
    assert decide(ask(), replace(ACCEPT, since="2099-05-01")).ok
    headline = (
        "moved is in use with a = 1.00 and b = 0.50 since 2026-02-01. Ann decided on a = 1.00 and b = −0.30 from "
    )
    assert f"{headline}2099-05-01 on." in headline_of("moved", ask)
    assert "2026-02-01; a = 1.00, b = −0.30 from 2099-05-01 on" in page("bank", {})
    shown = dict(item_blocks.identity(item.find_facts(ask("item", item="moved")), NOW).rows)
    assert "b 0.50" in str(shown["published"])
    assert "b −0.30" in str(shown["comes into force"])
    assert decide(ask(), UNDO).ok
    assert "2099-05-01" not in headline_of("moved", ask)
    assert "2099-05-01" not in page("bank", {})


def test_first_day_of_a_leak_is_the_same_on_every_page(
    bank: Database, store: FolderStore, ask: Ask, page: Page
) -> None:
    """The first month that detects the leak dates it. The next month's own estimate of the onset is its first day."""
    calibrate(bank, store, MAR, {"moved": (1.0, -0.3), "still": (1.2, 0.1)})
    known = '{"change": {"kind": "leak", "size": 0.3, "gains": {"leak": 9}, "distractor_above_the_key": null, "onset": '
    change = known + '"%s"}}'
    run_sql(bank, "UPDATE item_drift SET details = %s", (change % "2026-02-20",))
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, severity, details)
           VALUES (%s, %s, 'moved', 'em', -0.8, 'high', %s)""",
        (MAR, SCALE, change % "2026-03-01"),
    )
    with bank.connect() as connection:
        settle_alerts(connection, SCALE)
        scale = read_scales(connection)[SCALE]
        of_months = [html.part(*flagged_items(connection, scale, month, None)) for month in (FEB, MAR)]
    facts = item.find_facts(ask("item", item="moved"))
    shown = [
        headline_of("moved", ask) + change_in_words(facts.drift[-1].details["change"], facts.onset),
        page("proposal", {"proposal": f"{MAR}/moved"}),
        *of_months,
    ]
    for text in shown:
        assert re.search("(since|from) 2026-02-20", text)
        assert not re.search("(since|from|on) 2026-03-01", text)
    assert "It has drifted since 2026-02-20: easier by 0.80." in shown[0]


def test_users_who_may_not_decide_see_the_evidence_and_the_required_role(bank: Database, page: Page) -> None:
    for view, fields in (("proposal", {"proposal": str(MOVED)}), ("decisions", {})):
        text = page(view, fields, person("analyst"))
        shown = missing_sentences(text, "difference of curves", "eeds the role psychometrician", "Accept", "chosen:")
        assert shown == ["Accept", "chosen:"]


def test_several_chosen_proposals_are_shown_together(bank: Database, page: Page) -> None:
    text = page("proposal", {f"chosen:{MOVED}": "on", f"chosen:{STILL}": "on"})
    assert not missing_sentences(text, "Publish the new values of two items?", "Reject …")
    page("proposal", {f"chosen:{FEB}/{k}": "on" for k in range(201)}, status=404)


def test_unknown_proposals_return_404(bank: Database, page: Page) -> None:
    names = ["", "x", "2026-02", "2026-02/", "2026-99/moved", "2026-02/nobody", "2026-02/' OR 1=1 --", "2026-02/\0"]
    names += ["🎓" * 5_000, "2026-02/<script>alert(1)</script>", "2026-02/" + "y" * 10_000, "2020-01/all"]
    for name in names:
        text = page("proposal", {"proposal": name}, status=404)
        assert ("Decisions" in text, len(text) < 5_000) == (True, True), name[:50]


def test_effect_of_a_proposal_includes_the_adaptive_tests_of_its_scale(bank: Database, ask: Ask) -> None:
    scale_id = call(bank, find_proposals, [MOVED])[0].scale_id
    policy = Policy.from_yaml(f"test: placement\nscale: {scale_id}\nlength: {{max: 3}}\n")
    set_policy(bank, policy, by="Ann", reason="June", effective_from=NOW)
    learners, tests = proposal.impact_sentences(ask(), [MOVED])
    assert "learners" in learners
    assert tests.startswith("Test placement, 2,000 simulated tests of ")
    assert "RMSE of θ" in tests


def test_effect_on_learners_equals_the_computed_release_impact(bank: Database, ask: Ask) -> None:
    (expected,) = call(bank, impacts, [call(bank, find_proposals, [MOVED])[0]], next_month(NOW))
    (outcome,) = proposal.impact_sentences(ask(), [MOVED])
    assert expected.sentence.lower() in outcome.lower()
    assert decide(ask(), REJECT).ok
    assert "No proposal can be accepted now" in proposal.impact_sentences(ask(), [MOVED])[0]
    assert "cannot be computed" in proposal.impact_sentences(ask(), [Reference(MAR, "moved")])[0]


# -- anchors -----------------------------------------------------------------------------------------

SUSPECT = '{"delta_b": 0.8, "delta_a": 0.0, "z": 7.3, "parameter": "b"}'


@pytest.fixture
def red(bank: Database) -> Database:
    """February is held: K2 moved against the other anchors."""
    run_sql(
        bank,
        """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants,suspects}', %s)
           WHERE window_start = %s""",
        (f'{{"K2": {SUSPECT}}}', Month(FEB).start),
    )
    run_sql(bank, "UPDATE publication_step SET state = 'held' WHERE month = %s", (FEB,))
    run_sql(
        bank,
        """INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash)
           SELECT scale_id, version, 'K4', parameters, errors_assumed, anchor_hash FROM anchor_set
           WHERE item_id = 'K1'""",
    )
    run_sql(bank, """UPDATE calibration_scale SET rules = rules || '{"min_anchors": 3}'""")
    return bank


def test_moved_anchors_wait_for_a_decision_until_they_are_dropped(
    red: Database, ask: Ask, page: Page, look: Look
) -> None:
    assert [*call(red, moved_anchors, FEB, call(red, read_scales, Month(FEB).start)[SCALE])] == ["K2"]
    look("decisions", "moved_anchor")
    look("anchors", "anchor", month=FEB, scale=SCALE, item="K2")
    form = DecisionForm("drop", (Reference(FEB, "K2"),), "its text was changed", scale_id=SCALE)
    outcome = review(ask(), form)
    assert (outcome.ok, rows(red, "SELECT 1 FROM release_decision")) == (True, [])
    done = outcome_text(decide(ask(), form))
    assert re.search(f"3 anchors are in the set from {FEB} on.*To be recomputed: {FEB}", done, re.DOTALL)
    assert not decide(ask(), form).ok
    assert rows(red, "SELECT decision, decided_by FROM release_decision") == [("drop_anchor", "Ann")]
    assert "that moved in 2026-02" not in page("decisions", {})


def test_dropping_an_anchor_names_the_undo_command_and_can_be_undone_on_its_page(
    red: Database, ask: Ask, page: Page
) -> None:
    address = {"month": FEB, "scale": SCALE, "item": "K2"}
    drop = DecisionForm("drop", (Reference(FEB, "K2"),), "its text was changed", scale_id=SCALE)
    back = replace(drop, kind="put_back", reason="the old text is back")
    assert (
        "“Restore …” under Decisions, or `irt release restore-anchors K2 --from 2026-02 --by NAME --reason WHY` "
        in (outcome_text(review(ask(), drop)))
    )
    assert "no dropped anchors" in refusal(review(ask(), back))
    assert decide(ask(), drop).ok
    assert "?view=anchors&month=2026-02&scale=default&chosen%3AK2=on" in page("decisions", {})
    # the text above "Dropped" once the decision is recorded
    assert page("anchors", address).startswith("Out of the anchors in 2026-02: K2")
    assert "needs the role psychometrician" in refusal(decide(ask(identity=person("analyst")), back))
    assert "4 again, as they were frozen" in outcome_text(review(ask(), back))
    assert "Restored: K2; 4 anchors are in the set from 2026-02 on." in outcome_text(decide(ask(), back))
    assert missing_sentences(page("decisions", {}), "restored to the anchors", "Restore …") == ["Restore …"]
    assert page("anchors", address).startswith("Among the anchors in 2026-02: K2")
    run_sql(red, "UPDATE publication_step SET state = 'done' WHERE month = %s", (FEB,))
    assert "Moved in 2026-02" not in page("anchors", address)


def test_all_rows_can_be_chosen_with_a_click_and_the_cause_comes_first(red: Database, page: Page) -> None:
    assert "data-choose-all" in page("decisions", {})
    assert "Find out first what they have in common" in page("anchors", {"month": FEB, "scale": SCALE, "item": "K2"})


def test_items_that_are_not_anchors_cannot_be_dropped(bank: Database, page: Page) -> None:
    k2 = {"item": "K2"}
    nowhere: list[dict[str, str]] = [{}, k2, k2 | {"month": "x", "scale": SCALE}, k2 | {"month": FEB, "scale": "nope"}]
    for fields in nowhere:
        page("anchors", fields, status=404)
    text = page("anchors", {"item": "moved", "month": FEB, "scale": SCALE})
    assert missing_sentences(text, "no anchors of scale", "Drop from") == ["Drop from"]


# -- changes between the review and the decision ------------------------------------------------------

DROP = DecisionForm("drop", (Reference(FEB, "K2"),), "its text was changed", scale_id=SCALE)
DROP_K4 = replace(DROP, references=(Reference(FEB, "K4"),))
BACK, BACK_K4 = replace(DROP, kind="put_back"), replace(DROP_K4, kind="put_back")
REKEY = DecisionForm("rekey", (Reference("", "moved"),), "B is right", options=("B",))
REKEY_C, UNDO_KEY = replace(REKEY, options=("C",)), replace(REKEY, kind="undo_key")
ACCEPT_LATER = replace(ACCEPT, since="2026-06-01")


class Overtaken(NamedTuple):
    """A decision that another person's decisions overtake.

    Attributes:
        before: decisions before the review.
        form: the reviewed decision.
        others: decisions of the other person after the review.
        part: the part that has changed by them.
    """

    before: list[DecisionForm]
    form: DecisionForm
    others: list[DecisionForm]
    part: str


CHANGED_SINCE = {
    "undo of an accept": Overtaken([ACCEPT], UNDO, [UNDO, ACCEPT_LATER], f"the decision on {MOVED}"),
    "undo of an accept, now rejected": Overtaken([ACCEPT], UNDO, [UNDO, REJECT], f"the decision on {MOVED}"),
    "undo of a reject": Overtaken([REJECT], UNDO, [UNDO, REJECT], f"the decision on {MOVED}"),
    "drop": Overtaken([], DROP, [DROP_K4, BACK_K4], f"the anchor set of scale {SCALE}"),
    "put_back": Overtaken([DROP], BACK, [BACK, DROP], f"the anchor set of scale {SCALE}"),
    "rekey": Overtaken([], REKEY, [REKEY_C], "the key of moved"),
    "rekey, key as before": Overtaken([], REKEY, [REKEY_C, UNDO_KEY], "the last decision on the key of moved"),
    "undo_key": Overtaken([REKEY], UNDO_KEY, [REKEY_C], "the last decision on the key of moved"),
}
COMMANDS = {
    "undo": ("release", "undo", MOVED),
    "drop": ("release", "drop-anchors", "K2", "--from", FEB),
    "put_back": ("release", "restore-anchors", "K2", "--from", FEB),
    "rekey": ("items", "rekey", "moved", "--key", "B"),
    "undo_key": ("items", "rekey", "moved", "--undo"),
}
changed_since = pytest.mark.parametrize("overtaken", CHANGED_SINCE.values(), ids=CHANGED_SINCE.keys())


@pytest.fixture
def keyed(red: Database) -> Database:
    """The item `moved` has the key A, and answers that chose A, B and C. February is published."""
    run_sql(red, "UPDATE publication_step SET state = 'done' WHERE month = %s", (FEB,))
    start = Month(FEB).start
    add_attempts(
        red,
        [
            attempt(f"u{n}", "moved", start + timedelta(minutes=n), response=choice, correct=choice == "A")
            for n, choice in enumerate("ABC")
        ],
    )
    run_sql(red, """UPDATE question SET meta = meta || '{"key": "A"}' WHERE item_id = 'moved'""")
    return red


def every_decision(database: Database) -> list[object]:
    tables = ("release_decision", "scale_decision", "item_parameter_publication", "anchor_set", "attempt_correction")
    return [rows(database, f"SELECT * FROM {table}") for table in tables]


def decide_each(request: ViewRequest, forms: Iterable[DecisionForm]) -> None:
    assert [outcome for form in forms if not (outcome := decide(request, form)).ok] == []


@changed_since
def test_decision_is_refused_if_another_one_came_after_the_review(
    keyed: Database,
    ask: Ask,
    overtaken: Overtaken,
) -> None:
    decide_each(ask(), overtaken.before)
    seen = review(ask(), overtaken.form)
    decide_each(ask(identity=BEN), overtaken.others)
    stored = every_decision(keyed)
    reason = refusal(decide(ask(), overtaken.form, seen))
    assert reason.startswith("nothing was decided, because ")
    assert (f"{overtaken.part} has changed since: " in reason, reason.endswith("Look again.")) == (True, True)
    assert every_decision(keyed) == stored
    assert decide(ask(), overtaken.form, review(ask(), overtaken.form)).ok, "after another look"


@changed_since
def test_answers_that_arrive_after_the_review_do_not_refuse_the_decision(
    keyed: Database,
    ask: Ask,
    overtaken: Overtaken,
) -> None:
    decide_each(ask(), overtaken.before)
    seen = review(ask(), overtaken.form)
    late_answer(keyed)
    add_attempts(keyed, [attempt("late", "moved", Month(FEB).start, response="B", correct=False)])
    assert decide(ask(), overtaken.form, seen).ok


@changed_since
def test_command_refuses_if_another_decision_came_before_the_confirmation(
    keyed: Database,
    ask: Ask,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overtaken: Overtaken,
) -> None:
    def let_others_decide(_question: str, _yes: bool) -> None:
        decide_each(ask(identity=BEN), overtaken.others)
        stored.extend(every_decision(keyed))

    stored: list[object] = []
    decide_each(ask(), overtaken.before)
    for module in ("release", "items"):
        monkeypatch.setattr(f"irt_assets.cli.{module}.confirm", let_others_decide)
    monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
    monkeypatch.setenv("DATABASE_URL", keyed.url)
    done = command_line(monkeypatch, capsys)(
        *COMMANDS[overtaken.form.kind], "--by", "Ann", "--reason", overtaken.form.reason
    )
    assert (done.code, f"{overtaken.part} has changed since: " in " ".join(done.err.split())) == (2, True), done.err
    assert every_decision(keyed) == stored


@pytest.mark.parametrize("form", [DROP, BACK], ids=["drop", "put_back"])
def test_change_of_anchors_is_refused_if_the_month_was_fitted_again(
    red: Database, store: FolderStore, ask: Ask, form: DecisionForm
) -> None:
    assert form is DROP or decide(ask(), DROP).ok
    seen = review(ask(), form)
    calibrate(red, store, FEB, {"moved": (1.0, -0.9), "still": (1.2, 0.1)})
    assert f"the last linked month has changed since: {FEB}, fit " in refusal(decide(ask(), form, seen))


def test_undo_is_refused_if_its_default_day_has_passed_since_the_review(ask: Ask) -> None:
    assert decide(ask(), ACCEPT).ok
    seen = review(ask(), UNDO)
    ask().reader.now = lambda: datetime(2026, 5, 2, tzinfo=UTC)  # type: ignore[method-assign]
    assert "the earlier value of moved has changed since: " in refusal(decide(ask(), UNDO, seen))
