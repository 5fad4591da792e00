"""New items: their stages, decisions to seed them, and their answers, which stay out of fits, θ and scores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irt_assets.common.partitions import Month
from irt_assets.decisions.deciding import decide, preview
from irt_assets.item_analysis.forms import import_forms, read_forms
from irt_assets.item_analysis.periods import analyse_month
from irt_assets.new_items.answers import read_new_item_answers
from irt_assets.new_items.decided import REJECT, RETIRE, SEED, STOP, ItemsRequest, SeedLimits, read_seeding
from irt_assets.new_items.stages import item_stages
from irt_assets.responses.learner_answers import learner_answers, read_judging
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.stored_window import stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scores.sittings import read_answers
from irt_psychometrics.estimation import fit_em
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.decided import WITHDRAWN
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, call, folder_store, rows, run_sql
from tests.helpers.score_world import MONTH, SIGNED, build_exam
from tests.helpers.typed import IrtOf

START, END = Month(MONTH).bounds
DAY = timedelta(days=1)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
LEARNERS = [f"F1-u{k}" for k in range(40)]
PIPELINE = """INSERT INTO item_pipeline
                (scale_id, item_id, model, parameters, n, first_at, last_at, measured_at, publishable, publishable_at)
              VALUES ('default', %s, '2pl', '{}', %s, '2026-06-01', '2026-06-20', %s, %s, %s)"""


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    """An exam with the new items n1, n2 and n3."""
    build_exam(database, tmp_path / "exam", learners=40)
    add_items(database, {"n1": None, "n2": None, "n3": None})
    return database


def seed_sessions(database: Database, items: tuple[str, ...] = ("n1", "n2"), **others: Any) -> None:
    """Draw items after the last place of each session on form F1, and answer them."""
    answers = [
        attempt(
            user,
            item,
            START + 3 * DAY + timedelta(minutes=30 + k),
            session_id=f"{user}-F1-{MONTH}-3",
            form_id="F1",
            position=20 + int(item[1:]),
            **({"correct": n % 3 == 0} | others),
        )
        for n, user in enumerate(LEARNERS)
        for k, item in enumerate(items)
    ]
    add_attempts(database, answers)
    run_sql(
        database,
        """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, form_id, probability, at_random)
           SELECT 'default', item_id, user_id, session_id, position, form_id, 0.5, false
           FROM response_log WHERE item_id = ANY(%s)""",
        ([*items],),
    )


def judge(database: Database) -> None:
    judge_differing(database, START.date(), END.date())


def stages(database: Database) -> dict[str, str]:
    return {each.item_id: each.stage for each in call(database, item_stages, items=["n1", "n2", "n3", "i1"])}


# -- seeded answers ----------------------------------------------------------------------------------


def test_fit_of_a_month_is_bit_equal_with_and_without_seed_answers(exam: Database) -> None:
    change_rules(exam, SCALE, {"min_responses": 10, "min_provisional_responses": 10})
    fits, counts = [], []
    for add in (lambda _: None, seed_sessions):
        add(exam)
        judge(exam)
        window = call(exam, stored_window, START, END, call(exam, read_scales, START))
        responses, _ = scored_responses_of(window.table, SCALE)
        fits.append(fit_em(responses, model="2pl"))
        counts.append(window.judgements[SCALE].counts)
    without, with_seeds = (each.items for each in fits)
    assert without.item_ids == with_seeds.item_ids
    for name in ("a", "b", "cov"):
        assert np.array_equal(getattr(without, name), getattr(with_seeds, name))
    assert counts[1] == counts[0] | {"seed": 2 * len(LEARNERS)}


def test_seed_answers_count_for_no_score_and_no_theta_even_after_the_publication(exam: Database) -> None:
    seed_sessions(exam)
    before = call(exam, read_answers, SCALE, "F1", START, END, fixed=True)
    judging = call(exam, read_judging, call(exam, read_scales, START), ["i1", "n1"], START, NOW)
    user = LEARNERS[0]
    unjudged = call(exam, learner_answers, user, START, END, judging)
    judge(exam)
    assert not {"n1", "n2"} & {*before["item_id"]}
    assert call(exam, read_answers, SCALE, "F1", START, END, fixed=True).equals(before)
    judged = call(exam, learner_answers, user, START, END, judging)
    assert "n1" not in {answer[0] for answer in (*unjudged, *judged)}
    assert "i1" in {answer[0] for answer in judged}
    responses, _ = call(exam, scoring_responses, START, END, ["i1", "n1"])
    assert responses.n_items == 1


def test_seed_answers_are_analysed_as_items_and_are_no_part_of_the_form(exam: Database) -> None:
    store = folder_store(exam.settings)
    before = {row.item_id: row for row in analyse_month(exam, store, MONTH)[SCALE].items if row.form_id == "F1"}
    seed_sessions(exam)
    judge(exam)
    take_snapshot(exam, store, MONTH, None)
    found = analyse_month(exam, store, MONTH)[SCALE]
    assert {row.item_id: row for row in found.items if row.form_id == "F1"} == before
    [new] = [row for row in found.items if row.item_id == "n1"]
    assert (new.form_id, new.n) == ("", len(LEARNERS))


def test_answers_to_new_items_have_the_score_that_their_rules_give(exam: Database) -> None:
    run_sql(exam, """UPDATE question SET meta = '{"irt": {"max_score": 3}}' WHERE item_id = 'n3'""")
    seed_sessions(exam, ("n1",))
    seed_sessions(exam, ("n2",), hints_used=1, correct=True)
    seed_sessions(exam, ("n3",), score=2, correct=False)
    counted = attempt("F2-u1", "n1", START + 5 * DAY, correct=True)
    late = attempt("F2-u2", "n1", START + 6 * DAY, correct=True)
    add_attempts(exam, [counted, late])
    run_sql(exam, WITHDRAWN, ("n1", START + 5.5 * DAY))
    judge(exam)
    found = call(exam, read_new_item_answers, SCALE, START, END).to_pandas()
    assert {*found["item_id"]} == {"n1", "n2", "n3"}
    n1 = found[found["item_id"] == "n1"]
    assert n1["seed"].tolist() == [True] * len(LEARNERS) + [False]
    assert n1["score"].sum() == sum(n % 3 == 0 for n in range(len(LEARNERS))) + 1
    assert {*n1["position"].dropna()} == {21}
    assert {*found["score"][found["item_id"] == "n2"]} == {0}
    assert {*found[found["item_id"] == "n3"][["score", "max_score"]].itertuples(index=False, name=None)} == {(2, 3)}


def test_corrected_key_changes_the_scores_of_seed_answers(exam: Database, settings: Settings, irt: IrtOf) -> None:
    run_sql(exam, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'n1'""")
    seed_sessions(exam, ("n1",), response="B", correct=False)
    judge(exam)
    irt(settings)("items", "rekey", "n1", "--key", "B", "--by", "Kim", "--reason", "B is right", "--yes")
    judge(exam)
    found = call(exam, read_new_item_answers, SCALE, START, END).to_pandas()
    assert (len(found), {*found["score"]}, {*found["seed"]}) == (len(LEARNERS), {1}, {True})


