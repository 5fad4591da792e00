"""Months of learners who guess, or whose ability is not normal: what is taken for θ, what is held, what stays green."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from irt_assets.calibration import checks, fits, gates, model_gates
from irt_assets.calibration.anchor_versions import drop_anchors
from irt_assets.calibration.model_change import accept_guessing, decide_model_change, preview_model_change
from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.calibration.month_status import MonthState, State, month_states
from irt_assets.calibration.origin import OriginWindow, initialise, read_anchors
from irt_assets.calibration.placing import link_to_scale
from irt_assets.calibration.recalibration import recalibrate
from irt_assets.cli.scale import app as cli_scale
from irt_assets.definitions import build_defs
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.job_names import MONTHLY_JOB
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.estimation.latent_shape import GUESSING_GAIN, HISTOGRAM_GAIN
from irt_assets.psychometrics.linking.linking import covariance_ab
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import take_snapshot
from resources import tables, warehouse
from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.schema import ensure_month_partitions
from resources.settings import Settings, get_settings
from tests.helpers import rooms
from tests.helpers.rooms import SCALE, answer_matrix, evidence_of, folder_store, rows, run_sql
from tests.helpers.typed import Irt

FIRST, NEXT = rooms.MONTHS
GATE = "guessing_is_in_the_model"
LEARNERS, OLD, NEW = 2000, 26, 4
ITEMS = [f"i{j:02d}" for j in range(OLD)] + [f"new{j}" for j in range(NEW)]
RULES = {"min_responses": 200, "min_responses_3pl": 500, "min_anchor_responses": 200}


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
    attempts = answer_matrix(month, scores, items, [f"{month}-{i}" for i in range(theta.size)])
    with database.connect() as connection:
        ensure_month_partitions(connection, month, month)
        warehouse.append(connection, tables.response_log, pd.DataFrame(attempts))


def from_window(settings: Settings) -> Any:
    return initialise(
        Database(settings),
        SCALE,
        first_month=FIRST,
        thresholds=RULES,
        window=OriginWindow(*month_bounds(FIRST), EmEngine(1), folder_store(settings)),
    )


def calibrate(settings: Settings, month: str) -> Any:
    database, store = Database(settings), folder_store(settings)
    take_snapshot(database, store, month, "run")
    fit_month(database, store, month, EmEngine(1), "run")
    link_month(database, month, "run")
    return publish_month(database, store, month, (), "run")[SCALE][month]


class Graph:
    """The real graph over a database and a Dagster instance."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.database = settings, instance, Database(settings)

    def run(self, month: str, job: str = MONTHLY_JOB) -> dg.ExecuteInProcessResult:
        defs = build_defs(self.settings, resources={"database": self.database, "store": folder_store(self.settings)})
        return defs.resolve_job_def(job).execute_in_process(
            partition_key=month,
            instance=self.instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    def state(self, month: str) -> MonthState:
        (found,) = month_states(self.database, self.instance, [month])
        return found


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == name]
    return found


def staged_shape(database: Database, month: str) -> Any:
    with database.connect() as connection:
        staged = fits.latest_staged(connection, month, SCALE, "em")
    assert staged is not None
    return staged.spec["shape"]


def published(database: Database) -> list[Any]:
    """Items that a month has published, with c."""
    return rows(database, "SELECT item_id, c FROM item_parameter_publication WHERE rule = 'first' ORDER BY 1")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


