"""The scores of a form in the dashboard: its page, the decisions on them, and files."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html import unescape
from io import BytesIO
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from starlette.responses import Response

from irt_assets.decisions.proposals import Reference
from irt_assets.item_analysis.stored import read_forms
from irt_assets.scales.scale import change_rules, write_pass_mark
from irt_assets.scores.issued import current_scores
from irt_assets.scores.issuing import issue_scores
from irt_assets.scores.releases import release_table, released_tables
from irt_psychometrics.classical import subscores
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, DecisionKind, DecisionOutcome, decide, review
from services.dashboard.downloads import document, download
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.jwt_verifier.tokens import Identity
from tests.helpers import rooms
from tests.helpers.rooms import call, rows, run_sql
from tests.helpers.score_world import MONTH, NOW, SIGNED, analyse, build_exam, make_tables
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf

ANN = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
LOOK = replace(ANN, roles=("viewer",))


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    """Forms with tables; the items with an even number are about algebra."""
    build_exam(database, tmp_path / "exam")
    even = "UPDATE question SET topic_id = 'algebra' WHERE right(item_id, 1) IN ('0', '2', '4', '6', '8')"
    run_sql(database, even)
    analyse(database, tmp_path / "exam")
    make_tables(database)
    return database


@pytest.fixture
def ann(settings: Settings, exam: Database) -> Iterator[ViewRequest]:
    """A psychometrician's request for the page of the form F1."""
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
        reader.now = lambda: NOW  # type: ignore[method-assign]
        yield ViewRequest("form", {"scale": rooms.SCALE, "form": "F1", "month": MONTH}, ANN, reader)


def shown(request: ViewRequest) -> str:
    status, page = make_page(request)
    assert status == 200
    return unescape(f"{page.title}\n{page.body}")


def on(kind: DecisionKind) -> DecisionForm:
    return DecisionForm(kind, (Reference(MONTH, "F1"),), "committee of June", scale_id=rooms.SCALE)


def text(outcome: DecisionOutcome, *, ok: bool = True) -> str:
    assert outcome.ok == ok, outcome.sentences
    return " ".join(outcome.sentences)


def content(response: Response) -> bytes:
    async def read() -> bytes:
        return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[attr-defined]

    return asyncio.run(read())


@pytest.mark.ci
def test_form_page_has_the_table_and_its_decisions_only_for_those_who_may_decide(
    exam: Database, ann: ViewRequest
) -> None:
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    table = call(exam, released_tables, rooms.SCALE)["F1"]
    cut = table.table.raw_cut
    assert cut is not None
    assert table.table.unrounded[cut - 1] < 500 <= table.table.unrounded[cut]  # 500: the score of θ = 0
    passing = f"Raw scores from {cut} of 20 on pass."
    assert not missing_sentences(shown(ann), passing, f"Score table {table.table_id} of {MONTH} is released.")
    assert "Undo the last release …" in shown(ann)
    seen = shown(replace(ann, identity=LOOK))
    assert not missing_sentences(seen, passing, "Lee", "Livingston and Lewis", "needs the role psychometrician")
    assert "Undo the last release …" not in seen
    written = content(document(replace(ann, fields=dict(ann.fields) | {"to": "html"}))).decode()
    assert not missing_sentences(unescape(written), passing, "Pass and fail", "Subscores")
    assert f"{table.table_id} of {MONTH}" in shown(replace(ann, view="forms"))
    assert "Decide on the scores" not in shown(replace(ann, fields={"scale": rooms.SCALE}))  # all answers


@pytest.mark.ci
def test_stored_form_without_analysed_answers_has_a_page(exam: Database, ann: ViewRequest) -> None:
    """The page of such a form said that the form did not exist."""
    run_sql(exam, "DELETE FROM item_analysis WHERE form_id = 'F1'")
    seen = shown(ann)
    sentence = f"No answers to the form in {MONTH} have been analysed."
    assert not missing_sentences(seen, "Form F1 is stored with 20 items.", sentence)
    assert "The released score table:" not in seen
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    assert "The released score table:" in shown(ann)
    assert make_page(replace(ann, fields=dict(ann.fields) | {"form": "F9"}))[0] == 404


