"""Choice of a scale's model: at its origin, and for later months, with suitable anchors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irt_assets.calibration.month import UnlinkedMonthError, link_month, publish_month
from irt_assets.calibration.nightly import calibrate_night
from irt_assets.common.partitions import Month
from irt_assets.decisions.model_change import accept_guessing, decide_model_change, preview_model_change
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.invariants.invariant import InvariantContext, evaluate
from irt_assets.invariants.publications import anchors_change_by_decision_alone
from irt_assets.ledger.anchors import read_anchors
from irt_assets.scales.scale import Scale, accepted_subjects, change_rules, read_scales
from irt_psychometrics.items import Beta, LogNormal, Normal, Priors
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    calibrate,
    fit_and_link,
    folder_store,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS

pytestmark = pytest.mark.ci

FIRST, NEXT = MONTHS
AFTER = "2026-08"
ENGINE = EmEngine(1)
N, SHIFT, GUESSING = 1500, 0.4, 0.2
ITEMS = [f"i{j:02d}" for j in range(14)]
A, B = np.repeat([1.4, 2.0], 7), np.tile(np.linspace(0.2, 1.6, 7), 2)
LOWERED = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}


def guessed_scores(mean: float, rng: np.random.Generator) -> np.ndarray:
    """0 and 1 of a 3PL, persons × items; the last item, as easy as the first, is seen by 300 learners only."""
    theta = rng.normal(mean, 1.0, N)
    a, b = np.r_[A, 1.2], np.r_[B, 0.0]
    p = GUESSING + (1 - GUESSING) / (1 + np.exp(-a * (theta[:, None] - b)))
    scores = (rng.random(p.shape) < p).astype(float)
    scores[300:, -1] = np.nan
    return scores


def scale_of(database: Database, month: str | None) -> Scale:
    with database.connect() as connection:
        return read_scales(connection, Month(month).start if month else None)[SCALE]


def preview(settings: Settings, values: dict[Any, str], first_month: str | None = None) -> Any:
    return preview_model_change(
        Database(settings),
        folder_store(settings),
        SCALE,
        values,
        first_month,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )


def decide(settings: Settings, values: dict[Any, str], first_month: str | None = None) -> Any:
    change = preview(settings, values, first_month)
    return decide_model_change(Database(settings), change, by="Ann", reason="learners guess")


# -- the origin --------------------------------------------------------------------------------------


def answered_by_guessers(settings: Settings) -> None:
    database, rng = Database(settings), np.random.default_rng(11)
    add_items(database, dict.fromkeys([*ITEMS, "few"]))
    for month, mean in ((FIRST, 0.0), (NEXT, SHIFT)):
        users = [f"{month}-{i}" for i in range(N)]
        add_attempts(database, answer_matrix(month, guessed_scores(mean, rng), [*ITEMS, "few"], users))


def with_a_window(settings: Settings) -> None:
    from_window(settings, "2pl")
    assert calibrate(settings, FIRST).state == "done"


@pytest.fixture
def guessers(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    made_once(postgres, "template_guessers", migrated_template, answered_by_guessers)
    return "template_guessers"


@pytest.fixture
def fresh(postgres: EmbeddedPostgres, guessers: str, tmp_path: Path) -> Iterator[Settings]:
    """Learners guess in two months; no scale has an origin."""
    with template_copy(postgres, guessers, tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def window(postgres: EmbeddedPostgres, guessers: str, tmp_path: Path) -> Iterator[Settings]:
    """A world whose first month is the origin of a 2PL and is published."""
    made_once(postgres, "template_window", guessers, with_a_window, **OF_MONTHS)
    with template_copy(postgres, "template_window", tmp_path, **OF_MONTHS) as settings:
        yield settings


def from_window(settings: Settings, model: Any) -> Any:
    return initialise(
        Database(settings),
        SCALE,
        first_month=FIRST,
        model=model,
        thresholds=LOWERED,
        window=OriginWindow(*Month(FIRST).bounds, ENGINE, folder_store(settings)),
    )


def test_the_model_at_init_is_stored_and_fits_the_origin_window(fresh: Settings) -> None:
    done = from_window(fresh, "3pl")
    database = Database(fresh)
    models = "SELECT s.model, m.model FROM calibration_scale s JOIN mirt_fit_meta m ON m.kind = 'origin'"
    assert (rows(database, models), scale_of(database, FIRST).model) == ([("3pl", "3pl")], "3pl")
    assert "few" in done.left_out, "a 3PL wants 500 responses"
    assert all(c > 0 for (c,) in rows(database, "SELECT c FROM anchor_set"))
    assert calibrate(fresh, NEXT).state == "done"


def test_rasch_origin_has_mean_0_and_sd_1_of_its_learners(fresh: Settings) -> None:
    """The slopes are equal and contain the SD of θ, which a Rasch model leaves free."""
    from_window(fresh, "rasch")
    database = Database(fresh)
    (latent,) = rows(database, "SELECT model_spec->'latent' FROM mirt_fit_meta WHERE kind = 'origin'")[0]
    slopes = {round(a, 12) for (a,) in rows(database, "SELECT a FROM anchor_set")}
    assert (latent["mean"], latent["sd"]) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0, abs=1e-9))
    assert len(slopes - {1.0}) == len(slopes) == 1


# -- another model on an origin that is a window -----------------------------------------------------


def test_changed_model_freezes_the_anchors_again_from_the_origin_window(window: Settings) -> None:
    database = Database(window)
    old_set = rows(database, "SELECT item_id, a, b, anchor_hash FROM anchor_set ORDER BY 1")
    published = rows(database, "SELECT * FROM item_parameter_publication ORDER BY publication_id")
    done = decide(window, {"model": "3pl"})
    assert (done.first_month, done.stale) == (NEXT, ()), "the first month after the last that is done"
    assert (done.anchors.version, done.anchors.kept) == (2, 14)
    left_out = done.anchors.left_out
    assert list(left_out) == ["few"], "too few answers"
    assert "provisional" in left_out["few"]
    assert rows(database, "SELECT item_id, a, b, anchor_hash FROM anchor_set WHERE version = 1 ORDER BY 1") == old_set
    assert rows(database, "SELECT * FROM item_parameter_publication ORDER BY publication_id") == published
    assert [(s.model, s.anchor_version) for s in (scale_of(database, m) for m in (FIRST, NEXT, None))] == [
        ("2pl", 1),
        ("3pl", 2),
        ("3pl", 2),
    ]
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 2)
    # The origin's learners were drawn with mean 0 and SD 1. 1500 of them give b with a standard error below 0.2 if c is
    # estimated, and their own mean and SD differ from 0 and 1 by about 0.03: four of both together.
    assert np.abs(anchors.b - B).max() < 0.8
    assert np.abs(anchors.b - B).mean() < 0.2
    since = rows(database, "SELECT DISTINCT effective_from FROM anchor_set WHERE version = 2")
    assert (since, violations(window)) == ([(Month(NEXT).start,)], [])
    # A month of the new model is then on the scale: its learners were drawn with mean 0.4 and SD 1, and slope and
    # intercept of 1500 learners and 14 anchors have standard errors of about 0.05.
    assert calibrate(window, NEXT).state == "done"
    (constants,) = rows(
        database,
        "SELECT model_spec->'linking_constants' FROM mirt_fit_meta WHERE kind = 'monthly' AND model = '3pl'",
    )[0]
    assert (constants["slope"], constants["intercept"]) == pytest.approx((1.0, SHIFT), abs=0.2)


def violations(settings: Settings) -> list[str]:
    with Database(settings).connect() as connection:
        look = InvariantContext(connection, folder_store(settings), Month(AFTER).start, ())
        (verdict,) = evaluate(look, [anchors_change_by_decision_alone])
        return [violation.observed for violation in verdict.violations]


def test_preview_lists_the_effects_of_a_change_and_writes_no_rows(window: Settings) -> None:
    database = Database(window)
    tables = ("scale_decision", "anchor_set", "mirt_fit_meta", "mirt_item_params", "calibration_scale")
    before = [rows(database, f"SELECT count(*), max(t::text) FROM {table} t") for table in tables]
    change = preview(window, {"model": "3pl", "prior_c": "Beta(5,17)"}, FIRST)
    assert [rows(database, f"SELECT count(*), max(t::text) FROM {table} t") for table in tables] == before
    assert change.lines[0] == (
        f"scale {SCALE}: model 2pl → 3pl, prior_c none → beta(5, 17) from {FIRST} on; months before stay as they are"
    )
    assert "the origin window, 2026-06-01 to 2026-07-01, is fitted again as a 3PL: 14 of 15 anchors" in change.lines[1]
    assert change.lines[2].startswith("  not an anchor any more: few: provisional")
    assert change.lines[3] == f"stale until calibrated again: {FIRST}; published values stay"


def test_anchors_changed_after_the_decision_violate_an_invariant(window: Settings) -> None:
    decide(window, {"model": "1pl"})
    assert violations(window) == []
    run_sql(
        Database(window),
        "UPDATE anchor_set SET parameters = parameters || jsonb_build_object('b', b + 1)"
        " WHERE version = 2 AND item_id = 'i03'",
    )
    assert violations(window) == ["version 2 has changed since it was frozen"]
    run_sql(Database(window), "DELETE FROM scale_decision")
    assert any(observed.startswith("version 2: ") for observed in violations(window)), "nobody decided on it"


def test_model_change_is_refused_if_the_scale_has_changed_since_the_preview(window: Settings) -> None:
    database = Database(window)
    change = preview(window, {"model": "1pl"})
    decide(window, {"prior_a": "lognormal(0, 0.5)"}, AFTER)
    with pytest.raises(PermanentFailure, match="have changed since the preview: nothing was decided"):
        decide_model_change(database, change, by="Ann", reason="once more")
    change = preview(window, {"prior_b": "normal(0, 2)"})
    assert change.first_month == NEXT
    assert calibrate(window, NEXT).state == "done"
    with pytest.raises(PermanentFailure, match="changed since"):
        decide_model_change(database, change, by="Ann", reason="once more")


def test_a_model_that_leaves_too_few_anchors_is_refused(window: Settings) -> None:
    change_rules(Database(window), SCALE, {"min_responses_3pl": 5000})
    with pytest.raises(PermanentFailure, match=r"passes the item gates: few: provisional"):
        preview(window, {"model": "3pl"})
    change_rules(Database(window), SCALE, {"min_responses_3pl": 500, "min_anchors": 15})
    with pytest.raises(PermanentFailure, match=r"leaves 14 of 15 anchors, .* 15 \(min_anchors\): few: provisional"):
        preview(window, {"model": "3pl"})
    assert rows(Database(window), "SELECT * FROM scale_decision") == []


def test_model_change_is_refused_before_a_month_in_which_the_anchors_already_change(window: Settings) -> None:
    decide(window, {"model": "1pl"}, AFTER)
    with pytest.raises(PermanentFailure, match=rf"the anchors of {SCALE} change from {AFTER} on: name that month"):
        preview(window, {"model": "3pl"}, NEXT)
    back = decide(window, {"model": "2pl"}, AFTER)
    assert (back.anchors.version, scale_of(Database(window), AFTER).anchor_version) == (3, 3)
    # The same answers, fitted by the same model: the values of the origin, to the bit up to the order of sums.
    values = "SELECT a, b FROM anchor_set WHERE version = {} AND item_id LIKE 'i%%' ORDER BY item_id"
    first, again = (rows(Database(window), values.format(version)) for version in (1, 3))
    assert np.allclose(first, again, rtol=1e-9)


# -- priors ------------------------------------------------------------------------------------------


def test_prior_applies_to_every_item_from_its_month_on(window: Settings) -> None:
    database = Database(window)
    done = decide(window, {"prior_a": "lognormal(0, 0.1)"})
    assert (done.first_month, done.anchors) == (NEXT, None)
    assert [scale_of(database, m).priors for m in (FIRST, NEXT)] == [None, Priors(a=LogNormal(0.0, 0.1))]
    calibrate(window, NEXT)
    spec, slopes = rows(
        database,
        """SELECT model_spec, (SELECT array_agg((params->'raw'->>'a')::float) FROM mirt_item_params i
                               WHERE i.fit_id = m.fit_id)
           FROM mirt_fit_meta m WHERE kind = 'monthly' ORDER BY window_start DESC LIMIT 1""",
    )[0]
    assert spec["priors"] == spec["scale_priors"] == {"a": {"family": "LogNormal", "mean": 0.0, "sd": 0.1}}
    # True slopes lie between 1 and 2; a prior of 10 % around 1 holds the estimates of 1500 learners below 1.5.
    assert max(slopes) < 1.5


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model": "4pl"}, "unknown model '4pl'; known models: rasch, 1pl, 2pl, 3pl"),
        (
            {"prior_c": "beta(5,17)"},
            "a prior on c needs guessing, which the 2PL of scale default in 2026-07 does not have",
        ),
        ({"model": "1pl", "prior_a": "lognormal(0,1)"}, "a prior on a needs free slopes, which the 1PL"),
        ({"model": "rasch", "prior_a": "lognormal(0,1)"}, "free slopes, which the Rasch"),
    ],
)
def test_prior_on_a_parameter_missing_in_the_model_is_refused(
    window: Settings, values: dict[str, str], reason: str
) -> None:
    with pytest.raises(PermanentFailure, match=reason):
        preview(window, values)


def test_prior_has_to_be_removed_with_the_model_that_has_its_parameter(window: Settings) -> None:
    database = Database(window)
    decide(window, {"model": "3pl", "prior_c": "beta(5,17)"}, NEXT)
    with pytest.raises(PermanentFailure, match="prior_c=none, in the same command"):
        preview(window, {"model": "2pl"}, AFTER)
    decide(window, {"model": "2pl", "prior_c": "none"}, AFTER)
    assert [scale_of(database, m).priors for m in (NEXT, AFTER)] == [Priors(c=Beta(5.0, 17.0)), None]


def test_prior_is_refused_if_the_model_of_a_later_month_lacks_its_parameter(window: Settings) -> None:
    decide(window, {"model": "rasch"}, AFTER)
    with pytest.raises(PermanentFailure, match=f"Rasch of scale default in {AFTER} does not have"):
        preview(window, {"prior_a": "lognormal(0,1)"}, NEXT)


def test_priors_are_refused_for_engine_mirt_and_on_difficulty_if_assigned_by_level(window: Settings) -> None:
    database = Database(window)
    change_rules(database, SCALE, {"assignment": "by_level"})
    with pytest.raises(PermanentFailure, match="assigned by level"):
        preview(window, {"prior_b": "normal(0,2)"})
    assert preview(window, {"prior_a": "lognormal(0,1)"}).values
    run_sql(database, "UPDATE calibration_scale SET engine = 'mirt'")
    with pytest.raises(PermanentFailure, match="published from mirt, which does not support priors of a scale"):
        preview(window, {"prior_a": "lognormal(0,1)"})


# -- anchors of the bank -----------------------------------------------------------------------------

VALUES = {"a": 1.2, "b": 0.5, "c": 0.0, "a_se": 0.1, "b_se": 0.08, "cov_ab": -0.001}


def bank_scale(database: Database, c: float, model: Any) -> None:
    add_items(database, {f"a{j}": VALUES | {"c": c, "b": j / 5} for j in range(6)})
    initialise(database, SCALE, first_month=FIRST, model=model)


def test_a_3pl_is_not_linked_to_anchors_of_the_bank_without_guessing(settings: Settings) -> None:
    database = Database(settings)
    bank_scale(database, 0.0, "2pl")
    ways_out = r"6 of the 6 anchors .* c = 0 .*irt scale init --scale NEW --model 3pl.*irt scale accept guessing"
    with pytest.raises(PermanentFailure, match=ways_out):
        preview(settings, {"model": "3pl"})
    done = decide(settings, {"model": "rasch"})
    assert (done.anchors, done.bank_anchors, scale_of(database, FIRST).anchor_version) == (None, True, 1)
    assert "the anchors are the bank's and keep their values" in done.lines


def test_origin_with_a_3pl_is_refused_if_the_banks_anchors_have_no_guessing(settings: Settings) -> None:
    with pytest.raises(PermanentFailure, match="c = 0 in the bank"):
        bank_scale(Database(settings), 0.0, "3pl")
    assert rows(Database(settings), "SELECT * FROM calibration_scale") == []


def test_anchors_of_the_bank_with_guessing_keep_a_3pl(settings: Settings) -> None:
    bank_scale(Database(settings), 0.2, "2pl")
    assert decide(settings, {"model": "3pl"}).after.model == "3pl"
    with pytest.raises(
        PermanentFailure, match=r"have c > 0 in the bank \(a0, a1, a2, a3, a4 and 1 more\).* --model 2pl"
    ):
        preview(settings, {"model": "2pl"})


def test_origin_with_a_2pl_warns_if_the_banks_anchors_have_guessing(settings: Settings, irt: IrtOf) -> None:
    add_items(Database(settings), {"a0": VALUES | {"c": 0.2}, "a1": VALUES})
    output = irt(settings)("scale", "init").out
    assert "1 of them have c > 0, but a 2pl has no guessing: `irt scale set model=3pl`" in output


def test_scored_anchors_of_the_bank_need_no_guessing(settings: Settings) -> None:
    """A 3PL is linked to binary anchors with c > 0, and to essays."""
    database = Database(settings)
    w = {"w0": 0, "w1": 0.3, "w2": 0.1, "w3": 0}
    add_items(database, {"essay": VALUES | w | {"max_score": 3, "model": "grm"}})
    bank_scale(database, 0.2, "3pl+grm")
    done = decide(settings, {"model": "3pl+gpcm"})
    assert (done.before.model, done.after.model, done.bank_anchors) == ("3pl+grm", "3pl+gpcm", True)
    assert scale_of(database, FIRST).model == "3pl+gpcm"
    assert decide(settings, {"model": "3pl+grm"}).after.model == scale_of(database, FIRST).model == "3pl+grm"
    with pytest.raises(PermanentFailure, match="a graded response model month cannot be linked to them"):
        preview(settings, {"model": "grm"})


def test_a_scale_without_an_origin_has_no_model_to_change(settings: Settings) -> None:
    add_items(Database(settings), {"a0": VALUES})
    for act in (
        lambda: preview(settings, {"model": "3pl"}),
        lambda: accept_guessing(Database(settings), SCALE, FIRST, by="Ann", reason="so be it"),
    ):
        with pytest.raises(PermanentFailure, match="has no origin yet: `irt scale init --scale default`"):
            act()


# -- months under way --------------------------------------------------------------------------------


def test_model_change_during_running_months_holds_the_fits_of_the_former_model(
    world: Settings,
) -> None:
    """Both months are fitted and linked as 2PL when the model changes; the later month is pending in the ledger."""
    database, store = Database(world), folder_store(world)
    for month in (FIRST, NEXT):
        fit_and_link(database, store, month, ENGINE)
    waiting = publish_month(database, store, NEXT, {FIRST}, "run")[SCALE]
    assert {month: step.state for month, step in waiting.items()} == {NEXT: "pending"}
    done = decide(world, {"model": "1pl"})
    assert (done.first_month, done.stale) == (FIRST, (FIRST, NEXT))
    steps = publish_month(database, store, FIRST, (), "run")[SCALE]
    wrong = "the fit is a 2PL and the scale's model is 1pl since 2026-06: materialise item_calibration"
    found = {month: (step.state, step.why.startswith(wrong)) for month, step in steps.items()}
    assert found == dict.fromkeys((FIRST, NEXT), ("held", True))
    assert rows(database, "SELECT count(*) FROM item_parameter_publication WHERE rule = 'first'") == [(0,)]
    with pytest.raises(UnlinkedMonthError, match=wrong):
        link_month(database, FIRST, "run again")
    assert [calibrate(world, month).state for month in (FIRST, NEXT)] == ["done", "done"]
    models = rows(
        database,
        """SELECT DISTINCT m.model FROM item_parameter_publication p JOIN mirt_fit_meta m USING (fit_id)
           WHERE p.rule = 'first'""",
    )
    assert models == [("1pl",)]


def test_night_uses_the_model_of_its_day(world: Settings) -> None:
    """The night's 30 days reach into the previous month, which has a different model."""
    database = Database(world)
    decide(world, {"model": "1pl"}, NEXT)
    for day in ("2026-06-30", "2026-07-01"):
        calibrate_night(database, day, f"run of {day}", lambda _: ENGINE)
    assert rows(database, "SELECT model FROM mirt_fit_meta WHERE kind = 'nightly' ORDER BY window_end") == [
        ("2pl",),
        ("1pl",),
    ]