@pytest.fixture(scope="module")
def template(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """Learners guess in two months, the second with new items, and the first is the origin of a 2PL, in the database
    `template_guessed`; the folder of its files, and what `irt scale init` said."""
    home, rng = tmp_path_factory.mktemp("guessed"), np.random.default_rng(5)
    a, b = truth(rng)
    with rooms.copied(postgres.start(), migrated_template.rpartition("/")[2], "template_guessed", home) as settings:
        database = Database(settings)
        rooms.add_items(database, dict.fromkeys(ITEMS))
        add_answers(database, FIRST, rng.normal(0.0, 1.0, LEARNERS), a, b, ITEMS[:OLD], rng, guessing=0.2)
        add_answers(database, NEXT, rng.normal(0.3, 1.0, LEARNERS), a, b, ITEMS, rng, guessing=0.2)
        yield home, init_by_hand(settings)


def init_by_hand(settings: Settings) -> str:
    assert settings.database_url is not None
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
def guessers(postgres: EmbeddedPostgres, template: tuple[Path, str]) -> Iterator[Settings]:
    with rooms.copied(postgres.start(), "template_guessed", "guessers_copy", template[0]) as settings:
        yield settings


# -- guessing ----------------------------------------------------------------------------------------


def test_who_declares_a_guessed_window_the_origin_is_told_and_how_to_decide(
    template: tuple[Path, str], guessers: Settings
) -> None:
    _, said = template
    assert "a normal θ is rejected under the 2PL (χ² = " in said
    assert "learners guess: a 3PL raises 2 log L by " in said
    assert f"`irt scale set model=3pl --scale {SCALE}` freezes the anchors again" in said
    assert f"`irt scale accept guessing --scale {SCALE}`" in said
    assert rows(Database(guessers), "SELECT latent FROM calibration_scale") == [("auto",)]


def test_a_guessed_month_under_a_2pl_is_held_until_somebody_accepts_it(
    guessers: Settings, instance: dg.DagsterInstance
) -> None:
    graph = Graph(guessers, instance)
    result = graph.run(NEXT)
    gate = check(result, GATE)
    shape = staged_shape(graph.database, NEXT)
    said = f"learners guess: a 3PL raises 2 log L by {shape['guessing_gain']:.0f}, both with histograms"
    assert shape["guessing_gain"] > GUESSING_GAIN
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert said in (gate.description or "")
    assert "irt scale accept guessing" in str(gate.metadata["how to fix it"].value)
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert [name for name in failed if name in {gate.name for gate in gates.SET_GATES}] == [GATE]
    found = graph.state(NEXT)
    assert found.state is State.RED
    assert said in found.why
    assert published(graph.database) == []
    assert rows(graph.database, "SELECT state FROM publication_step WHERE month = %s", (NEXT,)) == [("held",)]
    made = {e.asset_key.to_user_string(): e for e in result.get_asset_materialization_events() if e.asset_key}
    shown = made["item_calibration"].step_materialization_data.materialization.metadata
    assert said in str(shown[f"distribution of θ ({SCALE}, em)"].value)
    assert "| 3PL | histogram |" in str(shown[f"models compared ({SCALE}, em)"].value)

    accept_guessing(graph.database, SCALE, NEXT, by="Ann", reason="short tests")
    assert graph.state(NEXT).state is State.RED, "the gate was judged before"
    again = graph.run(NEXT)
    assert again.success
    assert (check(again, GATE).description or "").startswith(f"{NEXT}: guessing is accepted; a normal θ is rejected")
    assert graph.state(NEXT).state is State.GREEN, graph.state(NEXT).why
    assert [item for item, _ in published(graph.database)] == ITEMS[OLD:]


def test_a_guessed_month_of_a_3pl_publishes_c(guessers: Settings) -> None:
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
    step = calibrate(guessers, NEXT)
    assert step.state == "done", step.why
    shape = staged_shape(database, NEXT)
    assert not shape["guessing"], "the model has it"
    done = dict(published(database))
    assert done
    assert set(done) <= set(ITEMS[OLD:])
    # c of one item from 2000 answers has a standard error of some 0.05 beside its prior around 0.2.
    assert all(0.02 < c < 0.5 for c in done.values())


# -- a skewed month ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def skewed_month(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Graph, dg.ExecuteInProcessResult]]:
    """An origin window of normal learners, and a month of skewed ones that went through the real job."""
    home, rng = tmp_path_factory.mktemp("skewed"), np.random.default_rng(8)
    a, b = truth(rng)
    with (
        rooms.copied(postgres.start(), migrated_template.rpartition("/")[2], "rooms_skewed", home) as settings,
        dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance,
    ):
        database = Database(settings)
        rooms.add_items(database, dict.fromkeys(ITEMS))
        add_answers(database, FIRST, rng.normal(0.0, 1.0, LEARNERS), a, b, ITEMS[:OLD], rng)
        add_answers(database, NEXT, 1.2 * skewed(LEARNERS, rng) + 0.5, a, b, ITEMS, rng)
        done = from_window(settings)
        assert not done.guessing
        assert "nothing speaks against a normal θ" in (done.shape or "")
        graph = Graph(settings, instance)
        yield graph, graph.run(NEXT)


Skewed = tuple[Graph, dg.ExecuteInProcessResult]


def test_a_skewed_month_is_fitted_with_a_histogram_and_green(skewed_month: Skewed) -> None:
    graph, result = skewed_month
    assert result.success
    shape = staged_shape(graph.database, NEXT)
    assert (shape["latent"], shape["guessing"]) == ("histogram", False)
    assert shape["histogram_gain"] > HISTOGRAM_GAIN
    assert shape["why"].startswith("a normal θ is rejected under the 2PL (χ² = ")
    assert shape["why"].endswith("θ is taken as a histogram")
    assert check(result, GATE).passed
    assert graph.state(NEXT).state is State.GREEN, graph.state(NEXT).why


def test_its_linked_fit_has_the_histogram_on_the_scale(skewed_month: Skewed) -> None:
    """Its learners were drawn with mean 0.5 and SD 1.2 of the origin's: 2000 of each and 26 anchors give slope and
    intercept standard errors of about 0.04, and the sample's own mean and SD differ from these by 0.03."""
    graph, _ = skewed_month
    with graph.database.connect() as connection:
        scale, staged = read_scales(connection)[SCALE], fits.latest_staged(connection, NEXT, SCALE, "em")
        assert staged is not None
        raw = staged.decoded()
        assert raw is not None
        linked = link_to_scale(connection, scale, raw, NEXT, NEXT).linked
    assert linked is not None
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


def test_drift_information_and_report_of_such_a_month_are_made(skewed_month: Skewed) -> None:
    graph, _ = skewed_month
    assert graph.run(NEXT, DRIFT_JOB).success
    assert graph.run(NEXT, DRIFT_REPORT_JOB).success
    levels = rows(graph.database, "SELECT item_id, severity FROM item_drift ORDER BY 1")
    assert [item for item, _ in levels] == ITEMS[:OLD]
    # No item has changed. Of 26 some differ by chance, none by so much that it matters.
    assert "high" not in {level for _, level in levels}
    assert rows(graph.database, "SELECT count(*) > 0 FROM test_information") == [(True,)]
    assert rows(graph.database, "SELECT format FROM report_artifacts ORDER BY 1") == [("html",), ("pdf",)]


def test_recalibrated_it_is_fitted_with_a_histogram_again(skewed_month: Skewed) -> None:
    """One month without changed items is the same fit and the same linking."""
    graph, _ = skewed_month
    recalibrate(graph.database, folder_store(graph.settings), SCALE, NEXT, NEXT, threads=1)
    both = rows(
        graph.database,
        """SELECT p.a - q.a, p.b - q.b FROM item_parameter_proposal p JOIN item_parameter_publication q USING (item_id)
           WHERE p.month = %s AND q.rule = 'first'""",
        (f"{NEXT}:{NEXT}",),
    )
    assert len(both) == NEW
    # Both fits end where the parameters change by less than 1e-5, from other starting orders of learners; a normal θ
    # would move them by 0.01 and more.
    assert np.abs(np.array(both)).max() < 1e-3


# -- scales from before ------------------------------------------------------------------------------


def bank_scale(database: Database, **thresholds: Any) -> None:
    """Anchors of the bank, 600 skewed learners in the first month; the scale's rules are those of before `latent`."""
    rng = np.random.default_rng(2)
    a, b = truth(rng)
    values = {"c": 0.0, "a_se": 0.08, "b_se": 0.06, "cov_ab": 0.0}
    rooms.add_items(database, {item: values | {"a": a[j], "b": b[j]} for j, item in enumerate(ITEMS)})
    add_answers(database, FIRST, skewed(600, rng), a, b, ITEMS, rng)
    initialise(database, SCALE, first_month=FIRST, thresholds=RULES | thresholds)


def test_a_month_judged_before_the_gate_existed_stays_green(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph(settings, instance)
    bank_scale(graph.database)
    run_sql(graph.database, "UPDATE calibration_scale SET latent = DEFAULT")
    with graph.database.connect() as connection:
        assert read_scales(connection)[SCALE].rules.latent == "normal"
    with monkeypatch.context() as before:
        before.setattr(checks, "SET_GATES", tuple(gate for gate in gates.SET_GATES if gate.name != GATE))
        result = graph.run(FIRST)
    assert result.success
    assert GATE not in {e.check_name for e in result.get_asset_check_evaluations()}
    shape = staged_shape(graph.database, FIRST)
    assert (shape["latent"], shape["why"]) == ("normal", "θ is taken as normal, as asked")
    run_sql(graph.database, "UPDATE fit_staging SET spec = spec - 'shape'")
    run_sql(graph.database, "UPDATE mirt_fit_meta SET model_spec = model_spec - 'shape'")
    found = graph.state(FIRST)
    assert found.state is State.GREEN, found.why
    with graph.database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        evidence = evidence_of(connection, folder_store(settings), FIRST, scale)
    verdict = model_gates.guessing_is_in_the_model(evidence)
    assert (verdict.passed, verdict.why) == (
        True,
        "not judged then: guessing is judged where em fits one population",
    )


# -- the rule ----------------------------------------------------------------------------------------


def thresholds_of(database: Database) -> dict[str, Any]:
    (found,) = rows(database, "SELECT thresholds FROM calibration_scale")[0]
    return found


VALUES = {"a": 1.2, "b": 0.5, "c": 0.0, "a_se": 0.1, "b_se": 0.08, "cov_ab": -0.001}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, "auto"),
        ({"latent": "histogram"}, "histogram"),
        ({"latent": "normal"}, "normal"),
        ({"assignment": "by_level"}, "normal"),
    ],
)
def test_a_scale_made_now_has_its_distribution_judged_unless_it_is_by_level(
    settings: Settings, given: dict[str, Any], kept: str
) -> None:
    """Kept where a release that does not know the rule does not look."""
    rooms.add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    initialise(Database(settings), SCALE, first_month=FIRST, thresholds=given)
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.latent == kept
    assert "latent" not in thresholds_of(Database(settings))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("latent=histogram", "assignment=by_level"),
            "a scale by level is fitted with a normal distribution at each level; leave latent at normal or auto",
        ),
        (("latent=beta",), "rule latent must be one of normal, histogram, auto, got 'beta'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_a_sentence(
    settings: Settings, irt: Callable[[Settings], Irt], words: tuple[str, ...], why: str
) -> None:
    rooms.add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    typed = irt(settings)
    refused = typed("scale", "init", *(word for pair in words for word in ("--set", pair)))
    assert refused.code == 2
    assert why in " ".join(refused.err.split())
    assert typed("scale", "init").code == 0
    refused = typed("scale", "set", *words, "--by", "Ann", "--reason", "to see", "--yes")
    assert refused.code == 2
    assert why in " ".join(refused.err.split())
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.changed() == {"latent": "auto", "new_misfit": "hold"}


