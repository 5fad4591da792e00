"""Months that are held by what was published before them: constants that jump, and anchors that moved as a group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import months_between
from irt_assets.decisions.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.gates.evidence import Verdict
from irt_assets.gates.gates import failures
from irt_assets.gates.linking_gates import anchors_move_with_the_others, linking_stays_near_its_history
from irt_assets.ledger.steps import Step
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import take_snapshot
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    evidence_of,
    folder_store,
    link_made_up,
    made_up_calibration,
    rows,
    run_sql,
)
from tests.helpers.sentences import unsaid
from tests.helpers.worlds import OF_MONTHS

FIRST, NEXT, OTHERS_LEARN = "2026-06", "2026-07", "2026-08"
EARLIER = list(months_between("2025-10", "2026-05"))
LEARNERS, ANCHORS, OTHERS = 1200, 12, 12
ITEMS = [f"k{j:02d}" for j in range(ANCHORS)] + [f"o{j:02d}" for j in range(OTHERS)]
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}
EASIER = 0.5
"""By so much all anchors are easier in the second month."""


def three_months(settings: Settings) -> None:
    """A sound one, one whose anchors are all easier, and one of learners who are 1 SD better."""
    database, rng = Database(settings), np.random.default_rng(11)
    a, b = np.exp(rng.normal(0.2, 0.2, ANCHORS + OTHERS)), rng.normal(0.2, 0.9, ANCHORS + OTHERS)
    easier = b - np.where(np.arange(b.size) < ANCHORS, EASIER, 0.0)
    of_bank = [{"a": a[j], "b": b[j], "a_se": 0.05, "b_se": 0.04} if j < ANCHORS else None for j in range(b.size)]
    add_items(database, dict(zip(ITEMS, of_bank, strict=True)))
    for month, mean, of_month in ((FIRST, 0.0, b), (NEXT, 0.1, easier), (OTHERS_LEARN, 1.0, b)):
        p = expit(a * (rng.normal(mean, 1.0, LEARNERS)[:, None] - of_month))
        scores = (rng.random(p.shape) < p).astype(float)
        add_attempts(database, answer_matrix(month, scores, ITEMS, [f"{month}-{i}" for i in range(LEARNERS)]))


@pytest.fixture
def bank(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_month_gates", migrated_template, three_months)
    with template_copy(postgres, "template_month_gates", tmp_path, **OF_MONTHS) as settings:
        yield settings


def begin(settings: Settings, rule: str = "hold", **thresholds: Any) -> Database:
    database = Database(settings)
    initialise(database, SCALE, first_month=EARLIER[0], thresholds=RULES | {"new_misfit": rule} | thresholds)
    return database


def link(settings: Settings, month: str) -> None:
    database, store = Database(settings), folder_store(settings)
    take_snapshot(database, store, month, "run")
    fit_month(database, store, month, EmEngine(1), "run")
    link_month(database, month, "run")
    measure_month(database, month)


def publish(settings: Settings, month: str, unsettled: tuple[str, ...] = ()) -> dict[str, Step]:
    return publish_month(Database(settings), folder_store(settings), month, unsettled, "run")[SCALE]


def calibrate(settings: Settings, month: str) -> Step:
    link(settings, month)
    return publish(settings, month)[month]


def judged(settings: Settings, month: str, gate: Any) -> tuple[Verdict, set[str]]:
    """What a gate says, and every gate that fails."""
    with Database(settings).connect() as connection:
        evidence = evidence_of(connection, folder_store(settings), month, read_scales(connection)[SCALE])
    return gate(evidence), set(failures(evidence))


def with_history(settings: Settings, intercepts: tuple[float, ...]) -> None:
    """Earlier months that were taken to the ledger, with linking constants of their own."""
    database = Database(settings)
    made_up = made_up_calibration(dict.fromkeys(ITEMS[:ANCHORS], (1.0, 0.0)))
    for month, intercept in zip(EARLIER, intercepts, strict=True):
        fit_id = link_made_up(database, folder_store(settings), month, made_up)
        constants = f'{{"intercept": {intercept}, "intercept_se": 0.04, "slope_se": 0.04}}'
        run_sql(
            database,
            """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants}',
                 model_spec->'linking_constants' || %s::jsonb) WHERE fit_id = %s""",
            (constants, fit_id),
        )
        run_sql(
            database,
            """INSERT INTO publication_step (month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why)
               VALUES (%s, %s, %s, 'done', 0, 0, 0, '{}', 'made up')""",
            (month, SCALE, fit_id),
        )


NEAR_ZERO = (0.05, -0.06, 0.02, 0.08, -0.04, 0.0, -0.05, 0.03)


# -- anchors that moved as a group -------------------------------------------------------------------


def test_a_month_whose_anchors_all_moved_together_is_held(bank: Settings) -> None:
    """Q sees nothing: the anchors agree with each other. The other published items show it."""
    begin(bank)
    first = calibrate(bank, FIRST)
    said, _ = judged(bank, FIRST, anchors_move_with_the_others)
    assert (first.state, first.n_published) == ("done", OTHERS)
    assert said.why.endswith("besides them the month has estimated 0 well enough, and 5 are needed")

    step = calibrate(bank, NEXT)
    verdict, failed = judged(bank, NEXT, anchors_move_with_the_others)
    assert step.state == "held"
    assert failed == {"anchors_move_with_the_others"}
    assert not unsaid(step.why, "the anchors became easier, or the others harder", "decide: find out which group moved")
    assert verdict.details["shift"] == pytest.approx(EASIER, abs=4 * verdict.details["shift_se"])
    assert verdict.details["items"] == OTHERS


def test_months_that_run_together_are_judged_as_if_one_after_the_other(bank: Settings) -> None:
    """The second is linked, and waits, before anything is published; it is compared again when its way is clear."""
    begin(bank)
    link(bank, NEXT)
    assert publish(bank, NEXT, (FIRST,))[NEXT].state == "pending"
    link(bank, FIRST)
    assert {month: step.state for month, step in publish(bank, FIRST).items()} == {FIRST: "done", NEXT: "held"}
    assert judged(bank, NEXT, anchors_move_with_the_others)[1] == {"anchors_move_with_the_others"}


def test_under_warn_the_month_passes_and_is_told(bank: Settings) -> None:
    begin(bank, "warn")
    calibrate(bank, FIRST)
    assert calibrate(bank, NEXT).state == "done"
    verdict, failed = judged(bank, NEXT, anchors_move_with_the_others)
    assert not failed
    assert verdict.why.startswith("the scale does not hold a month for it (new_misfit=warn); against the anchors")


def test_a_month_is_not_compared_with_itself(bank: Settings) -> None:
    """The third month is sound, and run twice: what the first run published is not in force in the month itself."""
    database = begin(bank, min_responses=LEARNERS)
    run_sql(database, "DELETE FROM response_log WHERE item_id = 'o00' AND completed_at < '2026-08-01'")
    calibrate(bank, FIRST)
    found = []
    for _ in range(2):
        assert calibrate(bank, OTHERS_LEARN).state == "done"
        found.append(judged(bank, OTHERS_LEARN, anchors_move_with_the_others)[0].details)
    assert (found[0], found[0]["items"]) == (pytest.approx(found[1]), OTHERS - 1)
    assert abs(found[0]["shift"]) < 4 * found[0]["shift_se"] < 0.4
    assert ("o00",) in rows(
        database, "SELECT item_id FROM item_parameter_publication WHERE month = %s", (OTHERS_LEARN,)
    )


def test_items_that_nobody_may_use_and_months_out_of_order_are_no_obstacle(bank: Settings) -> None:
    """All published items withdrawn: nobody is left to compare. An earlier month that is run later: nothing was in
    force then."""
    database = begin(bank)
    calibrate(bank, NEXT)
    run_sql(
        database,
        """INSERT INTO item_status (item_id, state, effective_from, decided_by, reason)
           SELECT item_id, 'withdrawn', '2026-08-01', 'Ann', 'to see' FROM question WHERE item_id ~ '^o'""",
    )
    calibrate(bank, OTHERS_LEARN)
    said = judged(bank, OTHERS_LEARN, anchors_move_with_the_others)[0]
    assert said.passed
    assert said.why.startswith("the anchors cannot be compared with others")
    calibrate(bank, FIRST)
    assert judged(bank, FIRST, anchors_move_with_the_others)[0].why.startswith(
        "the anchors cannot be compared with others"
    )


# -- constants that jump -----------------------------------------------------------------------------


def test_a_month_far_from_the_months_before_it_is_held(bank: Settings) -> None:
    begin(bank)
    with_history(bank, NEAR_ZERO)
    assert calibrate(bank, FIRST).state == "done"
    step = calibrate(bank, OTHERS_LEARN)
    assert step.state == "held"
    assert "against 9 earlier months the intercept jumps by +1.0" in step.why
    assert judged(bank, OTHERS_LEARN, linking_stays_near_its_history)[1] == {"linking_stays_near_its_history"}