# -- accepted guessing, and the command line ---------------------------------------------------------


def test_guessing_is_accepted_from_a_month_on(world: Settings, irt: IrtOf) -> None:
    database, typed = Database(world), irt(world)
    accept = ("scale", "accept", "guessing", "--by", "Ann", "--reason", "short tests", "--from", NEXT)
    unconfirmed = typed(*accept)
    assert (unconfirmed.code, "confirmation needed" in unconfirmed.err) == (2, True)
    done = typed(*accept, "--yes")
    assert done.out.strip() == f"scale {SCALE}: accepted that learners guess, for months from {NEXT} on"
    with database.connect() as connection:
        accepted = ["guessing" in accepted_subjects(connection, SCALE, Month(m).start) for m in (FIRST, NEXT, AFTER)]
        assert not accepted_subjects(connection, "other", Month(NEXT).start)
    assert accepted == [False, True, True]
    assert scale_of(database, NEXT).model == "2pl"
    assert typed("scale", "accept", "guessing", "--yes", "--by", "Ann", "--reason", "all of them").code == 0
    with database.connect() as connection:
        assert accepted_subjects(connection, SCALE, Month(FIRST).start) == {"guessing"}


def test_command_prints_the_effects_before_the_prompt_and_stores_name_and_reason(world: Settings, irt: IrtOf) -> None:
    database, typed = Database(world), irt(world)
    signed = ("--by", "Ann", "--reason", "equal slopes")
    unconfirmed = typed("scale", "set", "model=1pl", "prior_b=normal(0, 2)", *signed)
    assert (unconfirmed.code, "with --yes" in unconfirmed.err) == (2, True)
    assert not missing_sentences(
        unconfirmed.out,
        f"scale {SCALE}: model 2pl → 1pl, prior_b none → normal(0, 2) from {FIRST} on",
        "no month becomes stale; published values stay",
    )
    assert rows(database, "SELECT * FROM scale_decision") == []
    assert typed("scale", "set", "model=1pl", "prior_b=normal(0, 2)", *signed, "--yes").code == 0
    start = Month(FIRST).start
    assert rows(
        database, "SELECT subject, value, effective_from, decided_by, reason FROM scale_decision ORDER BY 1"
    ) == [
        ("model", "1pl", start, "Ann", "equal slopes"),
        ("prior_b", "normal(0, 2)", start, "Ann", "equal slopes"),
    ]
    assert scale_of(database, FIRST).priors == Priors(b=Normal(0.0, 2.0))
    assert [line.partition(" ")[2] for line in typed("scale", "decisions").out.splitlines()] == [
        f"model 1pl from {FIRST} on: Ann: equal slopes",
        f"prior_b normal(0, 2) from {FIRST} on: Ann: equal slopes",
    ]
    assert [one["subject"] for one in typed("scale", "decisions", "--json").json] == ["model", "prior_b"]
    assert typed("scale", "decisions", "--scale", "other").out.startswith("scale other: nothing has been decided")
    assert "these values already hold" in typed("scale", "set", "model=1pl", *signed, "--yes").out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("min_responses=110", "--from", NEXT), "a rule such as min_responses holds for all months: leave it out"),
        (("min_responses=110", "model=1pl"), "set min_responses and model in commands of their own"),
        (("model",), "takes NAME=VALUE, not 'model'"),
        (("model=1pl", "model=2pl"), "model is set twice: 1pl and 2pl"),
        (("modell=1pl",), "no such rule: modell"),
        (("model=1pl", "--from", "June"), "a decision on a scale holds from a month on"),
        (("prior_b=beta(5,17)",), "on b is not one of normal(mean, sd), none"),
    ],
)
def test_invalid_settings_of_a_scale_are_refused_by_name(
    world: Settings, irt: IrtOf, words: tuple[str, ...], reason: str
) -> None:
    refused = irt(world)("scale", "set", *words, "--by", "Ann", "--reason", "to see", "--yes")
    assert (refused.code, reason in " ".join(refused.err.split())) == (2, True), refused.err
    assert rows(Database(world), "SELECT * FROM scale_decision") == []


def test_scale_init_stores_the_named_model_and_refuses_unknown_models(settings: Settings, irt: IrtOf) -> None:
    add_items(Database(settings), {f"a{j}": VALUES | {"b": j / 5} for j in range(6)})
    assert irt(settings)("scale", "init", "--model", "rasch").code == 0
    assert rows(Database(settings), "SELECT model FROM calibration_scale") == [("rasch",)]
    assert irt(settings)("scale", "init", "--model", "4pl").code == 2