def test_a_changed_rule_makes_months_stale(guessers: Settings, irt: Callable[[Settings], Irt]) -> None:
    take_snapshot(Database(guessers), folder_store(guessers), NEXT, "run")
    fit_month(Database(guessers), folder_store(guessers), NEXT, EmEngine(1), "run")
    said = irt(guessers)("scale", "set", "latent=normal", "--by", "Ann", "--reason", "as before", "--yes")
    assert "latent auto → normal" in said.out
    assert NEXT in said.out


def test_a_month_of_few_learners_is_fitted_with_the_histogram_that_is_asked_for_and_says_they_are_few(
    settings: Settings,
) -> None:
    database, rng = Database(settings), np.random.default_rng(4)
    a, b = truth(rng)
    rooms.add_items(database, {item: VALUES | {"a": a[j], "b": b[j]} for j, item in enumerate(ITEMS)})
    add_answers(database, FIRST, rng.normal(0.0, 1.0, 50), a, b, ITEMS, rng)
    few = {"min_responses": 40, "min_provisional_responses": 40, "min_anchor_responses": 40, "latent": "histogram"}
    initialise(database, SCALE, first_month=FIRST, thresholds=few)
    take_snapshot(database, folder_store(settings), FIRST, "run")
    (done,) = fit_month(database, folder_store(settings), FIRST, EmEngine(1), "run")
    assert done.calibration is not None
    shape = staged_shape(database, FIRST)
    assert shape["why"] == "θ is taken as a histogram, as asked; 50 learners do not determine its shape"


