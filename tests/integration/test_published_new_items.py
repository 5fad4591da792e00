"""The months after a new item is published from the pipeline: months, draws, exports, and decisions on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from psycopg.types.json import Jsonb
from scipy.special import expit

from irt_assets.adaptive.policy import Policy
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month
from irt_assets.decisions.closing import close_months
from irt_assets.decisions.deciding import decide
from irt_assets.decisions.month_export import write_month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.release import accept
from irt_assets.decisions.release_undo import undo
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.invariants.invariant import InvariantContext, Violation
from irt_assets.invariants.publications import (
    one_set_is_in_force_and_changes_are_decided,
    published_parameters_come_from_sound_fits,
)
from irt_assets.item_analysis.periods import analyse_day
from irt_assets.ledger.encoding import item_from_json
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import publications_of
from irt_assets.new_items import publishing
from irt_assets.new_items.assets import changes_of_setting
from irt_assets.new_items.pipeline import ScalePipeline, make_pipeline
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.new_items.publishing import PUBLISH, PublishRequest, items_to_test
from irt_assets.new_items.stages import item_stages
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.servers.instance import dagster_instance
from irt_assets.simulation.truth import Truth
from jobs.retention.erasure import erase, holdings
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.theta_api.parameter_cache import Ledger
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.decided import reopen_months, set_policy
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_learners,
    answer_matrix,
    attempt,
    call,
    folder_store,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph

ITEM, A, B = "N01", 1.2, 0.3
JUNE, JULY = (Month(month) for month in MONTHS)
LATE = JULY.start + timedelta(hours=6)
SIGNED: dict[str, Any] = {"by": "Kim", "reason": "read and sound"}


def load_seeded_month(settings: Settings, truth: Truth) -> None:
    """Learners of June answer a new item that is drawn for them, some of them in July; learners of July meet it as a
    published item."""
    database, rng = Database(settings), np.random.default_rng(11)
    run_sql(
        database,
        """INSERT INTO question (item_id, scale_id, topic_id, meta) VALUES (%s, %s, 'algebra', '{"key": "A"}')""",
        (ITEM, SCALE),
    )
    theta = dict(zip(truth.learners.user_ids.tolist(), truth.learners.theta, strict=True))
    sessions = rows(
        database,
        """SELECT DISTINCT ON (user_id) user_id, session_id, form_id, max(completed_at) AS at, max(position)
           FROM response_log WHERE form_id IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, at""",
    )
    answers, draws = [], []
    for user, session, form, at, last in sessions:
        month = 0 if at < JUNE.end else 1
        correct = bool(rng.random() < expit(A * (theta[user][month] - B)))
        place = {"session_id": session, "form_id": form, "position": last + 1}
        given = at + timedelta(minutes=1)
        if month == 0:
            draws.append((ITEM, user, session, last + 1, form, given))
            given = LATE if len(draws) % 12 == 0 else given
        answers.append(attempt(user, ITEM, given, correct=correct, response="A" if correct else "B", **place))
    add_attempts(database, answers)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, form_id, probability, at_random,
                                      drawn_at)
               VALUES ('default', %s, %s, %s, %s, %s, 0.5, false, %s)""",
            draws,
        )


def decide_and_make_months(settings: Settings) -> PipelineItem:
    """Publish the item on the last day of June; make June, July and July's drift. Returns the item's pipeline row."""
    database = Database(settings)
    make_pipeline(database, "2026-06-29")
    [row] = call(database, read_pipeline, SCALE, [ITEM])
    decide(database, PUBLISH, PublishRequest([ITEM], now=JUNE.end - timedelta(hours=12)), **SIGNED)
    folder = settings.irt_home / "dagster"
    folder.mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        graph = Graph(settings, instance)
        for partition, job in ((MONTHS[0], MONTHLY_JOB), (MONTHS[1], MONTHLY_JOB), (MONTHS[1], DRIFT_JOB)):
            assert graph.run(partition, job).success
    return row