@pytest.mark.ci
def test_table_is_released_on_the_page_unless_a_newer_one_was_made_after_the_preview(
    exam: Database, ann: ViewRequest
) -> None:
    seen = review(ann, on("release_table"))
    assert not missing_sentences(text(seen), f"of {MONTH} (eap)", "no table was in force before")
    assert call(exam, released_tables, rooms.SCALE) == {}
    change_rules(exam, rooms.SCALE, {"score_intercept": 520.0})
    newer = make_tables(exam)["F1"]
    assert "another table has been made" in text(decide(ann, on("release_table"), seen), ok=False)
    assert decide(ann, on("release_table"), review(ann, on("release_table"))).ok
    assert call(exam, released_tables, rooms.SCALE)["F1"].table_id == newer.table_id
    assert rows(exam, "SELECT decided_by, reason FROM scale_decision WHERE subject LIKE %s", ["%F1"]) == [
        ("Ann", "committee of June")
    ]
    viewer = replace(ann, identity=LOOK)
    assert "needs the role psychometrician" in text(decide(viewer, on("undo_table")), ok=False)
    assert decide(ann, on("undo_table")).ok
    assert call(exam, released_tables, rooms.SCALE) == {}


@pytest.mark.ci
def test_scores_are_issued_and_issued_again_after_their_preview(exam: Database, ann: ViewRequest) -> None:
    assert "no score table of form F1 is released" in text(review(ann, on("issue")), ok=False)
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    seen = review(ann, on("issue"))
    assert "150 new scores" in text(seen)
    assert call(exam, current_scores) == []
    issue_scores(exam, rooms.SCALE, "F1", MONTH, **SIGNED, now=NOW)
    assert "nothing was issued" in text(decide(ann, on("issue"), seen), ok=False)
    assert "no new scores" in text(review(ann, on("issue")), ok=False)
    change_rules(exam, rooms.SCALE, {"score_intercept": 520.0})
    call(exam, write_pass_mark, rooms.SCALE, 0.25)
    make_tables(exam)
    waiting = shown(replace(ann, view="decisions", fields={}))
    assert not missing_sentences(waiting, "One score table waits for a decision.", "moves by up to 20.00")
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    assert "Nothing waits for a decision." in shown(replace(ann, view="decisions", fields={}))
    assert "stay as they were handed out" in text(review(ann, on("issue")), ok=False)
    before = {score.user_id: score.scaled for score in call(exam, current_scores)}
    again = review(ann, on("issue_again"))
    assert not missing_sentences(text(again), ", does not pass any more.", "And 140 others likewise.")
    assert "present table and answers: 150;" in text(decide(ann, on("issue_again"), again))
    after = call(exam, current_scores)
    assert {score.decided_by for score in after} == {"Ann"}
    assert all(abs(score.scaled - before[score.user_id] - 20) <= 1 for score in after)


@pytest.mark.ci
def test_released_tables_are_files_for_viewers_and_issued_scores_for_analysts(exam: Database, ann: ViewRequest) -> None:
    for form in ("F1", "F2"):
        release_table(exam, rooms.SCALE, form, **SIGNED)
    done = issue_scores(exam, rooms.SCALE, "F1", MONTH, **SIGNED, now=NOW)
    table = call(exam, released_tables, rooms.SCALE)["F1"].table
    viewer = replace(ann, identity=LOOK, fields={"what": "scores", "scale": rooms.SCALE, "form": "F1"})
    frames = [
        read(BytesIO(content(download(replace(viewer, fields=dict(viewer.fields) | {"to": kind})))))
        for kind, read in (
            ("csv", pd.read_csv),
            ("parquet", pd.read_parquet),
            ("xlsx", partial(pd.read_excel, engine="calamine")),
        )
    ]
    for frame in frames:
        assert frame["scaled"].tolist() == table.scaled.tolist()
        assert frame["passes"].astype(bool).tolist() == table.passes.tolist()
    whole = content(download(replace(viewer, fields={"what": "scores"})))
    assert len(pd.read_csv(BytesIO(whole))) == 42
    issued = replace(viewer, fields={"what": "issued", "scale": rooms.SCALE})
    assert download(issued).status_code == 403
    found = pd.read_csv(BytesIO(content(download(replace(issued, identity=replace(ANN, roles=("analyst",)))))))
    assert sorted(found["user_id"]) == sorted(score.user_id for score in done.new)


