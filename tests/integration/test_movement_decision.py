"""The movement of a scale's abilities is decided from a month on, and makes only abilities from then on stale."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.abilities.batch import measure, stale_months
from irt_assets.common.partitions import Month
from irt_assets.decisions.model_change import decide_model_change, preview_model_change
from irt_assets.decisions.movement_change import decide_movement_change, preview_movement_change
from irt_assets.decisions.movement_proposal import proposal_lines, propose_automatic_movements, propose_movement
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.gates.advisory_checks import ability_stands_still_within_the_month
from irt_assets.gates.evidence import GateResult, load_evidence
from irt_assets.ledger.fits import LinkedFit, latest_staged, linked_fit
from irt_assets.ledger.movement_proposals import newest_proposal
from irt_assets.reports.month_blocks import growth_of_anchors, growth_within
from irt_assets.scales.scale import read_scales, write_pass_mark
from irt_psychometrics.scoring import Movement
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    attempt,
    calibrate,
    call,
    folder_store,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS

FIRST, NEXT = MONTHS
DECISIONS = "SELECT subject, value, effective_from FROM scale_decision ORDER BY decision_id"
SIGNED = ("--by", "Ann", "--reason", "learners learn")


@pytest.fixture
def measured(database: Database) -> Database:
    """Two months of a learner, measured without a calibration."""
    add_items(database, {f"i{k}": {"a": 1.0, "b": k - 2.0, "a_se": 0.1, "b_se": 0.1} for k in range(5)})
    initialise(database, SCALE, first_month="2026-01")
    days = (datetime(2026, 6, 5, tzinfo=UTC), datetime(2026, 6, 25, tzinfo=UTC), datetime(2026, 7, 20, tzinfo=UTC))
    add_attempts(database, [attempt("u", f"i{k}", at, correct=k != 1) for k, at in enumerate(days)])
    for month in MONTHS:
        measure(database, month, f"run of {month}")
    return database


def decide(database: Database, first_month: str | None = None, **values: str) -> tuple[str, ...]:
    change = preview_movement_change(database, SCALE, dict(values), first_month, calibrations_begin=FIRST)  # type: ignore[arg-type]
    done = decide_movement_change(database, change, by="Ann", reason="learners learn")
    assert done.stale == change.stale
    return done.stale


def movements(database: Database) -> list[Movement]:
    """Movement of the abilities in force at the end of both months."""
    return [call(database, read_scales, Month(month).end)[SCALE].movement for month in MONTHS]


def test_abilities_from_the_decisions_month_on_are_stale_until_measured_again(measured: Database) -> None:
    assert movements(measured) == [Movement(), Movement()]
    assert decide(measured, NEXT, ability_variance="auto") == ()
    assert decide(measured, NEXT, ability_variance="0.0025", occasion_variance=".04") == (NEXT,)
    assert movements(measured) == [Movement(), Movement(0.0025, 0.0, 0.04)]
    assert set(call(measured, stale_months)) == {NEXT}
    measure(measured, NEXT, "again")
    assert call(measured, stale_months) == {}
    assert decide(measured, FIRST, ability_growth="0.01") == (FIRST, NEXT)
    assert decide(measured, FIRST, ability_growth="0.01") == ()
    assert decide(measured, FIRST, ability_variance="0", ability_growth="-0", occasion_variance="0") == (NEXT,)
    assert movements(measured) == [Movement(), Movement()]
    start, later = Month(FIRST).start, Month(NEXT).start
    assert rows(measured, DECISIONS) == [
        ("ability_variance", "auto", later),
        ("ability_variance", "0.0025", later),
        ("occasion_variance", "0.04", later),
        ("ability_growth", "0.01", start),
        ("ability_variance", "0", start),
        ("ability_growth", "0", start),
        ("occasion_variance", "0", start),
    ]


def test_movement_change_is_refused_if_a_decision_followed_the_preview(measured: Database) -> None:
    change = preview_movement_change(measured, SCALE, {"ability_variance": "0.01"}, FIRST, calibrations_begin=FIRST)
    decide(measured, FIRST, ability_growth="0.01")
    assert "have changed since the preview: nothing was decided" in refusal(
        decide_movement_change, measured, change, by="Ann", reason="too late"
    )
    assert len(rows(measured, DECISIONS)) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("ability_variance=-0.1",), "ability_variance is a number from 0 to 1, or auto; got '-0.1'"),
        (("ability_growth=nan",), "ability_growth is a number from -1 to 1, or auto; got 'nan'"),
        (("occasion_variance=much",), "occasion_variance is a number from 0 to 4, or auto; got 'much'"),
        (("ability_variance=0.01", "model=1pl"), "set ability_variance and model in commands of their own"),
        (
            ("ability_variance=0.01", "min_responses=110"),
            "set ability_variance and min_responses in commands of their own",
        ),
        (("ability_variance=0.01", "--from", "June"), "a decision on a scale holds from a month on"),
        (("ability_variance=0.01", "--scale", "other"), "scale other has no origin yet"),
    ],
)
def test_invalid_movement_is_refused(
    measured: Database, settings: Settings, irt: IrtOf, words: tuple[str, ...], reason: str
) -> None:
    refused = irt(settings)("scale", "set", *words, *SIGNED, "--yes")
    assert (refused.code, reason in " ".join(refused.err.split())) == (2, True), refused.err
    assert rows(measured, DECISIONS) == []


def test_movement_cannot_be_set_as_a_rule_for_all_months(measured: Database, settings: Settings, irt: IrtOf) -> None:
    typed = irt(settings)
    for command in (
        ("scale", "init", "--scale", "new", "--set", "ability_variance=0.01"),
        ("calibrate", "--month", FIRST, "--set", "ability_variance=0.01", "--yes"),
    ):
        refused = typed(*command)
        error = " ".join(refused.err.split())
        assert refused.code == 2
        assert "`irt scale set ability_variance=0.01 --from YYYY-MM`" in error, error


def test_command_prints_the_effects_of_a_movement_before_the_prompt(
    measured: Database, settings: Settings, irt: IrtOf
) -> None:
    typed = irt(settings)
    unconfirmed = typed("scale", "set", "ability_variance=0.0025", "ability_growth=auto", *SIGNED, "--from", NEXT)
    assert (unconfirmed.code, "with --yes" in unconfirmed.err) == (2, True)
    assert not missing_sentences(
        unconfirmed.out,
        f"scale {SCALE}: ability_variance 0 → 0.0025, ability_growth 0 → auto from {NEXT} on; months before stay",
        "auto: values are proposed, and the values in force stay until somebody decides",
        f"1 of 1 learners of {NEXT} would get another θ",
        f"abilities to be measured again: {NEXT}",
        "fits, linkings, published values and drift stay",
    )
    assert rows(measured, DECISIONS) == []


def test_previewed_effect_on_learners_equals_the_stored_change(published: Settings) -> None:
    """The preview is compared with the θ stored before and after, with a pass mark at θ = 0."""
    database = Database(published)
    call(database, write_pass_mark, SCALE, 0.0)

    def measured_now() -> np.ndarray:
        measure(database, NEXT, "run")
        query = "SELECT theta, se FROM mirt_ability WHERE window_end = %s ORDER BY user_id"
        return np.array(rows(database, query, (Month(NEXT).end,))).T

    before = measured_now()
    values = {"ability_variance": "0.04", "occasion_variance": "0.09"}
    change = preview_movement_change(database, SCALE, values, NEXT, calibrations_begin=FIRST)  # type: ignore[arg-type]
    assert np.array_equal(measured_now(), before), "a preview writes nothing"
    decide_movement_change(database, change, by="Ann", reason="learners learn")
    after = measured_now()
    effect = change.effect
    assert effect is not None
    shift = after[0] - before[0]
    assert (effect.learners, effect.added) == (shift.size, 0)
    assert effect.changed == int((np.abs(after - before) > 1e-9).any(axis=0).sum()) > 500
    found = (effect.mean, effect.sd, effect.se, effect.se_after, abs(effect.largest))
    expected = (shift.mean(), shift.std(), before[1].mean(), after[1].mean(), np.abs(shift).max())
    # The same numbers, added in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert effect.se_after > effect.se, "a day's own deviation says less of θ"
    assert effect.newly_passed == int(((before[0] < 0) & (after[0] >= 0)).sum())
    assert effect.newly_failed == int(((before[0] >= 0) & (after[0] < 0)).sum())
    assert f"{effect.changed:,} of {effect.learners:,} learners of {NEXT} would get another θ" in effect.sentence
    values = dict.fromkeys(values, "0")
    undone = preview_movement_change(database, SCALE, values, FIRST, calibrations_begin=FIRST)  # type: ignore[arg-type]
    assert undone.effect is not None, "what is decided for later months is undone as well"
    assert (undone.effect.changed, undone.effect.mean) == (effect.changed, pytest.approx(-effect.mean, abs=1e-9))
    assert f"no longer holds: ability_variance 0.04 from {NEXT} on" in undone.lines


# -- proposed ----------------------------------------------------------------------------------------
# A movement is proposed only if the scale requests it and the answers determine it. Nothing else changes.

MONTH = MONTHS[-1]
END = Month(MONTH).end
WEEKS, ANSWERS = 28, 6
B = np.linspace(-1.5, 1.5, WEEKS * ANSWERS)
ITEMS = {f"i{k:03d}": {"a": 1.3, "b": float(b), "a_se": 0.1, "b_se": 0.1} for k, b in enumerate(B)}
"""The items, so many that no learner meets an item twice, as a second answer would not count."""
WALK = 0.2**2
"""Variance of a week, large enough to be estimated from 320 learners."""


def auto(database: Database) -> None:
    run_sql(
        database,
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
           VALUES (%s, 'ability_variance', 'auto', '2026-06-01Z', 'Ann', 'to know')""",
        (SCALE,),
    )


