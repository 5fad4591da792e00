"""A month's misfit is compared with the origin window of its scale: reports, held months, and ways to accept them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from scipy.special import expit

from irt_assets.common.partitions import Month
from irt_assets.decisions.model_change import decide_model_change, preview_model_change
from irt_assets.decisions.origin import Origin, initialise, read_origin
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.engines.em import EmEngine
from irt_assets.gates import gates, misfit, model_gates
from irt_assets.gates.advisory_checks import misfit_is_as_before
from irt_assets.gates.evidence import Evidence
from irt_assets.gates.misfit import BY_LEVEL, reference_window
from irt_assets.gates.model_gates import LIMITS, MAX_RATIO
from irt_assets.ledger import encoding
from irt_assets.ledger.fit_spec import ComparedMisfit
from irt_assets.ledger.month_state import find_reference
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scales.scale_decisions import Acceptable
from irt_psychometrics.estimation import Population
from jobs.retention.erasure import erase, holdings
from jobs.retention.unused import prune_files, prune_rows
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import SCALE, add_attempts, answer_matrix, evidence_of, folder_store, rows, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS

FIRST, RANDOM, RANDOM_TOO, SOUND, TWO, TWO_TOO = (f"2026-{m:02d}" for m in range(6, 12))
"""Sound answers in the first and the fourth; 15 % of the learners answer at random in the second and third; a second
ability in half of the items in the last two."""
LEARNERS, AT_RANDOM = 1000, 0.15
ITEMS = [f"i{j:02d}" for j in range(20)]
NO_REFERENCE = ComparedMisfit(reference=None).as_json()
RULES = {
    "latent": "normal",
    "min_responses": 200,
    "min_responses_3pl": 500,
    "min_anchors": 3,
    "min_anchor_share": 0.0,
    "max_item_variation": 1.0,
    "max_linking_error": 100.0,
}
"""Rules without the gate `anchors_agree`, which would hold months because random answers change slopes."""
ACCEPTED, GROWN = "misfit_was_accepted", "misfit_has_not_grown"
ORIGIN_IN_WORDS = "the origin window 2026-06-01 to 2026-07-01"
SIGNED = ("--by", "Ann", "--reason", "short tests")


# -- databases ---------------------------------------------------------------------------------------


def made_scores(theta: np.ndarray, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`theta`: shape (learners, items)."""
    return (rng.random(theta.shape) < expit(a * (theta - b))).astype(float)


def add_answers(database: Database, month: str, scores: np.ndarray, items: Sequence[str]) -> None:
    add_attempts(database, answer_matrix(month, scores, items, [f"{month}-{i}" for i in range(len(scores))]))


