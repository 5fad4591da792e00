"""Months of learners who guess, or whose ability is skewed.

Guessing: reports, held months, publications of a 3PL, and common errors of the anchors. Skewed learners: the
histogram that replaces a normal θ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from irt_assets.calibration.scale_linking import link_to_scale
from irt_assets.cli.scale import app as cli_scale
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.model_change import accept_guessing, decide_model_change, preview_model_change
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.decisions.recalibration import recalibrate
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.gates import gates
from irt_assets.gates.month_classification import State
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.values_with_errors import linked_window
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.scales.scale import read_scales
from irt_psychometrics import Calibration
from irt_psychometrics.items import Priors
from irt_psychometrics.linking import link_to_anchors
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings, get_settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, answer_matrix, calibrate, folder_store, rows
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks

FIRST, NEXT = MONTHS
GATE = "guessing_is_in_the_model"
LEARNERS, OLD, NEW = 2000, 26, 4
ITEMS = [f"i{j:02d}" for j in range(OLD)] + [f"new{j}" for j in range(NEW)]
RULES = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}
VALUES = {"a": 1.2, "b": 0.5, "c": 0.0, "a_se": 0.1, "b_se": 0.08, "cov_ab": -0.001}


def truth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(rng.normal(0.3, 0.3, OLD + NEW)), rng.normal(0.4, 1.0, OLD + NEW)


def skewed(learners: int, rng: np.random.Generator) -> np.ndarray:
    """χ² with 4 degrees of freedom, of mean 0 and SD 1."""
    return (rng.chisquare(4, learners) - 4) / np.sqrt(8)


def add_answers(
    database: Database,
    month: str,
    theta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    items: Sequence[str],
    rng: np.random.Generator,
    guessing: float = 0.0,
) -> None:
    p = guessing + (1 - guessing) * expit(a[: len(items)] * (theta[:, None] - b[: len(items)]))
    scores = (rng.random(p.shape) < p).astype(float)
    add_attempts(database, answer_matrix(month, scores, items, [f"{month}-{i}" for i in range(theta.size)]))


def staged_shape(database: Database, month: str) -> Any:
    with database.connect() as connection:
        staged = fits.latest_staged(connection, month, SCALE, "em")
    return staged.spec.as_json()["shape"]


def published_guessing(database: Database) -> list[Any]:
    """Items that a month has published, with c."""
    return rows(database, "SELECT item_id, c FROM item_parameter_publication WHERE rule = 'first' ORDER BY 1")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "instance").mkdir()  # commands make their own in tmp_path / "dagster"
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as made:
        yield made


def begin_with_guessers(settings: Settings) -> str:
    """Learners guess in two months, the second with new items, and the first is the origin of a 2PL.

    Returns the output of `irt scale init`.
    """
    database, rng = Database(settings), np.random.default_rng(5)
    a, b = truth(rng)
    add_items(database, dict.fromkeys(ITEMS))
    add_answers(database, FIRST, rng.normal(0.0, 1.0, LEARNERS), a, b, ITEMS[:OLD], rng, guessing=0.2)
    add_answers(database, NEXT, rng.normal(0.3, 1.0, LEARNERS), a, b, ITEMS, rng, guessing=0.2)
    return init_by_hand(settings)


def init_by_hand(settings: Settings) -> str:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IRT_HOME", str(settings.irt_home))
        environment.setenv("IRT_FIRST_MONTH", FIRST)
        environment.setenv("DATABASE_URL", settings.database_url.get_secret_value())
        get_settings.cache_clear()
        given = [word for name, value in RULES.items() for word in ("--set", f"{name}={value}")]
        typed = CliRunner().invoke(cli_scale, ["init", "--origin", FIRST, *given])
    get_settings.cache_clear()
    assert typed.exit_code == 0, typed.output
    return " ".join(typed.output.split())


@pytest.fixture
def init_output(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    return made_once(postgres, "template_guessed", migrated_template, begin_with_guessers, **OF_MONTHS)


@pytest.fixture
def guessers(postgres: EmbeddedPostgres, init_output: str, tmp_path: Path) -> Iterator[Settings]:
    with template_copy(postgres, "template_guessed", tmp_path, **OF_MONTHS) as settings:
        yield settings


def test_scale_init_reports_guessing_in_the_origin_window_and_the_commands(
    init_output: str, guessers: Settings
) -> None:
    assert not missing_sentences(
        init_output,
        "a normal θ is rejected under the 2PL (χ² = ",
        "learners guess: a 3PL raises 2 log L by ",
        f"`irt scale set model=3pl --scale {SCALE}` freezes the anchors again",
        f"`irt scale accept guessing --scale {SCALE}`",
    )
    assert rows(Database(guessers), "SELECT rules->>'latent' FROM calibration_scale") == [("auto",)]


@pytest.mark.ci
def test_month_with_guessing_under_a_2pl_is_held_until_guessing_is_accepted(
    guessers: Settings, instance: dg.DagsterInstance
) -> None:
    graph = Graph(guessers, instance)
    result = graph.run(NEXT)
    gate = checks(result)[GATE]
    shape = staged_shape(graph.database, NEXT)
    reason = f"learners guess: a 3PL raises 2 log L by {shape['guessing_gain']:.0f}, both with histograms"
    assert shape["guessing_gain"] > 20
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert reason in (gate.description or "")
    assert "irt scale accept guessing" in str(gate.metadata["how to fix it"].value)
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert [name for name in failed if name in {gate.name for gate in gates.SET_GATES}] == [GATE]
    found = graph.state(NEXT)
    assert (found.state, reason in found.why, published_guessing(graph.database)) == (State.RED, True, [])
    assert rows(graph.database, "SELECT state FROM publication_step WHERE month = %s", (NEXT,)) == [("held",)]
    made = {e.asset_key.to_user_string(): e for e in result.get_asset_materialization_events() if e.asset_key}
    shown = made["item_calibration"].step_materialization_data.materialization.metadata
    assert reason in str(shown[f"distribution of θ ({SCALE}, em)"].value)
    assert "| 3PL | histogram |" in str(shown[f"models compared ({SCALE}, em)"].value)

    accept_guessing(graph.database, SCALE, NEXT, by="Ann", reason="short tests")
    decided = graph.state(NEXT)
    assert (decided.state, decided.why) == (State.STALE, "decided, to be made again: guessing was decided on since")
    again = graph.run(NEXT)
    assert (checks(again)[GATE].description or "").startswith(f"{NEXT}: guessing is accepted; a normal θ is rejected")
    assert graph.state(NEXT).state is State.GREEN, graph.state(NEXT).why
    assert [item for item, _ in published_guessing(graph.database)] == ITEMS[OLD:]


def test_month_with_guessing_under_a_3pl_publishes_c(guessers: Settings) -> None:
    database = Database(guessers)
    change = preview_model_change(
        database,
        folder_store(guessers),
        SCALE,
        {"model": "3pl"},
        NEXT,
        calibrations_begin=FIRST,
        build=lambda _: EmEngine(1),
    )
    decide_model_change(database, change, by="Ann", reason="multiple choice")
    with database.connect() as connection:
        scale = read_scales(connection, Month(NEXT).start)[SCALE]
    assert scale.model == "3pl"
    step = calibrate(guessers, NEXT)
    assert step.state == "done", step.why
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, scale.anchor_version)
        staged = fits.latest_staged(connection, NEXT, SCALE, "em")
        window = linked_window(connection, scale, NEXT)
    assert anchors is not None
    assert staged is not None
    assert window is not None
    fit = staged.decode()
    assert fit is not None
    known = Priors.from_dict(fit.priors).known_guessing
    assert known is not None, "the c of anchors are in force, and the month knows them"
    assert dict(zip(known.items, known.c, strict=True)) == dict(zip(anchors.item_ids, anchors.c.tolist(), strict=True))
    of_c = """SELECT item_id, params->'cov_logit_c' FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id)
              WHERE kind = 'origin' AND model = '3pl'"""
    stored = dict(rows(database, of_c))
    assert anchors.further_cov[:, 0].tolist() == [stored[item] for item in anchors.item_ids]
    with_c_held = link_to_anchors(fit, replace(anchors, further_cov=None), limits=scale.rules.anchor_limits)
    assert window.linking.intercept_se < 0.9 * with_c_held.intercept_se, "errors of a, b and c cancel in the curves"
    shape = staged_shape(database, NEXT)
    assert not shape["guessing"], "the model has it"
    of_origin = "SELECT model_spec->'shape'->>'latent' FROM mirt_fit_meta WHERE kind = 'origin' AND model = '3pl'"
    assert rows(database, of_origin) == [("histogram",)], "of the origin that was fitted again"
    assert shape["latent"] == "histogram"
    done = dict(published_guessing(database))
    assert done
    assert set(done) <= set(ITEMS[OLD:])
    # From 2000 answers, c of an item has a standard error of about 0.05; its prior is around 0.2.
    assert all(0.02 < c < 0.5 for c in done.values())


def origin_fit(database: Database) -> Calibration:
    """The fit of the origin window, recomputed from its stored answers."""
    from irt_assets.calibration.request import build_fit_request, calibrate as fit
    from irt_assets.responses.proposed_window import proposed_window

    with database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        window = proposed_window(connection, *Month(FIRST).bounds, {SCALE: scale})
        request = build_fit_request(connection, window.table, scale, Month(FIRST).start, None)
    return fit(EmEngine(1), request, window.data_hash).calibration


def test_anchors_of_an_origin_window_keep_the_covariance_of_their_fit(guessers: Settings) -> None:
    database = Database(guessers)
    made = origin_fit(database)
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 1)
    joint = anchors.joint_cov
    of_anchors = made.select([made.item_ids.index(item) for item in anchors.item_ids])
    # The same fit of the same answers; the numbers went through JSON, which keeps every bit.
    assert np.abs(joint - of_anchors.items.cov[0]).max() < 1e-12
    assert np.allclose(np.sqrt(np.diag(joint)).reshape(-1, 2), np.c_[of_anchors.a_se, of_anchors.b_se], rtol=1e-9)
    off_diagonal = joint - np.kron(np.eye(len(anchors.item_ids)), np.ones((2, 2))) * joint
    assert np.abs(off_diagonal).max() > 0

    dropped = anchors.item_ids[3]
    change_anchors(database, "drop_anchor", SCALE, [dropped], NEXT, by="Ann", reason="its text was changed")
    with database.connect() as connection:
        remaining = read_anchors(connection, SCALE, 2)
    keep = np.repeat([item != dropped for item in anchors.item_ids], 2)
    assert np.array_equal(remaining.joint_cov, joint[np.ix_(keep, keep)])


def test_bank_anchors_have_no_joint_covariance(settings: Settings) -> None:
    database = Database(settings)
    add_items(database, {f"a{j}": VALUES for j in range(6)})
    initialise(database, SCALE, first_month=FIRST)
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 1)
    assert anchors.cov.shape == (6, 2, 2)


# -- skewed learners ---------------------------------------------------------------------------------
# Months of learners whose ability is not normal: the distribution of θ, green months, and refused rules.


def from_window(settings: Settings) -> Any:
    return initialise(
        Database(settings),
        SCALE,
        first_month=FIRST,
        thresholds=RULES,
        window=OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings)),
    )


Skewed = tuple[Graph, dict[str, bool]]


@pytest.fixture(scope="module")
def skewed_month(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Skewed]:
    """An origin window of normal learners, and a month of skewed learners, made by the real job."""
    passed = made_once(postgres, "template_skewed", migrated_template, run_skewed, **OF_MONTHS)
    with (
        template_copy(postgres, "template_skewed", tmp_path_factory.mktemp("skewed"), **OF_MONTHS) as settings,
        dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance,
    ):
        yield Graph(settings, instance), passed


def run_skewed(settings: Settings) -> dict[str, bool]:
    """Whether each check of the month passed."""
    database, rng = Database(settings), np.random.default_rng(8)
    a, b = truth(rng)
    add_items(database, dict.fromkeys(ITEMS))
    add_answers(database, FIRST, rng.normal(0.0, 1.0, LEARNERS), a, b, ITEMS[:OLD], rng)
    add_answers(database, NEXT, 1.2 * skewed(LEARNERS, rng) + 0.5, a, b, ITEMS, rng)
    done = from_window(settings)
    assert not done.guessing
    assert "a normal θ is not rejected" in (done.shape or "")
    (settings.irt_home / "dagster").mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance:
        result = Graph(settings, instance).run(NEXT)
        assert result.success
        return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


@pytest.mark.ci
def test_a_skewed_month_is_fitted_with_a_histogram_and_green(skewed_month: Skewed) -> None:
    graph, passed = skewed_month
    shape = staged_shape(graph.database, NEXT)
    assert (shape["latent"], shape["guessing"]) == ("histogram", False)
    assert shape["histogram_gain"] > 20
    assert re.match(r"a normal θ is rejected under the 2PL \(χ² = .*θ is taken as a histogram$", shape["why"])
    assert passed[GATE]
    assert graph.state(NEXT).state is State.GREEN, graph.state(NEXT).why


@pytest.mark.ci
def test_linked_fit_of_a_skewed_month_has_the_histogram_on_the_scale(skewed_month: Skewed) -> None:
    """Its learners were drawn with mean 0.5 and SD 1.2 of the origin's: 2000 of each and 26 anchors give slope and
    intercept standard errors of about 0.04, and the sample's own mean and SD differ from these by 0.03."""
    graph, _ = skewed_month
    with graph.database.connect() as connection:
        scale, staged = read_scales(connection)[SCALE], fits.latest_staged(connection, NEXT, SCALE, "em")
        raw = staged.decode()
        linked = link_to_scale(connection, scale, raw, NEXT).linked
    (of_raw,), (population,) = raw.populations, linked.populations
    assert (of_raw.mean, of_raw.sd) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0, abs=1e-9)), "unit and origin"
    nodes, weights = np.array(population.nodes), np.array(population.weights)
    assert nodes.size == weights.size > 0
    mean = float(nodes @ weights)
    centred = nodes - mean
    sd = float(np.sqrt(centred**2 @ weights))
    assert (mean, sd) == (pytest.approx(0.5, abs=0.2), pytest.approx(1.2, abs=0.2))
    # χ²₄ has skewness 1.41; a penalised estimate flattens its tail.
    assert 0.5 < float(centred**3 @ weights) / sd**3 < 2.5