def test_two_months_are_too_few_for_a_proposal_and_the_reason_is_stated(months: Database) -> None:
    with months.connect() as connection, connection.transaction(force_rollback=True):
        found = propose_movement(connection, SCALE)
        assert newest_proposal(connection, SCALE).why_not == found.why_not  # type: ignore[union-attr]
    assert found.movement is None
    assert found.why_not.endswith("learners answered on 8 days or more; 300 are needed")
    assert f"nothing is proposed: {found.why_not}" in next(proposal_lines(found))


def test_scale_without_auto_has_no_proposal_of_movement(months: Database) -> None:
    assert propose_automatic_movements(months, MONTH) == []
    assert rows(months, "SELECT * FROM movement_proposal") == []


def test_movement_is_not_proposed_before_items_are_published(database: Database) -> None:
    add_items(database, {"i": {"a": 1.0, "b": 0.0}})
    add_attempts(database, [attempt("u", "i", END - timedelta(days=1))])
    assert call(database, propose_movement, SCALE).why_not == "no items of the scale are published"


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


def test_random_walk_is_estimated_and_proposed_and_applied_by_a_decision(
    half_a_year: Database, settings: Settings, irt: IrtOf
) -> None:
    auto(half_a_year)
    assert propose_automatic_movements(half_a_year, "2026-06") == [], "a later month is done"
    (found,) = propose_automatic_movements(half_a_year, MONTH)
    assert found.movement is not None, found.why_not
    errors = found.details["errors"]
    assert abs(found.details["estimate"]["variance"] - WALK) < 3 * errors["variance"] < 0.03
    assert abs(found.details["estimate"]["growth"]) < 3 * errors["growth"]
    assert found.details["p"]["variance"] < 0.01
    assert (found.details["learners"], found.details["occasions"]) == (320, 320 * WEEKS)
    typed = irt(settings)
    shown = typed("scale", "movement").out
    assert not missing_sentences(
        shown, "proposals are made (auto)", "from 320 learners", "to adopt it: irt scale set ability_variance="
    )
    assert call(half_a_year, read_scales)[SCALE].movement == Movement(), "nothing takes effect before the decision"
    command = shown.splitlines()[-1].partition("irt ")[2].split()
    assert typed(*command, "--by", "Ann", "--reason", "as proposed", "--yes").code == 0
    decided = call(half_a_year, read_scales)[SCALE].movement
    assert decided.variance == pytest.approx(found.movement.variance, rel=1e-5)
    assert "(auto)" not in typed("scale", "movement").out


