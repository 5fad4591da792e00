"""The page that compares the methods of equating two forms, and the decision on one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.decisions.proposals import Reference
from irt_assets.scores import equating
from irt_assets.scores.chosen_equating import chosen_equatings
from irt_assets.scores.releases import release_table
from irt_psychometrics.equating import Equating, equate_by_items
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, DecisionOutcome, decide, review
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.dashboard.views import equate
from services.jwt_verifier.tokens import Identity
from tests.helpers.rooms import SCALE, call
from tests.helpers.score_world import FORMS, NOW, SIGNED, analyse, build_exam, make_tables, sit
from tests.helpers.sentences import missing_sentences

ANN = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
CHOICE = DecisionForm("equate", (Reference("F1", "F2"),), "least differences", scale_id=SCALE, method="linear-chained")
UNDO = replace(CHOICE, kind="undo_equating")


class ReaderInJuly(Reader):
    """A reader in the month after the exam."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def request_of(settings: Settings, database: Database, tmp_path: Path) -> Iterator[ViewRequest]:
    """A request for the page of the form F2, whose learners are .3 SD above the learners of F1."""
    build_exam(database, tmp_path, learners=200, shift=0.3)
    make_tables(database)
    release_table(database, SCALE, "F1", **SIGNED)
    with dg.DagsterInstance.ephemeral() as instance:
        fields = {"scale": SCALE, "new": "F2", "old": "F1"}
        yield ViewRequest("equate", fields, ANN, ReaderInJuly(settings, instance))


def shown(request: ViewRequest) -> str:
    status, page = make_page(request)
    assert status == 200
    return unescape(f"{page.title}\n{page.body}")


def text(outcome: DecisionOutcome, *, ok: bool = True) -> str:
    assert outcome.ok == ok, outcome.sentences
    return " ".join(outcome.sentences)


def test_method_is_chosen_on_the_page_and_its_choice_is_undone(database: Database, request_of: ViewRequest) -> None:
    page = shown(request_of)
    assert not missing_sentences(
        page, "No equating of form F2 is chosen", "ten items with 10 points are in both forms", "kernel-chained", "AIC"
    )
    assert "Undo the choice …" not in page
    effect = text(review(request_of, CHOICE))
    assert not missing_sentences(effect, "Raw scores of form F2 are equated to F1 by linear-chained", "learners pass")
    assert call(database, chosen_equatings, SCALE) == {}
    assert "Raw scores of form F2 are equated to F1" in text(decide(request_of, CHOICE))
    assert call(database, chosen_equatings, SCALE)["F2"].method == "linear-chained, common items"
    assert not missing_sentences(shown(request_of), "Form F2 is equated to F1 by linear-chained", "Undo the choice …")
    assert "no longer equated to F1" in text(review(request_of, UNDO))
    assert "no longer equated to F1" in text(decide(request_of, UNDO))
    assert call(database, chosen_equatings, SCALE) == {}
    assert "nothing to undo" in text(review(request_of, UNDO), ok=False)


def test_page_and_document_compute_equivalents_once_until_answers_change(
    database: Database, request_of: ViewRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def count(*forms: Any, method: str, **how: Any) -> Equating:
        computed.append(method)
        return equate_by_items(*forms, method=method, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(equating, "equate_by_items", count)
    first = shown(request_of)
    assert shown(request_of) == first
    equate.document(request_of)
    assert computed == ["true-score", "observed-score"]
    assert "no longer equated" not in text(decide(request_of, CHOICE))
    computed.clear()
    assert "Form F2 is equated to F1 by linear-chained" in shown(request_of)
    assert computed == []
    sit(database, "F2", FORMS["F2"], ["late"])
    analyse(database, tmp_path)
    shown(request_of)
    assert computed == ["true-score", "observed-score"]


def test_choice_needs_the_role_and_a_known_method(request_of: ViewRequest) -> None:
    viewer = replace(request_of, identity=replace(ANN, roles=("viewer",)))
    assert "needs the role psychometrician" in shown(viewer)
    assert 'name="method"' not in shown(viewer)
    assert 'name="method"' in shown(request_of)
    assert "needs the role psychometrician" in text(decide(viewer, CHOICE), ok=False)
    assert "has no equating" in text(review(request_of, replace(CHOICE, method="")), ok=False)


def test_page_without_forms_offers_them_and_names_unknown_ones(request_of: ViewRequest) -> None:
    assert "Choose a new form" in shown(replace(request_of, fields={}))
    assert make_page(replace(request_of, fields={"new": "F9", "old": "F1"}))[0] == 404
    status, page = make_page(replace(request_of, fields={"new": "F1", "old": "F2"}))
    assert (status, "no score table of form F2 is released" in unescape(str(page.body))) == (422, True)


def test_document_has_the_figure_and_the_tables_of_the_page(request_of: ViewRequest) -> None:
    found = equate.document(request_of)
    assert found.title == "Equating of F2 to F1"
    assert [section.id for section in found.contents] == [
        "methods", "differences", "equivalents", "smoothing",
    ]  # fmt: skip