@pytest.mark.ci
def test_items_of_a_form_are_written_to_a_file(exam: Database, irt: IrtOf, tmp_path: Path) -> None:
    """The items have no choices: one chart has the shares of the scores, and the other one the curve."""
    path = tmp_path / "items.html"
    irt(exam.settings)("report", "items", "F1", "--month", MONTH, "--scale", rooms.SCALE, "--to", path)
    written = path.read_text("utf-8")
    assert f"Items of form F1, {MONTH}" in written
    assert written.count("<figure>") == 40
    assert "a 1" in written


@pytest.mark.ci
def test_persons_of_a_form_are_listed_for_analysts_unlikely_patterns_first(exam: Database, ann: ViewRequest) -> None:
    """Raw scores are compared with the log's."""
    analyst = replace(ann, identity=replace(ANN, roles=("analyst",)))
    page = shown(analyst)
    fields = dict(ann.fields) | {"what": "persons", "to": "xlsx"}
    found = pd.read_excel(BytesIO(content(download(replace(analyst, fields=fields)))), engine="calamine")
    totals = dict(rows(exam, "SELECT user_id, sum(correct::int) FROM attempt WHERE form_id = 'F1' GROUP BY 1"))
    assert dict(zip(found["learner"], found["raw_score"], strict=True)) == totals
    assert found["p"].is_monotonic_increasing
    assert found["theta"].corr(found["raw_score"]) > 0.95
    assert all(f">{learner}</a>" in page for learner in found["learner"].head(20))
    assert f">{found['learner'][20]}</a>" not in page
    assert "All persons:" in page
    assert "All persons:" not in shown(replace(ann, identity=LOOK))
    assert download(replace(ann, identity=LOOK, fields=fields)).status_code == 403


@pytest.mark.ci
def test_subscores_of_a_complete_form_are_stored_by_topic(exam: Database) -> None:
    form = next(form for form in call(exam, read_forms, rooms.SCALE, MONTH) if form.form_id == "F1")
    answers = pd.DataFrame(
        rows(exam, "SELECT user_id, item_id, correct::int FROM response_log WHERE form_id = 'F1'"),
        columns=["user", "item", "score"],
    ).pivot_table(index="user", columns="item", values="score")
    topics = ["algebra" if int(item[1:]) % 2 == 0 else "topic" for item in answers.columns]
    known = subscores(answers.to_numpy(), topics)
    assert {row.topic: row.n_items for row in form.subscores} == {"algebra": 10, "topic": 10}
    found = {row.topic: (row.by_subscore, row.by_total) for row in form.subscores}
    expected = dict(zip(known.topics, zip(known.by_subscore, known.by_total, strict=True), strict=True))
    assert found.keys() == expected.keys()
    for topic, values in expected.items():
        assert np.allclose(found[topic], values)


def test_stored_form_without_subscores_is_still_read(database: Database) -> None:
    old = {"n": 3, "n_items": 2, "max_score": 2, "source": "log", "statistics": {}, "scores": [1, 1, 1]}
    run_sql(
        database,
        """INSERT INTO item_analysis (scale_id, period, form_id, item_id, n, statistics)
           VALUES ('default', '2026-06', 'F', '', 3, %s::jsonb)""",
        [json.dumps(old)],
    )
    (form,) = call(database, read_forms, "default", MONTH)
    assert (form.scores, form.subscores, form.no_subscores) == ((1, 1, 1), (), "")


def test_items_are_left_out_on_the_page_after_a_preview_of_passes(exam: Database, ann: ViewRequest) -> None:
    run_sql(exam, "DELETE FROM score_table")
    run_sql(exam, "DELETE FROM item_parameter_publication WHERE item_id = 'i7'")
    ways = ("no values are published of i7", "irt scores leave-out", "irt scale set score_by=raw")
    assert not missing_sentences(shown(ann), *ways, 'value="i7" checked', "Leave the items out …")
    filled = replace(on("leave_out"), options=("i7",))
    seen = review(ann, filled)
    assert not missing_sentences(
        text(seen), "Leave items out of a score: i7 of form F1; the form then has 19 items", "no score table", "pass"
    )
    assert decide(ann, filled, seen).ok
    analyse(exam, Path(exam.settings.irt_home) / "exam")
    make_tables(exam)
    assert "Items that do not count: i7." in shown(ann)
    assert decide(ann, replace(filled, kind="count_again")).ok