# -- stages and decisions ----------------------------------------------------------------------------


def test_stage_follows_from_answers_publications_and_decisions(exam: Database) -> None:
    assert stages(exam) == {"i1": "published", "n1": "draft", "n2": "draft", "n3": "draft"}
    run_sql(exam, PIPELINE, ("n1", 3, None, False, None))
    run_sql(exam, PIPELINE, ("n2", 250, "2026-06-10", False, None))
    run_sql(exam, PIPELINE, ("n3", 300, "2026-06-10", True, "2026-06-21"))
    found = {each.item_id: each for each in call(exam, item_stages, SCALE)}
    assert [(found[n].stage, found[n].n) for n in ("n1", "n2", "n3")] == [
        ("seeded", 3),
        ("measured", 250),
        ("publishable", 300),
    ]
    assert [found[n].since for n in ("n1", "n2", "n3")] == [datetime(2026, 6, day, tzinfo=UTC) for day in (1, 10, 21)]
    run_sql(exam, "UPDATE item_pipeline SET stuck = 'no answers in 14 days' WHERE item_id = 'n1'")
    assert {each.item_id: each.why for each in call(exam, item_stages, SCALE)}["n1"] == "no answers in 14 days"
    decide(exam, REJECT, ItemsRequest(["n3"]), **SIGNED)
    decide(exam, RETIRE, ItemsRequest(["i1"]), **SIGNED)
    assert stages(exam) == {"i1": "retired", "n1": "seeded", "n2": "measured", "n3": "rejected"}
    assert all(each.why for each in call(exam, item_stages))


