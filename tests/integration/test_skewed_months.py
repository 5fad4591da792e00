"""Months of learners whose ability is not normal: what is taken for θ, what stays green, which rules are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from irt_assets.calibration.placing import link_to_scale
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.decisions.recalibration import recalibrate
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_judged import State
from irt_assets.ledger import fits
from irt_assets.psychometrics.estimation.latent_shape import HISTOGRAM_GAIN
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import SCALE, add_items, folder_store, rows
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import OF_MONTHS
from tests.integration.answers_of_a_shape import (
    FIRST,
    GATE,
    ITEMS,
    LEARNERS,
    NEW,
    NEXT,
    OLD,
    RULES,
    VALUES,
    add_answers,
    skewed,
    staged_shape,
    truth,
)
from tests.integration.graph import Graph

pytestmark = pytest.mark.ci


def from_window(settings: Settings) -> Any:
    return initialise(
        Database(settings),
        SCALE,
        first_month=FIRST,
        thresholds=RULES,
        window=OriginWindow(*Month(FIRST).bounds, EmEngine(1), folder_store(settings)),
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


Skewed = tuple[Graph, dict[str, bool]]


@pytest.fixture(scope="module")
def skewed_month(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Skewed]:
    """An origin window of normal learners, and a month of skewed ones that went through the real job."""
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


def test_a_skewed_month_is_fitted_with_a_histogram_and_green(skewed_month: Skewed) -> None:
    graph, passed = skewed_month
    shape = staged_shape(graph.database, NEXT)
    assert (shape["latent"], shape["guessing"]) == ("histogram", False)
    assert shape["histogram_gain"] > HISTOGRAM_GAIN
    assert re.match(r"a normal θ is rejected under the 2PL \(χ² = .*θ is taken as a histogram$", shape["why"])
    assert passed[GATE]
    assert graph.state(NEXT).state is State.GREEN, graph.state(NEXT).why


def test_its_linked_fit_has_the_histogram_on_the_scale(skewed_month: Skewed) -> None:
    """Its learners were drawn with mean 0.5 and SD 1.2 of the origin's: 2000 of each and 26 anchors give slope and
    intercept standard errors of about 0.04, and the sample's own mean and SD differ from these by 0.03."""
    graph, _ = skewed_month
    with graph.database.connect() as connection:
        scale, staged = read_scales(connection)[SCALE], fits.latest_staged(connection, NEXT, SCALE, "em")
        raw = staged.decoded()
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


def test_drift_information_and_report_of_such_a_month_are_made(skewed_month: Skewed) -> None:
    graph, _ = skewed_month
    assert graph.run(NEXT, DRIFT_JOB).success
    assert graph.run(NEXT, DRIFT_REPORT_JOB).success
    levels = rows(graph.database, "SELECT item_id, severity FROM item_drift ORDER BY 1")
    assert [item for item, _ in levels] == ITEMS[:OLD]
    # No item has changed. Of 26 some differ by chance, none by so much that it matters.
    assert "high" not in {level for _, level in levels}
    assert rows(graph.database, "SELECT count(*) > 0 FROM test_information") == [(True,)]
    assert rows(graph.database, "SELECT format FROM report_file ORDER BY 1") == [("html",), ("pdf",)]


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


# -- the rule ----------------------------------------------------------------------------------------


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
    add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    initialise(Database(settings), SCALE, first_month=FIRST, thresholds=given)
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.fit.latent == kept


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
    settings: Settings, irt: IrtOf, words: tuple[str, ...], why: str
) -> None:
    add_items(Database(settings), {f"a{j}": VALUES for j in range(6)})
    typed = irt(settings)
    at_first = typed("scale", "init", *(word for pair in words for word in ("--set", pair)))
    assert typed("scale", "init").code == 0
    for refused in (at_first, typed("scale", "set", *words, "--by", "Ann", "--reason", "to see", "--yes")):
        assert refused.code == 2
        assert why in " ".join(refused.err.split())
    with Database(settings).connect() as connection:
        assert read_scales(connection)[SCALE].rules.changed() == {"latent": "auto", "new_misfit": "hold"}