def test_movement_is_not_proposed_if_items_have_an_order_within_months(half_a_year: Database) -> None:
    """All learners answer the items of a month in the same order. No month has a fit that could show that ability stays
    constant, so the last month with answers replaces the last published month."""
    run_sql(half_a_year, "DELETE FROM publication_step")
    run_sql(
        half_a_year,
        """UPDATE response_log r SET completed_at = date_trunc('month', r.completed_at, 'UTC')
             + mod(substr(item_id, 2)::int, 28) * interval '1 day' """,
    )
    found = call(half_a_year, propose_movement, SCALE)
    assert (found.month, found.movement) == (MONTH, None)
    assert "difficulties have absorbed part of it" in found.why_not


# -- a month of learners who grow --------------------------------------------------------------------
# A month in which learners grow while they follow a curriculum: its detection, and the effect of a decision.

LEARNERS, DAYS, GROWTH = 1200, 14.0, 1.5
ITEMS_OF_LEVELS = [f"i{j:02d}" for j in range(20)]
DIFFICULTIES = np.resize([-0.8, 0.6, 0.0, -0.3, 0.9], len(ITEMS_OF_LEVELS))
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}


def add_growing_answers(settings: Settings) -> None:
    """In the first month in any order within an hour; in the second one after the other, at paces of 1/2 to 2."""
    rng, database = np.random.default_rng(21), Database(settings)
    add_items(database, dict.fromkeys(ITEMS_OF_LEVELS))
    for month in MONTHS:
        grows = month == NEXT
        theta = rng.standard_normal(LEARNERS)
        pace = 2.0 ** rng.uniform(-1, 1, LEARNERS)
        progress = np.arange(len(ITEMS_OF_LEVELS)) / len(ITEMS_OF_LEVELS)
        days = DAYS * pace[:, None] * progress if grows else rng.permuted(np.tile(progress, (LEARNERS, 1)), axis=1) / 24
        right = rng.random(days.shape) < expit(theta[:, None] + (GROWTH * days / 30 if grows else 0.0) - DIFFICULTIES)
        start = Month(month).start + timedelta(hours=1)
        add_attempts(
            database,
            [
                attempt(f"{month}-{i}", item, start + timedelta(days=days[i, j]), correct=bool(right[i, j]))
                for i in range(LEARNERS)
                for j, item in enumerate(ITEMS_OF_LEVELS)
            ],
        )
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings))
    initialise(database, SCALE, first_month=FIRST, model="2pl", thresholds=RULES, window=window)
    for month in MONTHS:
        calibrate(settings, month)


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_growth", migrated_template, add_growing_answers, **OF_MONTHS)
    with template_copy(postgres, "template_growth", tmp_path, **OF_MONTHS) as settings:
        yield settings