# -- what errors of anchors have in common -----------------------------------------------------------


def origin_fit(database: Database) -> Calibration:
    """The fit of the origin window, made again from its stored answers."""
    from irt_assets.calibration.request import build_fit_request
    from irt_assets.calibration.request import calibrate as fit
    from irt_assets.responses.window import judged_window

    with database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        judged = judged_window(connection, *month_bounds(FIRST), {SCALE: scale})
        request = build_fit_request(connection, judged.table, scale, month_bounds(FIRST)[0], None)
    return fit(EmEngine(1), request, judged.data_hash).calibration


def test_anchors_of_an_origin_window_keep_the_covariance_of_their_fit(guessers: Settings) -> None:
    database = Database(guessers)
    made = origin_fit(database)
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 1)
    assert anchors is not None
    assert anchors.cov is not None
    of_anchors = made.select([made.item_ids.index(item) for item in anchors.item_ids])
    # The same fit of the same answers; the numbers went through JSON, which keeps every bit.
    assert np.abs(anchors.cov - covariance_ab(of_anchors)).max() < 1e-12
    assert np.allclose(np.sqrt(np.diag(anchors.cov)).reshape(-1, 2), np.c_[anchors.a_se, anchors.b_se], rtol=1e-9)
    off_diagonal = anchors.cov - np.kron(np.eye(len(anchors.item_ids)), np.ones((2, 2))) * anchors.cov
    assert np.abs(off_diagonal).max() > 0

    dropped = anchors.item_ids[3]
    drop_anchors(database, SCALE, [dropped], NEXT, by="Ann", reason="its text was changed")
    with database.connect() as connection:
        left = read_anchors(connection, SCALE, 2)
    assert left is not None
    assert left.cov is not None
    keep = np.repeat([item != dropped for item in anchors.item_ids], 2)
    assert np.array_equal(left.cov, anchors.cov[np.ix_(keep, keep)])


def test_anchors_of_the_bank_have_no_covariance_between_them(settings: Settings) -> None:
    database = Database(settings)
    rooms.add_items(database, {f"a{j}": VALUES for j in range(6)})
    initialise(database, SCALE, first_month=FIRST)
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 1)
    assert anchors is not None
    assert anchors.cov is None