@pytest.fixture
def followed(postgres: EmbeddedPostgres, small_truth: Truth, tmp_path: Path) -> Iterator[tuple[Database, PipelineItem]]:
    """The small world in which an item was published at the end of June, and the row by which it was."""

    def make(settings: Settings) -> PipelineItem:
        initialise(Database(settings), SCALE, first_month=MONTHS[0], thresholds=rooms.LOWERED)
        load_seeded_month(settings, small_truth)
        return decide_and_make_months(settings)

    row = made_once(postgres, "template_followed", "template_rooms", make, **OF_MONTHS)
    with template_copy(postgres, "template_followed", tmp_path, **OF_MONTHS) as settings:
        yield Database(settings), row


def test_next_month_estimates_the_item_without_seed_answers_and_proposes_its_value(
    followed: tuple[Database, PipelineItem],
) -> None:
    database, row = followed
    fits = rows(
        database,
        """SELECT to_char(window_start, 'YYYY-MM'), i.n_responses, (params->>'b')::float, (params->>'b_se')::float
           FROM mirt_fit_meta JOIN mirt_item_params i USING (fit_id) WHERE kind = 'monthly' AND item_id = %s""",
        (ITEM,),
    )
    scored = "SELECT count(*) FROM response_log JOIN learner USING (user_id) WHERE item_id = %s AND NOT is_test"
    [(n,)] = rows(database, f"{scored} AND completed_at > %s", (ITEM, LATE))
    [(month, n_fitted, b, b_se)] = fits
    assert (month, n_fitted) == (MONTHS[1], n)
    assert abs(b - B) < 4 * b_se
    ledger = [(own.rule, own.values.b, own.effective_from) for own in call(database, publications_of, SCALE, ITEM)]
    assert ledger == [("pipeline", row.parameters["b"], JULY.start)]
    proposed = rows(database, "SELECT month, b, why FROM item_parameter_proposal WHERE item_id = %s", (ITEM,))
    assert proposed == [(MONTHS[1], b, "it is published already: a person decides on a change")]


def test_item_has_drift_and_information_from_the_next_month_on(followed: tuple[Database, PipelineItem]) -> None:
    database, row = followed
    drift = "SELECT month, (details->'published'->>'b')::float, delta_b, severity FROM item_drift WHERE item_id = %s"
    [(month, from_b, delta, severity)] = rows(database, drift, (ITEM,))
    [(b,)] = rows(database, "SELECT b FROM item_parameter_proposal WHERE item_id = %s", (ITEM,))
    assert (month, from_b, severity) == (MONTHS[1], row.parameters["b"], "none")
    assert delta == pytest.approx(b - row.parameters["b"])
    informed = rows(database, "SELECT month, details->>'status' FROM test_information WHERE item_id = %s", (ITEM,))
    assert informed == [(MONTHS[1], "compared")]


def test_seed_answers_count_for_no_theta_after_the_publication(followed: tuple[Database, PipelineItem]) -> None:
    database, _ = followed
    counted = "SELECT count(*) FROM attempt_verdict WHERE item_id = %s AND reason IS NULL AND completed_at > %s"
    [(n,)] = rows(database, counted, (ITEM, LATE))
    responses, _ = call(database, scoring_responses, JUNE.start, JULY.end, [ITEM])
    assert responses.n_responses == n
    late = "SELECT count(*) FROM attempt_verdict WHERE item_id = %s AND reason = 'seed' AND completed_at = %s"
    [(n_late,)] = rows(database, late, (ITEM, LATE))
    assert n_late > 20