def evaluate_growth_gate(settings: Settings, month: str) -> GateResult:
    with Database(settings).connect() as connection:
        scale = read_scales(connection, Month(month).start)[SCALE]
        evidence = load_evidence(connection, month, scale)
    return ability_stands_still_within_the_month(evidence)


def read_linked_fit(settings: Settings, month: str) -> LinkedFit:
    found = call(Database(settings), linked_fit, SCALE, "monthly", Month(month).start, "em")
    assert found is not None
    return found


def trend(found: LinkedFit) -> float:
    """Trend of b's error from the first item to the last."""
    error = np.array([found.values[item].b for item in ITEMS_OF_LEVELS]) - DIFFICULTIES
    return float(np.polyfit(np.linspace(0, 1, len(ITEMS_OF_LEVELS)), error, 1)[0])


def change(settings: Settings, values: dict[Any, str]) -> Any:
    return preview_model_change(
        Database(settings),
        folder_store(settings),
        SCALE,
        values,
        NEXT,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )


@pytest.mark.ci
def test_learner_weeks_are_fitted_by_decision_if_difficulties_absorb_growth(world: Settings) -> None:
    """Growth is 1.5 in 30 days, which is 0.7 from the first item to the last; the fit of weeks leaves less than
    three of its standard errors, 0.3."""
    sound, warned = evaluate_growth_gate(world, FIRST), evaluate_growth_gate(world, NEXT)
    assert sound.passed
    assert sound.why == "no learner's answers are known to lie a day apart"
    assert not warned.passed
    assert "ability grows by +" in warned.why
    assert "so later items look easier than they are" in warned.why
    before = read_linked_fit(world, NEXT)
    assert trend(before) < -0.5

    with Database(world).connect() as connection:
        scale = read_scales(connection)[SCALE]
        shown = list(growth_within(connection, scale, NEXT))
        staged = latest_staged(connection, NEXT, SCALE, "em")
    assert "Ability grows by" in str(shown[0])
    assert "all items" in str(shown[1])
    by_place = call(Database(world), growth_of_anchors, scale, NEXT)
    assert by_place is not None
    assert by_place.anchors == len(ITEMS_OF_LEVELS)
    # The anchors' own line takes the part of growth that is in their mean and slope; the rest is the trend.
    assert abs(by_place.estimate - GROWTH) < 4 * by_place.se
    assert staged is not None
    assert "occasions" not in staged.spec.as_json()  # as earlier releases wrote it

    expected = change(world, {"occasions": "week"})
    assert expected.stale == (NEXT,)
    assert expected.lines[0].startswith(f"scale {SCALE}: occasions month → week from {NEXT} on")
    decide_model_change(Database(world), expected, by="Ann", reason="a curriculum")
    calibrate(world, NEXT)
    after = read_linked_fit(world, NEXT)
    assert abs(trend(after)) < 0.3
    assert evaluate_growth_gate(world, NEXT).passed
    assert "learners' weeks were fitted" in evaluate_growth_gate(world, NEXT).why
    assert read_linked_fit(world, FIRST).fit_id != after.fit_id
    assert not change(world, {"occasions": "week"}).values


@pytest.mark.ci
def test_invalid_occasions_and_weeks_with_a_histogram_are_refused(world: Settings) -> None:
    assert "occasions are month or week, got 'day'" in refusal(change, world, {"occasions": "day"})
    run_sql(Database(world), 'UPDATE calibration_scale SET rules = rules || \'{"latent": "histogram"}\'')
    assert "irt scale set latent=normal" in refusal(change, world, {"occasions": "week"})


@pytest.mark.ci
def test_month_fitted_before_growth_was_estimated_is_not_stale(world: Settings) -> None:
    database = Database(world)
    run_sql(
        database,
        """UPDATE fit_staging SET spec = jsonb_set(spec #- '{fit_statistics,set,growth}', '{fit_statistics,items}',
             (spec->'fit_statistics'->'items') - 'growth' - 'growth_se' - 'growth_days')""",
    )
    assert evaluate_growth_gate(world, NEXT) == GateResult(True, "no learner's answers are known to lie a day apart")
    with database.connect() as connection:
        (problem,) = growth_within(connection, read_scales(connection)[SCALE], NEXT)
    assert "Growth was not estimated" in str(problem)
    assert change(world, {"prior_a": "none"}).stale == ()
