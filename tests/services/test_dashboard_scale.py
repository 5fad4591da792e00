"""The page of a scale shows the stored numbers, and a proposed movement is accepted on it by those who may decide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape

import dagster as dg
import numpy as np
import pytest

from irt_assets.blocks import number
from irt_assets.blocks.markdown import markdown
from irt_assets.common.partitions import Month
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.movement_proposals import MovementProposal, store_proposal
from irt_assets.reports.scale_facts import as_dict, scale_facts
from irt_assets.scales.rules import STAGE_OF
from irt_assets.scales.scale import change_rules, read_scales, write_pass_mark
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, decide, review
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.dashboard.views.scale import document
from services.jwt_verifier.tokens import Identity
from tests.helpers.rooms import SCALE, call, rows, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.waiting_decision import FEB, JAN, MAR, bank

__all__ = ["bank"]  # a fixture
ANN = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
ANALYST = replace(ANN, sub="Ben", roles=("analyst",))
PARTS = {"variance": 0.0025, "growth": 0.01, "occasion_variance": 0.0}
DETAILS = {
    "learners": 320,
    "occasions": 5000,
    "weeks": 52,
    "estimate": PARTS,
    "errors": PARTS,
    "p": PARTS,
    "log_likelihood": -100.0,
    "without_walk": -120.0,
    "intercepts": {},
    "effect": "nobody would get another θ",
}
ADOPT = DecisionForm("adopt", (), "learners learn", scale_id=SCALE)
THETA = {JAN: np.linspace(-1.7, 1.1, 29), FEB: np.linspace(-1.0, 2.0, 31)}


@pytest.fixture
def reader(settings: Settings, bank: Database) -> Iterator[Reader]:
    """Abilities of two months are stored, the pass mark is 0.5, and a movement is proposed."""
    call(bank, write_pass_mark, SCALE, 0.5)
    for month, theta in THETA.items():
        run_sql(
            bank,
            """INSERT INTO mirt_ability (update_id, user_id, scale_id, theta, se, method, n_items, kind, window_end,
                                         published_as_of, set_hash, scale_version, fitted_at)
               SELECT 'run of ' || %(month)s, 'u' || n, %(scale)s, t, 0.3, 'eap', 9, 'monthly', %(end)s, %(end)s, 'h',
                      1, now() FROM unnest(%(theta)s::float8[]) WITH ORDINALITY AS x (t, n)""",
            {"month": month, "scale": SCALE, "end": Month(month).end, "theta": theta.tolist()},  # type: ignore[arg-type]
        )
    proposal = MovementProposal(SCALE, FEB, "", PARTS["variance"], PARTS["growth"], 0.0, DETAILS)
    call(bank, store_proposal, proposal)
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
        reader.month_states = lambda: [  # type: ignore[method-assign]
            MonthState(month, SCALE, State.GREEN, "") for month in THETA
        ]
        yield reader


def page(reader: Reader, view: str = "scale", identity: Identity = ANN, **fields: str) -> str:
    status, shown = make_page(ViewRequest(view, fields, identity, reader))
    assert status == 200
    return unescape(f"{shown.title}\n{shown.body}")


def test_page_shows_learners_items_and_anchors_of_the_scale(reader: Reader) -> None:
    text, last = page(reader), THETA[FEB]
    passing = round(100 * float(np.mean(last >= 0.5)))
    assert not missing_sentences(
        text,
        f"31 learners of {FEB} have a mean θ of {number(last.mean())} and an SD of {number(last.std(ddof=1))}. "
        f"{passing} % pass.",
        *(f'<td class="number">{number(x)}</td>' for x in np.quantile(last, [0.05, 0.25, 0.5, 0.75, 0.95])),
        "3, with a mean b of 0.00 and an SD of 1.00",
        f"3 of {len(STAGE_OF)} rules differ from their defaults.",
    )
    assert "Deciding needs the role psychometrician" in page(reader, identity=ANALYST)


def test_facts_count_the_items_and_describe_each_month(reader: Reader, bank: Database) -> None:
    scale = call(bank, read_scales)[SCALE]
    found = as_dict(call(bank, scale_facts, scale, datetime(2026, 3, 10, tzinfo=UTC)))
    in_force = rows(bank, "SELECT DISTINCT item_id FROM item_parameter_publication")
    assert {item for item, status in found["items"].items() if status == "in use"} == {item for (item,) in in_force}
    assert found["items"]["late"] == "not published"
    assert [month["month"] for month in found["months"]] == [JAN, FEB]
    for month, theta in zip(found["months"], THETA.values(), strict=True):
        stored = [month[name] for name in ("learners", "mean", "sd", "passing", "mean_se")]
        assert stored == pytest.approx([theta.size, theta.mean(), theta.std(ddof=1), np.mean(theta >= 0.5), 0.3])
        assert month["quantiles"] == pytest.approx(np.quantile(theta, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist())


def test_person_who_changed_a_rule_is_shown_with_the_default(reader: Reader, bank: Database) -> None:
    change_rules(bank, SCALE, {"max_rmsd": 0.08}, by="Kim", reason="short tests")
    text = page(reader)
    row = text.partition(">max_rmsd</td>")[2]
    assert not missing_sentences(row[:400], ">0.08</td>", ">0.05</td>", ">Kim</td>")
    assert "short tests" in text


def test_page_names_the_command_that_proposes_and_the_document_names_none(reader: Reader, bank: Database) -> None:
    run_sql(bank, "DELETE FROM movement_proposal")
    written = markdown(*document(ViewRequest("scale", {}, ANN, reader)).blocks)
    assert "irt scale movement --propose" in page(reader)
    assert "Nothing has been proposed." in written
    assert "irt " not in written


def test_proposed_movement_is_reviewed_and_accepted_once(reader: Reader, bank: Database) -> None:
    request = ViewRequest("scale", {}, ANN, reader)
    waits = "The movement proposed for scale", "as of 2026-02, growth of +0.010 a week"
    assert not missing_sentences(page(reader, "decisions"), waits[1])
    outcome = review(request, ADOPT)
    change = f"ability_variance 0 → 0.0025, ability_growth 0 → 0.01 from {MAR} on; months before stay as they are."
    assert not missing_sentences(" ".join(outcome.sentences), change)
    assert rows(bank, "SELECT * FROM scale_decision") == []
    assert not review(request, replace(ADOPT, reason=" ")).ok
    assert not decide(replace(request, identity=ANALYST), ADOPT, outcome).ok

    assert decide(request, ADOPT, outcome).ok
    again = decide(request, ADOPT, outcome)
    assert "have changed since the preview" in " ".join(again.sentences)
    assert rows(
        bank, "SELECT subject, value, effective_from, decided_by, reason FROM scale_decision ORDER BY subject"
    ) == [
        (subject, value, Month(MAR).start, "Ann", "learners learn")
        for subject, value in (("ability_growth", "0.01"), ("ability_variance", "0.0025"))
    ]
    assert "adopt" not in page(reader)
    assert waits[1] not in page(reader, "decisions")