def test_items_may_be_drawn_between_their_days_unless_withdrawn_rejected_or_published(exam: Database) -> None:
    now = datetime.now(UTC) + timedelta(minutes=1)
    limits = SeedLimits(max_answers=50, first_day=now.date() + 2 * DAY, last_day=now.date() + 3 * DAY)
    decide(exam, SEED, ItemsRequest(["n1"], limits), **SIGNED)
    decide(exam, SEED, ItemsRequest(["n2", "n3"]), **SIGNED)

    def drawn(days: int) -> list[str]:
        return [*call(exam, read_seeding, SCALE, now + days * DAY)]

    assert [drawn(days) for days in (0, 2, 3, 4)] == [
        ["n2", "n3"],
        ["n1", "n2", "n3"],
        ["n1", "n2", "n3"],
        ["n2", "n3"],
    ]
    assert call(exam, read_seeding, SCALE, now + 2 * DAY)["n1"] == limits
    assert call(exam, read_seeding, "other", now) == {}
    assert call(exam, read_seeding, SCALE, START) == {}, "before the decision"
    run_sql(exam, WITHDRAWN, ("n2", now + 2 * DAY))
    decide(exam, REJECT, ItemsRequest(["n3"]), **SIGNED)
    assert [drawn(days) for days in (0, 2)] == [["n2"], ["n1"]]
    decide(exam, STOP, ItemsRequest(["n1", "n2"]), **SIGNED)
    assert [drawn(days) for days in (0, 2)] == [[], []]


def test_preview_of_seeding_names_the_forms_whose_score_the_item_counts_for(exam: Database) -> None:
    run_sql(exam, "INSERT INTO form_item (form_id, item_id, position) VALUES ('F1', 'n1', 21)")
    sentences = call(exam, preview, SEED, ItemsRequest(["n1", "n2"])).sentences
    assert "n1 is also on F1, whose score it counts for" in sentences
    assert not any("n2 is also" in each for each in sentences)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("seed", "nobody"), "the bank has no item 'nobody' (ids are case-sensitive)"),
        (("seed", "n1", "i1"), "i1 is published: only unpublished items"),
        (("seed", "o1"), "o1 is on scale other without published values. The origin comes first: `irt scale init"),
        (("seed", "n1", "--from", "2026-09-02", "--until", "2026-09-01"), "the last day must not be before 2026-09-02"),
        (("stop", "n1"), "n1 is not seeded"),
        (("reject", "i1"), "i1 is published: only unpublished items can be rejected; `irt items retire`"),
        (("retire", "n1"), "n1 is draft: only published items can be retired; `irt items reject`"),
        (("bring-back", "n1"), "n1 is draft: only rejected and retired items can be brought back"),
    ],
)
def test_impossible_decision_is_refused_with_the_way_out(
    exam: Database, settings: Settings, irt: IrtOf, words: tuple[str, ...], message: str
) -> None:
    add_items(exam, {"o1": None}, "other")
    done = irt(settings)("items", *words, "--by", "Kim", "--reason", "June", "--yes")
    assert (done.code, message in " ".join(done.err.split())) == (2, True), done.err
    assert rows(exam, "SELECT count(*) FROM decision") == [(0,)]


def test_batch_of_items_is_seeded_by_one_command_that_prints_json(
    exam: Database, settings: Settings, irt: IrtOf
) -> None:
    signed = ("--by", "Kim", "--reason", "new in June", "--yes")
    done = irt(settings)("items", "seed", "n1", "n2", "--max-answers", "9", "--per-day", "2", *signed, "--json").json
    assert (done["kind"], done["subjects"], done["decided"]) == (
        "seed items",
        ["n1", "n2"],
        "recorded as decision 1 and 2 by Kim",
    )
    assert call(exam, read_seeding, SCALE, datetime.now(UTC))["n2"] == SeedLimits(max_answers=9, max_per_day=2)


# -- forms -------------------------------------------------------------------------------------------


def test_form_of_a_file_has_the_seed_places_of_rows_without_an_item(exam: Database, tmp_path: Path) -> None:
    file = tmp_path / "form.csv"
    file.write_text("form_id,item_id,position\nS,i1,1\nS,,3\nS,i2,2\nS,,5\n")
    import_forms(exam, file)
    found = call(exam, read_forms)
    assert found[found["form_id"] == "S"]["item_id"].tolist() == ["i1", "i2"]
    places = dict(rows(exam, "SELECT form_id, seed_places FROM form"))
    assert (places["S"], places["F1"]) == ([3, 5], None)