def answer_all_months(settings: Settings) -> None:
    rng, n, J = np.random.default_rng(3), LEARNERS, len(ITEMS)
    # 32 are drawn and 20 used: the numbers of these tests belong to this sequence
    a, b = np.exp(rng.normal(0.3, 0.2, 32))[:J], rng.normal(0.0, 0.8, 32)[:J]
    database = Database(settings)
    rooms.add_items(database, dict.fromkeys(ITEMS))
    for month in (FIRST, RANDOM, RANDOM_TOO, SOUND, TWO, TWO_TOO):
        theta = np.repeat(rng.normal(0.0, 1.0, (n, 1)), J, axis=1)
        if month in (TWO, TWO_TOO):
            theta[:, J // 2 :] = 0.6 * theta[:, J // 2 :] + 0.8 * rng.normal(0.0, 1.0, (n, 1))
        scores = made_scores(theta, a, b, rng)
        if month in (RANDOM, RANDOM_TOO):
            share = round(AT_RANDOM * n)
            scores[:share] = rng.random((share, J)) < 0.25
        add_answers(database, month, scores, ITEMS)


def begin_with_the_first(settings: Settings) -> None:
    done = from_window(settings, FIRST)
    assert (done.misfit_holds, done.anchors) == (False, len(ITEMS))


@pytest.fixture
def answered(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    """The template with the answers of all months; no scale has an origin."""
    made_once(postgres, "template_misfit", migrated_template, answer_all_months)
    return "template_misfit"


@pytest.fixture
def origin_template(postgres: EmbeddedPostgres, answered: str) -> str:
    """Template database: `answered` with the first month as the origin."""
    made_once(postgres, "template_misfit_origin", answered, begin_with_the_first, **OF_MONTHS)
    return "template_misfit_origin"


@pytest.fixture
def log(postgres: EmbeddedPostgres, answered: str, tmp_path: Path) -> Iterator[Settings]:
    with template_copy(postgres, answered, tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def world(postgres: EmbeddedPostgres, origin_template: str, tmp_path: Path) -> Iterator[Settings]:
    with template_copy(postgres, origin_template, tmp_path, **OF_MONTHS) as settings:
        yield settings


def from_window(settings: Settings, month: str, model: Any = "2pl", **rules: Any) -> Origin:
    return initialise(
        Database(settings),
        SCALE,
        first_month=FIRST,
        model=model,
        thresholds=RULES | rules,
        window=OriginWindow(*Month(month).bounds, EmEngine(1), folder_store(settings)),
    )


@dataclass(frozen=True)
class Calibrated:
    """A calibrated month: its step, the misfit of its fit, and its failed gates."""

    state: str
    misfit: dict[str, Any]
    held_by: dict[str, str]
    evidence: Evidence


def calibrate(settings: Settings, month: str) -> Calibrated:
    step = rooms.calibrate(settings, month)
    evidence = read_evidence(settings, month)
    return Calibrated(
        step.state, evidence.staged.spec.as_json()["misfit"], gates.failures(gates.judge_gates(evidence)), evidence
    )


def change_model(settings: Settings, model: str, month: str) -> None:
    """Change the model from the month on."""
    database, store = Database(settings), folder_store(settings)
    change = preview_model_change(
        database, store, SCALE, {"model": model}, month, calibrations_begin=FIRST, build=lambda _: EmEngine(1)
    )
    decide_model_change(database, change, by="Ann", reason="multiple choice")


def read_evidence(settings: Settings, month: str) -> Evidence:
    with Database(settings).connect() as connection:
        scale = read_scales(connection, Month(month).start)[SCALE]
        return evidence_of(connection, folder_store(settings), month, scale)


def reference_of(settings: Settings, month: str) -> Any:
    with Database(settings).connect() as connection:
        return find_reference(connection, read_scales(connection, Month(month).start)[SCALE], month)


def let_pass(settings: Settings) -> tuple[Acceptable, ...]:
    """Subjects that the origin window let pass."""
    origin = rooms.call(Database(settings), read_origin, SCALE)
    assert origin is not None
    return origin.let_pass


def typed_init(irt: IrtOf, settings: Settings, *words: str) -> Any:
    given = [word for name, value in RULES.items() for word in ("--set", f"{name}={value}")]
    return irt(settings)("scale", "init", *given, *words)


# -- the origin --------------------------------------------------------------------------------------


def test_scale_init_prints_the_misfit_of_the_origin_window(log: Settings, irt: IrtOf) -> None:
    typed = typed_init(irt, log, "--origin", FIRST)
    assert typed.code == 0, typed.err
    output = " ".join(typed.out.split())
    assert not missing_sentences(
        output,
        "the largest eigenvalue of the residual correlations is ",
        " times the value expected for one ability",
        "RMSEA₂ of whole forms is 0.0",
        "items that share more than the ability (Q3): none",
        f"of {LEARNERS:,} learners have an unlikely response pattern (lz* below the 2 % critical value)",
        "the two halves of the items that disagree most place a learner ",
    )
    assert "irt scale accept misfit" not in output
    assert let_pass(log) == ()
    month = calibrate(log, SOUND)
    assert (month.state, month.held_by, month.misfit["reference"]) == ("done", {}, ORIGIN_IN_WORDS)
    assert month.misfit["ratio"] < MAX_RATIO
    reason = model_gates.misfit_has_not_grown(month.evidence).why
    assert reason.startswith(f"no more misfit than {ORIGIN_IN_WORDS}: dependence between items ")


def test_months_are_held_until_the_misfit_of_their_origin_is_accepted(log: Settings, irt: IrtOf) -> None:
    output = " ".join(typed_init(irt, log, "--origin", TWO).out.split())
    assert f"`irt scale accept misfit --scale {SCALE}`" in output
    assert let_pass(log) == ("misfit",)
    month = calibrate(log, TWO_TOO)
    assert (month.state, list(month.held_by)) == ("held", [ACCEPTED])
    assert month.misfit["ratio"] > MAX_RATIO
    assert not missing_sentences(
        month.held_by[ACCEPTED],
        f"is {month.misfit['ratio']:.3f} times the value expected for one ability, limit 1.15",
        "the origin window 2026-10-01 to 2026-11-01",
    )
    for text in (output, month.held_by[ACCEPTED]):
        assert are_of_one_ability(text), text
    (gate,) = [gate for gate in gates.SET_GATES if gate.name == ACCEPTED]
    assert "irt scale accept misfit" in gate.fix
    assert model_gates.misfit_has_not_grown(month.evidence).passed, "it was so in the origin"

    typed = irt(log)
    accepted = typed("scale", "accept", "misfit", "--yes", *SIGNED)
    assert accepted.code == 0, accepted.err
    assert let_pass(log) == ("misfit",), "a later decision does not change what the window let pass"
    again = calibrate(log, TWO_TOO)
    assert (again.state, again.held_by) == ("done", {})
    assert model_gates.misfit_was_accepted(again.evidence).why.startswith("misfit is accepted; ")
    assert f"misfit accepted from {FIRST} on: Ann: short tests" in typed("scale", "decisions").out


def test_misfit_of_the_origin_needs_no_decision_if_the_scale_only_warns(log: Settings) -> None:
    assert not from_window(log, TWO, new_misfit="warn").misfit_holds
    assert let_pass(log) == ()


# -- misfit that is new ------------------------------------------------------------------------------


def test_month_with_random_answers_is_held_with_the_reason(world: Settings) -> None:
    month = calibrate(world, RANDOM)
    assert (month.state, set(month.held_by), month.misfit["items"]) == ("held", {GROWN}, len(ITEMS))
    reason = month.held_by[GROWN]
    assert re.match(rf"misfit that {ORIGIN_IN_WORDS} did not have: .*share answering at random \+0\.", reason), reason
    found = month.misfit["growth"]["random"]
    assert found["low"] > LIMITS["random"]
    # With few answers per learner, some random answers look plausible: 20 items detect most of them.
    assert 0.07 < found["value"] < AT_RANDOM + 0.06


def test_month_with_new_misfit_passes_with_a_failed_caution_if_the_scale_only_warns(world: Settings) -> None:
    change_rules(Database(world), SCALE, {"new_misfit": "warn"})
    month = calibrate(world, RANDOM)
    assert (month.state, month.held_by) == ("done", {})
    grown = f"misfit that {ORIGIN_IN_WORDS} did not have: "
    warned_of = f"the scale does not hold a month for it (new_misfit=warn); {grown}"
    assert model_gates.misfit_has_not_grown(month.evidence).why.startswith(warned_of)
    caution = misfit_is_as_before(month.evidence)
    assert (caution.passed, caution.why.startswith(grown)) == (False, True)
    change_rules(Database(world), SCALE, {"new_misfit": "hold"})
    held = read_evidence(world, RANDOM)
    assert misfit_is_as_before(held).passed, "the gate says it"
    assert GROWN in gates.failures(gates.judge_gates(held)), "the rule makes no month stale, and the gate judges by it"


def test_accepted_month_is_the_reference_of_later_months(world: Settings, irt: IrtOf) -> None:
    assert calibrate(world, RANDOM).state == "held"
    typed = irt(world)
    refused = typed("scale", "accept", "misfit", "--yes", "--from", SOUND, *SIGNED)
    unfitted = f"{SOUND} of scale {SCALE} has not been fitted"
    assert (refused.code, unfitted in " ".join(refused.err.split())) == (2, True)
    assert not missing_sentences(
        typed("scale", "accept", "misfit", "--yes", "--from", RANDOM, *SIGNED).out,
        f"{RANDOM} is accepted as it is, and later months are compared with it",
        f"to be calibrated again: {RANDOM}",
    )
    assert f"misfit reference from {RANDOM} on: Ann: short tests" in typed("scale", "decisions").out
    assert reference_of(world, RANDOM_TOO).month == RANDOM, "accepted, though it is held until it is calibrated again"

    again = calibrate(world, RANDOM)
    assert (again.state, again.held_by, again.misfit) == ("done", {}, NO_REFERENCE)
    assert model_gates.misfit_has_not_grown(again.evidence).why == f"{RANDOM} is the reference of later months"
    later = calibrate(world, RANDOM_TOO)
    assert (later.state, later.held_by, later.misfit["reference"]) == ("done", {}, RANDOM)
    assert reference_of(world, FIRST).name == ORIGIN_IN_WORDS, "months before stay as they are"
    assert typed("scale", "accept", "misfit", "--yes", *SIGNED).code == 0
    assert reference_of(world, RANDOM_TOO).name == ORIGIN_IN_WORDS, "the newest decision holds"


# -- anchors of the bank -----------------------------------------------------------------------------


@pytest.fixture
def values_of_anchors(postgres: EmbeddedPostgres, origin_template: str, tmp_path: Path) -> dict[str, dict[str, float]]:
    names = ("a", "b", "a_se", "b_se", "cov_ab")
    with template_copy(postgres, origin_template, tmp_path / "with values", **OF_MONTHS) as settings:
        found = rows(Database(settings), f"SELECT item_id, {', '.join(names)} FROM anchor_set")
    return {item: dict(zip(names, values, strict=True)) for item, *values in found}


def test_first_month_that_is_not_held_is_the_reference_if_the_bank_has_the_anchors(
    log: Settings, values_of_anchors: dict[str, dict[str, float]]
) -> None:
    for item, values in values_of_anchors.items():
        meta = json.dumps({"tags": ["anchor"], "irt": values})
        run_sql(Database(log), "UPDATE question SET meta = %s WHERE item_id = %s", (meta, item))
    # A second ability from the first month on, as its answers are replaced by another month's here.
    run_sql(Database(log), "DELETE FROM response_log WHERE completed_at < '2026-07-01'")
    move_answers(Database(log), TWO, FIRST)
    initialise(Database(log), SCALE, first_month=FIRST, thresholds=RULES)
    first = calibrate(log, FIRST)
    assert (first.misfit, GROWN in first.held_by) == (NO_REFERENCE, False)
    assert f"of {FIRST}, the reference of later months, is " in first.held_by[ACCEPTED]
    own = calibrate(log, SOUND)
    assert (own.state, own.held_by, own.misfit) == ("done", {}, NO_REFERENCE), "a held month is not a reference"
    later = calibrate(log, TWO_TOO)
    assert later.misfit["reference"] == SOUND
    assert "dependence between items" in later.held_by[GROWN], "its second ability is new"
    assert are_of_one_ability(later.held_by[GROWN])
    assert reference_of(log, RANDOM) is None, "before the first one that is not held"


def are_of_one_ability(sentence: str) -> bool:
    """Whether the sentence names three to five items, all of one half of the items."""
    (named,) = re.findall(r": ([^:;]*) answer alike beyond ability", sentence)
    items = re.findall(r"i\d\d", named)
    return 3 <= len(items) <= 5 and len({int(item[1:]) // 10 for item in items}) == 1


def move_answers(database: Database, month: str, other: str) -> None:
    """Move the answers of a month to the same days of another month."""
    start, end = Month(month).bounds
    shift = start - Month(other).start
    run_sql(
        database,
        "UPDATE response_log SET completed_at = completed_at - %s WHERE completed_at >= %s AND completed_at < %s",
        (shift, start, end),
    )


# -- lost answers, and earlier fits ------------------------------------------------------------------


def test_month_is_held_and_names_the_missing_file_if_its_reference_has_lost_its_answers(world: Settings) -> None:
    lost = reference_of(world, SOUND).uri
    folder_store(world).delete(lost)
    month = calibrate(world, SOUND)
    assert (month.state, list(month.held_by)) == ("held", [GROWN])
    reason = month.held_by[GROWN]
    assert reason.startswith(f"not compared with {ORIGIN_IN_WORDS}: ")
    assert not missing_sentences(reason, f"{lost} is missing from the object store", "from a backup")
    assert "materialise scored_responses of the origin" not in reason, "nothing materialises an origin"
    change_rules(Database(world), SCALE, {"new_misfit": "warn"})
    evidence = read_evidence(world, SOUND)
    assert gates.failures(gates.judge_gates(evidence)) == {}
    assert not misfit_is_as_before(evidence).passed


def test_fit_from_before_misfit_was_compared_passes_after_the_upgrade(world: Settings) -> None:
    assert calibrate(world, SOUND).state == "done"
    then = ComparedMisfit(reference="earlier months", why="misfit was not judged when it was fitted")
    stored = json.dumps({"misfit": then.as_json()})
    run_sql(Database(world), "UPDATE fit_staging SET spec = spec || %s", (stored,))
    evidence = read_evidence(world, SOUND)
    assert gates.failures(gates.judge_gates(evidence)) == {}
    assert model_gates.misfit_has_not_grown(evidence).why == (
        "not compared with earlier months: misfit was not judged when it was fitted"
    )
    assert misfit_is_as_before(replace(evidence, scale=warned(evidence.scale))).passed


def warned(scale: Any) -> Any:
    return replace(scale, rules=Rules.from_settings(scale.rules.non_defaults() | {"new_misfit": "warn"}))


def test_first_month_is_the_reference_if_the_origins_fit_is_not_stored(world: Settings) -> None:
    run_sql(Database(world), "UPDATE mirt_fit_meta SET calibration = NULL")
    assert calibrate(world, SOUND).misfit == NO_REFERENCE
    later = calibrate(world, TWO)
    assert (later.misfit["reference"], GROWN in later.held_by) == (SOUND, True)


def test_failed_comparison_of_misfit_holds_the_month_and_keeps_its_fit(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(misfit.Window, "compare_with", broken)
    month = calibrate(world, SOUND)
    assert (month.state, list(month.held_by)) == ("held", [GROWN])
    reason = f"not compared with {ORIGIN_IN_WORDS}: the comparison failed: the arithmetic broke down on its data"
    assert month.held_by[GROWN].startswith(reason)
    assert month.evidence.calibration is not None


# -- scales and months of other kinds ----------------------------------------------------------------


def test_months_of_a_scale_by_level_are_not_compared_and_state_the_reason(log: Settings) -> None:
    from_window(log, FIRST, assignment="by_level")
    month = calibrate(log, RANDOM)
    assert (month.misfit["why"], GROWN in month.held_by) == (BY_LEVEL, False)
    reason = model_gates.misfit_has_not_grown(month.evidence).why
    assert reason == f"not compared with {ORIGIN_IN_WORDS}: {BY_LEVEL}"


def test_month_is_not_compared_with_an_origin_fitted_by_level(world: Settings) -> None:
    """The scale became linear after its origin; the month is fitted nevertheless."""
    (content,) = rows(Database(world), "SELECT calibration FROM mirt_fit_meta WHERE kind = 'origin'")[0]
    levels = tuple(
        Population(name, LEARNERS // 2, mean, 1.0, 0.0, 0.0) for name, mean in (("low", -1.0), ("high", 1.0))
    )
    by_level = encoding.encode(replace(encoding.decode(content), populations=levels))
    run_sql(Database(world), "UPDATE mirt_fit_meta SET calibration = %s WHERE kind = 'origin'", (by_level,))
    month = calibrate(world, SOUND)
    assert (month.state, month.held_by) == ("done", {})
    assert "by level" in model_gates.misfit_has_not_grown(month.evidence).why


@pytest.mark.parametrize("model", ["rasch", "3pl"])
def test_months_of_every_model_are_compared(log: Settings, model: Any) -> None:
    """Slopes differ by a fifth, which a Rasch model does not have: neither in the origin nor in the month."""
    from_window(log, FIRST, model)
    month = calibrate(log, SOUND)
    assert (month.state, month.held_by) == ("done", {})
    assert all(month.misfit["growth"][name] for name in ("dependence", "ratio", "rmsea", "unlikely", "random"))
    random = calibrate(log, RANDOM)
    assert (random.evidence.scale.model, GROWN in random.held_by) == (model, True)


def test_months_after_a_model_change_are_compared_with_the_origins_fit_by_the_new_model(world: Settings) -> None:
    database = Database(world)
    change_model(world, "3pl", SOUND)
    of_model = dict(rows(database, "SELECT model, fit_id FROM mirt_fit_meta WHERE kind = 'origin'"))
    assert of_model.keys() == {"2pl", "3pl"}
    for month, model in ((RANDOM, "2pl"), (SOUND, "3pl")):
        found = calibrate(world, month).misfit
        assert (found["reference"], found["fit_id"]) == (ORIGIN_IN_WORDS, of_model[model])


# -- windows that cannot be an origin ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("month", "rules", "reason"),
    [
        (FIRST, (), r"\(few_answers_are_rejected\): 2\d\.\d% of .* were rapid guesses"),
        (TWO, ("--set", "second_dimension=hold"), r"\(one_dimension\): a second dimension: the largest eigenvalue"),
    ],
)
def test_window_that_would_be_held_as_a_month_is_refused_as_origin(
    log: Settings, irt: IrtOf, month: str, rules: tuple[str, ...], reason: str
) -> None:
    database = Database(log)
    if not rules:
        run_sql(
            database,
            """UPDATE response_log SET response_time_ms = CASE WHEN abs(hashtext(attempt_id)) %% 4 = 0 THEN 100
                 ELSE 20000 END""",
        )
    refused = typed_init(irt, log, "--origin", month, *rules)
    error = " ".join(refused.err.split())
    start, end = (f"{at:%Y-%m-%d}" for at in Month(month).bounds)
    reason = f"the window {start} to {end} cannot be the origin of scale {SCALE}.*{reason}"
    assert (refused.code, re.search(reason, error) is not None) == (2, True), error
    for table in ("calibration_scale", "anchor_set", "mirt_fit_meta", "item_parameter_publication"):
        assert rows(database, f"SELECT count(*) FROM {table}") == [(0,)], table


# -- retention ---------------------------------------------------------------------------------------


def test_months_are_compared_with_the_origin_after_the_erasure_of_a_learner(
    world: Settings, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    database, store, learner = Database(world), folder_store(world), f"{FIRST}-7"
    before = reference_of(world, SOUND)
    held = holdings(database, store, learner)
    erase(database, store, instance, held, by="Ann", reason="asked for", rejects=tmp_path / "rejected")
    after = reference_of(world, SOUND)
    assert after.uri == before.uri, "files name learners by key and stay as they are"
    assert reference_window(store, None, after, SCALE).responses.n_persons == LEARNERS
    month = calibrate(world, SOUND)
    assert (month.state, month.held_by) == ("done", {})
    assert all(month.misfit["growth"][name] for name in ("dependence", "ratio", "rmsea", "unlikely", "random"))


def test_reference_fits_of_misfit_are_never_pruned(world: Settings) -> None:
    """The fits include the origin by a model that the scale has had for some months only, and the file of its
    answers."""
    database, store = Database(world), folder_store(world)
    for model, month in (("3pl", RANDOM), ("2pl", SOUND)):
        change_model(world, model, month)
    before = {month: reference_of(world, month) for month in (FIRST, RANDOM, SOUND)}
    assert all(one is not None for one in before.values())
    later = datetime.now(UTC) + timedelta(days=3650)
    list(prune_rows(database, later, dry_run=False))
    prune_files(database, store, later, dry_run=False)
    for month, one in before.items():
        assert reference_of(world, month) == one
        assert reference_window(store, None, one, SCALE).responses.n_persons == LEARNERS
