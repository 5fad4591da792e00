"""The page on an item's key: options, effect and decision, as `irt items rekey` makes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html import unescape

import dagster as dg
import pytest

from irt_assets.common.partitions import Month
from irt_assets.decisions.proposals import Reference
from irt_assets.item_analysis.stored import write_analysis
from irt_assets.ledger.closings import close_month
from irt_assets.responses.snapshot import current_snapshots
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, DecisionOutcome, decide, review
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.jwt_verifier.tokens import Identity
from tests.helpers.rooms import SCALE, add_attempts, attempt, call, rows, run_sql
from tests.helpers.sat12 import FORM, ITEM_32
from tests.helpers.sentences import missing_sentences
from tests.helpers.waiting_decision import FEB, bank

__all__ = ["bank"]  # a fixture
ANN = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
BOTH = DecisionForm("rekey", (Reference("", "moved"),), "both are right", options=("A", "<b>B</b>"))


@pytest.fixture
def request_of(settings: Settings, bank: Database) -> Iterator[ViewRequest]:
    """A request for the page of an item whose key is A, with three answers."""
    start = Month(FEB).start
    answers = [
        attempt(f"u{n}", "moved", start + timedelta(minutes=n), response=choice, correct=choice == "A")
        for n, choice in enumerate(["A", "<b>B</b>", "C"])
    ]
    add_attempts(bank, answers)
    run_sql(bank, """UPDATE question SET meta = meta || '{"key": "A"}' WHERE item_id = 'moved'""")
    with dg.DagsterInstance.ephemeral() as instance:
        yield ViewRequest("rekey", {"item": "moved", "scale": "default"}, ANN, Reader(settings, instance))


def shown(request: ViewRequest) -> str:
    status, page = make_page(request)
    assert status == 200
    return unescape(f"{page.title}\n{page.body}")


def text(outcome: DecisionOutcome, *, ok: bool = True) -> str:
    assert outcome.ok == ok, outcome.sentences
    return " ".join(outcome.sentences)


def test_key_is_decided_on_the_page_after_its_effect_was_shown(bank: Database, request_of: ViewRequest) -> None:
    assert not missing_sentences(shown(request_of), "Recorded key: A.", "33.3%", "Change the key …")
    assert "Undo the last change …" not in shown(request_of)
    effect = text(review(request_of, BOTH))
    assert not missing_sentences(effect, "A → <b>B</b> or A", "1 become right", "θ changes for nobody.")
    assert rows(bank, "SELECT count(*) FROM response_log WHERE correct") == [(1,)]
    assert "1 become right" in text(decide(request_of, BOTH))
    assert rows(bank, "SELECT count(*) FROM response_log WHERE correct") == [(2,)]
    assert rows(bank, "SELECT decided_by, reason FROM scale_decision") == [("Ann", "both are right")]
    assert "Undo the last change …" in shown(request_of)
    assert not missing_sentences(shown(request_of), "A → <b>B</b> or A, by Ann", "Recompute its months", "Publish its")
    assert "1 become wrong" in text(decide(request_of, replace(BOTH, kind="undo_key")))
    assert "count no more" in text(review(request_of, replace(BOTH, scoring="drop")))
    assert "2 become right" in text(review(request_of, replace(BOTH, scoring="all")))


def test_suspect_key_is_a_card_and_a_flag_until_it_changes(bank: Database, request_of: ViewRequest) -> None:
    run_sql(bank, """UPDATE question SET meta = meta || '{"key": "5"}' WHERE item_id = 'moved'""")
    form, item = replace(FORM, form_id=""), replace(ITEM_32, item_id="moved", position=1)
    call(bank, lambda connection: write_analysis(connection, SCALE, FEB, [form], [item]))
    months, flagged = replace(request_of, view="months", fields={}), replace(request_of, fields={"flag": "key"})
    flagged = replace(flagged, view="bank")
    assert not missing_sentences(shown(months), "Key of moved", "Option 3", "a suspect key: 1")
    assert not missing_sentences(shown(flagged), "suspect key", "Items 1–1 of 1")
    run_sql(bank, """UPDATE question SET meta = meta || '{"key": "3"}' WHERE item_id = 'moved'""")
    assert "Key of moved" not in shown(months)
    assert "No item matches" in shown(flagged)


def test_closed_months_that_a_new_key_changes_are_linked_until_they_are_reopened(
    bank: Database, request_of: ViewRequest
) -> None:
    call(bank, close_month, call(bank, current_snapshots)[FEB], [SCALE])
    link = f"?view=month&month={FEB}&scale={SCALE}"
    assert f"Closed: {FEB}" in text(review(request_of, BOTH))
    assert link not in shown(request_of)
    assert decide(request_of, BOTH).ok
    assert link in shown(request_of)
    assert decide(request_of, DecisionForm("reopen", (Reference(FEB, ""),), "the key was wrong")).ok
    assert link not in shown(request_of)


def test_key_is_not_changed_without_the_role_or_a_choice(bank: Database, request_of: ViewRequest) -> None:
    viewer = replace(request_of, identity=replace(ANN, roles=("viewer",)))
    assert "needs the role psychometrician" in shown(viewer)
    assert "Right options" not in shown(viewer)
    assert "needs the role psychometrician" in text(decide(viewer, BOTH), ok=False)
    assert "say which options are right" in text(decide(request_of, replace(BOTH, options=())), ok=False)
    assert rows(bank, "SELECT count(*) FROM scale_decision") == [(0,)]
    assert make_page(replace(request_of, fields={"item": "Moved"}))[0] == 422