@pytest.mark.ci
def test_skewed_month_has_drift_information_and_report(skewed_month: Skewed) -> None:
    graph, _ = skewed_month
    assert graph.run(NEXT, DRIFT_JOB).success
    assert graph.run(NEXT, DRIFT_REPORT_JOB).success
    levels = rows(graph.database, "SELECT item_id, severity FROM item_drift ORDER BY 1")
    assert [item for item, _ in levels] == ITEMS[:OLD]
    # No item has changed. Some of the 26 items differ by chance, but not enough to matter.
    assert "high" not in {level for _, level in levels}
    assert rows(graph.database, "SELECT count(*) > 0 FROM test_information") == [(True,)]
    assert rows(graph.database, "SELECT format FROM report_file ORDER BY 1") == [("docx",), ("html",), ("pdf",)]


@pytest.mark.ci
def test_recalibration_of_a_skewed_month_uses_a_histogram(skewed_month: Skewed) -> None:
    """A recalibration of a single month without changed items has the same fit and the same linking."""
    graph, _ = skewed_month
    recalibrate(graph.database, folder_store(graph.settings), SCALE, NEXT, NEXT, threads=1)
    both = rows(
        graph.database,
        """SELECT p.a - q.a, p.b - q.b FROM item_parameter_proposal p JOIN item_parameter_publication q USING (item_id)
           WHERE p.month = %s AND q.rule = 'first'""",
        (f"{NEXT}:{NEXT}",),
    )
    assert len(both) == NEW
    # Both fits stop when parameters change by less than 1e-5, and read the learners in different orders. A normal θ
    # would move parameters by 0.01 or more.
    assert np.abs(np.array(both)).max() < 1e-3


