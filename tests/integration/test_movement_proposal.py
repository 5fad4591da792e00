"""How abilities move is proposed where a scale asks for it and answers can tell, and nothing else changes."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from irt_assets.common.partitions import Month
from irt_assets.decisions.movement_proposal import lines_of, propose_movement, propose_where_wanted
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.movement_proposals import newest_proposal
from irt_assets.psychometrics.core.movement import STILL
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, rows, run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.typed import IrtOf

MONTH = MONTHS[-1]
END = Month(MONTH).end
WEEKS, ANSWERS = 28, 6
B = np.linspace(-1.5, 1.5, WEEKS * ANSWERS)
ITEMS = {f"i{k:03d}": {"a": 1.3, "b": float(b), "a_se": 0.1, "b_se": 0.1} for k, b in enumerate(B)}
"""So many that nobody meets one again: a later answer would not count."""
WALK = 0.2**2
"""A week: so large that 320 learners show it."""


def auto(database: Database) -> None:
    run_sql(
        database,
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
           VALUES (%s, 'ability_variance', 'auto', '2026-06-01Z', 'Ann', 'to know')""",
        (SCALE,),
    )


def test_two_months_cannot_tell_and_say_so(months: Database) -> None:
    with months.connect() as connection, connection.transaction(force_rollback=True):
        found = propose_movement(connection, SCALE)
        assert newest_proposal(connection, SCALE).why_not == found.why_not  # type: ignore[union-attr]
    assert found.movement is None
    assert found.why_not.endswith("learners answered on 8 days or more; 300 are needed")
    assert f"nothing is proposed: {found.why_not}" in next(lines_of(found))


def test_nothing_is_proposed_for_a_scale_that_does_not_ask(months: Database) -> None:
    assert propose_where_wanted(months, MONTH) == []
    assert rows(months, "SELECT * FROM movement_proposal") == []


def test_nothing_is_proposed_before_items_are_published(database: Database) -> None:
    add_items(database, {"i": {"a": 1.0, "b": 0.0}})
    add_attempts(database, [attempt("u", "i", END - timedelta(days=1))])
    with database.connect() as connection:
        assert propose_movement(connection, SCALE).why_not == "no items of the scale are published"


@pytest.fixture
def half_a_year(database: Database) -> Database:
    """320 learners answer six items once a week for 28 weeks, while their abilities walk; the last month is done."""
    rng = np.random.default_rng(52)
    add_items(database, ITEMS)
    initialise(database, SCALE, first_month="2026-01")
    first, names = END - timedelta(weeks=WEEKS) + timedelta(hours=9), [*ITEMS]
    order = rng.permuted(np.tile(np.arange(B.size), (320, 1)), axis=1)
    theta, given = rng.normal(0, 1, 320), []
    for week in range(WEEKS):
        items = order[:, week * ANSWERS : (week + 1) * ANSWERS]
        right = rng.random(items.shape) < 1 / (1 + np.exp(-1.3 * (theta[:, None] - B[items])))
        days = rng.integers(5, size=theta.size).tolist()
        for i, (day, of_week, scores) in enumerate(zip(days, items.tolist(), right.tolist(), strict=True)):
            at = first + timedelta(weeks=week, days=day)
            given += [
                attempt(f"u{i:03d}", names[k], at, correct=correct) for k, correct in zip(of_week, scores, strict=True)
            ]
        theta = theta + rng.normal(0, np.sqrt(WALK), theta.size)
    add_attempts(database, given)
    run_sql(
        database,
        "INSERT INTO publication_step (month, scale_id, state, why) VALUES (%s, %s, 'done', 'made up')",
        (MONTH, SCALE),
    )
    return database


def test_a_walk_is_found_proposed_and_taken_over_by_decision(
    half_a_year: Database, settings: Settings, irt: IrtOf
) -> None:
    auto(half_a_year)
    assert propose_where_wanted(half_a_year, "2026-06") == [], "a later month is done"
    (found,) = propose_where_wanted(half_a_year, MONTH)
    assert found.movement is not None, found.why_not
    errors = found.details["errors"]
    assert abs(found.details["estimate"]["variance"] - WALK) < 3 * errors["variance"] < 0.03
    assert abs(found.details["estimate"]["growth"]) < 3 * errors["growth"]
    assert found.details["p"]["variance"] < 0.01
    assert (found.details["learners"], found.details["occasions"]) == (320, 320 * WEEKS)
    typed = irt(settings)
    shown = typed("scale", "movement").out
    assert not unsaid(
        shown, "proposals are made (auto)", "from 320 learners", "to take it over: irt scale set ability_variance="
    )
    with half_a_year.connect() as connection:
        assert read_scales(connection)[SCALE].movement == STILL, "nothing takes effect before the decision"
    command = shown.splitlines()[-1].partition("irt ")[2].split()
    assert typed(*command, "--by", "Ann", "--reason", "as proposed", "--yes").code == 0
    with half_a_year.connect() as connection:
        decided = read_scales(connection)[SCALE].movement
    assert decided.variance == pytest.approx(found.movement.variance, rel=1e-5)
    assert "(auto)" not in typed("scale", "movement").out


def test_nothing_is_proposed_where_items_have_an_order_within_months(half_a_year: Database) -> None:
    """Everybody answers the items of a month in one order; no fit of a month says that ability stands still in it, as
    none was made: the last month with answers stands for the last that was taken to the ledger."""
    run_sql(half_a_year, "DELETE FROM publication_step")
    run_sql(
        half_a_year,
        """UPDATE response_log r SET completed_at = date_trunc('month', r.completed_at, 'UTC')
             + mod(substr(item_id, 2)::int, 28) * interval '1 day' """,
    )
    with half_a_year.connect() as connection:
        found = propose_movement(connection, SCALE)
    assert (found.month, found.movement) == (MONTH, None)
    assert "difficulties have absorbed part of it" in found.why_not