def test_change_of_setting_is_tested_in_the_month_of_the_last_needed_answer(
    followed: tuple[Database, PipelineItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, row = followed
    counted = "SELECT count(*) FROM attempt_verdict WHERE item_id = %s AND reason IS NULL AND completed_at >= %s"
    [(n,)] = rows(database, counted, (ITEM, JULY.start))
    for needed, tested in ((n + 1, []), (n, [ITEM])):
        monkeypatch.setattr(publishing, "SETTING_TEST_AT", needed)
        assert [*call(database, items_to_test, SCALE, MONTHS[1])] == tested
    [made] = make_pipeline(database, "2026-08-01")
    assert changed_items(database, made) == []
    run_sql(
        database,
        "UPDATE item_parameter_publication SET parameters = parameters || %s WHERE item_id = %s",
        (Jsonb({"b": row.parameters["b"] - 1}), ITEM),
    )
    assert changed_items(database, made) == [ITEM]


def changed_items(database: Database, made: ScalePipeline) -> list[str]:
    with database.connect() as connection:
        return [item for item, _ in changes_of_setting(connection, made)]


def test_evidence_on_the_key_goes_on_from_the_seed_answers(followed: tuple[Database, PipelineItem]) -> None:
    database, _ = followed
    days = "SELECT DISTINCT completed_at::date FROM attempt_verdict WHERE item_id = %s AND coalesce(reason, '') = %s"
    last_seeded, *_, scored, last_scored = (
        max(day for (day,) in rows(database, days, (ITEM, "seed")) if day < JULY.start.date()),
        *sorted(day for (day,) in rows(database, days, (ITEM, ""))),
    )
    for day in (last_seeded, scored, last_scored):
        analyse_day(database, day.isoformat())
    evidence = dict(rows(database, "SELECT day, n FROM key_evidence WHERE item_id = %s", (ITEM,)))
    assert [*evidence] == [last_seeded, scored, last_scored]
    assert 0 < evidence[last_seeded] < evidence[scored] < evidence[last_scored]


def test_item_leaves_the_queue_with_the_day_and_the_reason(followed: tuple[Database, PipelineItem], irt: IrtOf) -> None:
    database, row = followed
    [stage] = call(database, item_stages, items=[ITEM])
    assert (stage.stage, stage.since, stage.n, stage.why) == ("published", JULY.start, row.n, SIGNED["reason"])
    typed = irt(database.settings)
    assert ITEM not in typed("items", "pipeline").out.split()
    make_pipeline(database, "2026-08-01")
    assert call(database, read_pipeline, SCALE, [ITEM]) == []
    assert "Kim, with the values of item_pipeline" in typed("lineage", ITEM).out


def test_theta_api_and_adaptive_tests_have_the_value_from_its_first_day_on(
    followed: tuple[Database, PipelineItem],
) -> None:
    database, row = followed
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\n"
    set_policy(database, Policy.from_yaml(policy), effective_from=JUNE.start, **SIGNED)
    now = [JULY.start - timedelta(seconds=1)]
    ledger = Ledger(database, 1, clock=lambda: now[0])
    found = []
    ledger.start()
    ledger.wait_for_first_read()
    try:
        for at in (*now, JULY.start):
            now[0] = at
            ledger.refresh()
            items = ledger.measures().scales[SCALE].items.item_ids
            [offer] = ledger.plans.offers.values()
            found.append([ITEM in items, ITEM in offer.bank.items.item_ids])
    finally:
        ledger.stop()
    assert found == [[False, False], [True, True]]
    assert ledger.measures().scales[SCALE].published.items[ITEM].b == row.parameters["b"]


def test_exports_have_the_value_and_scripts_repeat_both_months(
    followed: tuple[Database, PipelineItem], irt: IrtOf, tmp_path: Path
) -> None:
    database, row = followed
    typed, listed = irt(database.settings), []
    for day in ("2026-06-30", "2026-07-01"):
        file = tmp_path / f"{day}.csv"
        assert typed("export", "parameters", "--as-of", day, "--to", str(file)).code == 0
        listed.append(pd.read_csv(file).set_index("item_id"))
    assert ITEM not in listed[0].index
    assert listed[1].loc[ITEM, ["b", "b_se", "rule"]].tolist() == [
        pytest.approx(row.parameters["b"]),
        pytest.approx(row.parameters["b_se"]),
        "pipeline",
    ]
    for month, is_there in zip(MONTHS, (False, True), strict=True):
        call(database, write_month, folder_store(database.settings), SCALE, month, tmp_path / month)
        done = subprocess.run([sys.executable, tmp_path / month / "reproduce.py"], check=False)
        assert done.returncode == 0
        assert (ITEM in {*pd.read_csv(tmp_path / month / "parameters.csv").item}) == is_there


def test_month_made_again_leaves_the_publication_and_only_proposes(
    followed: tuple[Database, PipelineItem], small_truth: Truth
) -> None:
    """150 learners answered the item in June without a draw, on paper, which arrives after June is closed."""
    database, row = followed
    close_months(database, JULY.end + timedelta(days=20))
    items = [item for item in small_truth.bank.item_ids if item.startswith("A")]
    places = [small_truth.bank.item_ids.index(item) for item in items]
    rng = np.random.default_rng(5)
    a, b = np.append(small_truth.bank.a[places], A), np.append(small_truth.bank.b[0, places], B)
    users = [f"late{k}" for k in range(150)]
    scores = model_scores(rng.normal(size=len(users)), a, b, rng)
    add_learners(database, users)
    add_attempts(database, answer_matrix(MONTHS[0], scores, [*items, ITEM], users))
    reopen_months(database, MONTHS[0], **SIGNED)
    assert rooms.is_stale(database, MONTHS[0])
    step = rooms.calibrate(database.settings, MONTHS[0])
    assert step.state == "done"
    [own] = call(database, publications_of, SCALE, ITEM)
    assert (own.rule, own.values.b) == ("pipeline", row.parameters["b"])
    why = rows(database, "SELECT month, why FROM item_parameter_proposal WHERE item_id = %s ORDER BY 1", (ITEM,))
    assert why == [(month, "it is published already: a person decides on a change") for month in MONTHS]
    assert ledger_violations(database) == []


def test_accepted_proposal_replaces_the_value_and_an_undo_restores_it(followed: tuple[Database, PipelineItem]) -> None:
    database, row = followed
    now, proposal = JULY.end + timedelta(days=2), Reference(MONTHS[1], ITEM)
    accept(database, [proposal], **SIGNED, effective_from=None, now=now)
    undo(database, [proposal], **SIGNED, now=now)
    replaced, restored = call(database, publications_of, SCALE, ITEM)[1:]
    assert (replaced.rule, restored.rule) == ("decision", "undo")
    assert replaced.values != restored.values == item_from_json(row.parameters)
    assert ledger_violations(database) == []


def test_published_item_can_be_withdrawn(followed: tuple[Database, PipelineItem], irt: IrtOf) -> None:
    database, _ = followed
    done = irt(database.settings)("items", "withdraw", ITEM, "--by", "Kim", "--reason", "leaked", "--yes")
    assert done.code == 0, done.err
    published = call(database, set_with_errors, SCALE, datetime.now(UTC) + timedelta(days=2))
    assert published.withdrawn.covers(ITEM, datetime.now(UTC) + timedelta(days=2))
    [stage] = call(database, item_stages, items=[ITEM])
    assert stage.stage == "published"


def test_erasure_of_a_learner_leaves_the_value(followed: tuple[Database, PipelineItem]) -> None:
    database, row = followed
    settings = database.settings
    [(user,)] = rows(database, "SELECT user_id FROM seed_draw ORDER BY 1 LIMIT 1")
    store = folder_store(settings)
    with dagster_instance(settings, database) as instance:
        erase(database, store, instance, holdings(database, store, user), **SIGNED, rejects=settings.irt_home / "no")
    assert rows(database, "SELECT count(*) FROM seed_draw WHERE user_id = %s", (user,)) == [(0,)]
    assert call(database, set_with_errors, SCALE, JULY.start).items[ITEM] == item_from_json(row.parameters)
    assert ledger_violations(database) == []


def ledger_violations(database: Database) -> list[Violation]:
    """Violations of the invariants of publications."""
    with database.connect() as connection:
        context = InvariantContext(connection, folder_store(database.settings), JULY.end, ())
        found = [
            violation
            for invariant in (one_set_is_in_force_and_changes_are_decided, published_parameters_come_from_sound_fits)
            for violation in invariant.find(context)
        ]
    return [violation for violation in found if isinstance(violation, Violation)]