# -- the rule ----------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "auto"),
        ({"latent": "histogram"}, "histogram"),
        ({"latent": "normal"}, "normal"),
        ({"assignment": "by_level"}, "normal"),
    ],
)
def test_new_scale_has_latent_auto_unless_assigned_by_level(
    settings: Settings, given: dict[str, Any], kept: str
) -> None:
    add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    initialise(Database(settings), SCALE, first_month=FIRST, thresholds=given)
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.fit.latent == kept


@pytest.mark.ci
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("latent=histogram", "assignment=by_level"),
            "a scale by level is fitted with a normal distribution at each level; leave latent at normal or auto",
        ),
        (("latent=beta",), "rule latent must be one of normal, histogram, auto, got 'beta'"),
    ],
)
def test_invalid_rule_is_refused_with_the_reason(
    settings: Settings, irt: IrtOf, words: tuple[str, ...], reason: str
) -> None:
    add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    typed = irt(settings)
    at_first = typed("scale", "init", *(word for pair in words for word in ("--set", pair)))
    assert typed("scale", "init").code == 0
    for refused in (at_first, typed("scale", "set", *words, "--by", "Ann", "--reason", "to see", "--yes")):
        assert refused.code == 2
        assert reason in " ".join(refused.err.split())
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.non_defaults() == {"latent": "auto", "new_misfit": "hold"}
