"""Months of learners who guess: what is said and held, what a 3PL publishes, which errors their anchors share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from typer.testing import CliRunner

from irt_assets.cli.scale import app as cli_scale
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.model_change import accept_guessing, decide_model_change, preview_model_change
from irt_assets.decisions.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.gates import gates
from irt_assets.gates.month_judged import State
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import read_anchors
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.core.priors import Priors
from irt_assets.psychometrics.estimation.latent_shape import GUESSING_GAIN
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings, get_settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import SCALE, add_items, calibrate, folder_store, rows
from tests.helpers.sentences import unsaid
from tests.helpers.worlds import OF_MONTHS
from tests.integration.answers_of_a_shape import (
    FIRST,
    GATE,
    ITEMS,
    LEARNERS,
    NEXT,
    OLD,
    RULES,
    VALUES,
    add_answers,
    staged_shape,
    truth,
)
from tests.integration.graph import Graph, checks


def published(database: Database) -> list[Any]:
    """Items that a month has published, with c."""
    return rows(database, "SELECT item_id, c FROM item_parameter_publication WHERE rule = 'first' ORDER BY 1")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "instance").mkdir()  # commands make their own in tmp_path / "dagster"
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as made:
        yield made


def begin_with_guessers(settings: Settings) -> str:
    """Learners guess in two months, the second with new items, and the first is the origin of a 2PL. What
    `irt scale init` said."""
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
def said(postgres: EmbeddedPostgres, migrated_template: str) -> str:
    return made_once(postgres, "template_guessed", migrated_template, begin_with_guessers, **OF_MONTHS)


@pytest.fixture
def guessers(postgres: EmbeddedPostgres, said: str, tmp_path: Path) -> Iterator[Settings]:
    with template_copy(postgres, "template_guessed", tmp_path, **OF_MONTHS) as settings:
        yield settings


def test_who_declares_a_guessed_window_the_origin_is_told_and_how_to_decide(said: str, guessers: Settings) -> None:
    assert not unsaid(
        said,
        "a normal θ is rejected under the 2PL (χ² = ",
        "learners guess: a 3PL raises 2 log L by ",
        f"`irt scale set model=3pl --scale {SCALE}` freezes the anchors again",
        f"`irt scale accept guessing --scale {SCALE}`",
    )
    assert rows(Database(guessers), "SELECT rules->>'latent' FROM calibration_scale") == [("auto",)]


@pytest.mark.ci
def test_a_guessed_month_under_a_2pl_is_held_until_somebody_accepts_it(
    guessers: Settings, instance: dg.DagsterInstance
) -> None:
    graph = Graph(guessers, instance)
    result = graph.run(NEXT)
    gate = checks(result)[GATE]
    shape = staged_shape(graph.database, NEXT)
    said = f"learners guess: a 3PL raises 2 log L by {shape['guessing_gain']:.0f}, both with histograms"
    assert shape["guessing_gain"] > GUESSING_GAIN
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert said in (gate.description or "")
    assert "irt scale accept guessing" in str(gate.metadata["how to fix it"].value)
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert [name for name in failed if name in {gate.name for gate in gates.SET_GATES}] == [GATE]
    found = graph.state(NEXT)
    assert (found.state, said in found.why, published(graph.database)) == (State.RED, True, [])
    assert rows(graph.database, "SELECT state FROM publication_step WHERE month = %s", (NEXT,)) == [("held",)]
    made = {e.asset_key.to_user_string(): e for e in result.get_asset_materialization_events() if e.asset_key}
    shown = made["item_calibration"].step_materialization_data.materialization.metadata
    assert said in str(shown[f"distribution of θ ({SCALE}, em)"].value)
    assert "| 3PL | histogram |" in str(shown[f"models compared ({SCALE}, em)"].value)

    accept_guessing(graph.database, SCALE, NEXT, by="Ann", reason="short tests")
    decided = graph.state(NEXT)
    assert (decided.state, decided.why) == (State.STALE, "decided, to be made again: guessing was decided on since")
    again = graph.run(NEXT)
    assert (checks(again)[GATE].description or "").startswith(f"{NEXT}: guessing is accepted; a normal θ is rejected")
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
    with database.connect() as connection:
        scale = read_scales(connection, Month(NEXT).start)[SCALE]
    assert scale.model == "3pl"
    step = calibrate(guessers, NEXT)
    assert step.state == "done", step.why
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, scale.anchor_version)
        staged = fits.latest_staged(connection, NEXT, SCALE, "em")
    assert anchors is not None
    assert staged is not None
    fit = staged.decoded()
    assert fit is not None
    known = Priors.from_dict(fit.priors).known_guessing
    assert known is not None, "the c of anchors are in force, and the month knows them"
    assert dict(zip(known.items, known.c, strict=True)) == dict(zip(anchors.item_ids, anchors.c.tolist(), strict=True))
    shape = staged_shape(database, NEXT)
    assert not shape["guessing"], "the model has it"
    of_origin = "SELECT model_spec->'shape'->>'latent' FROM mirt_fit_meta WHERE kind = 'origin' AND model = '3pl'"
    assert rows(database, of_origin) == [("histogram",)], "of the origin that was fitted again"
    assert shape["latent"] == "histogram"
    done = dict(published(database))
    assert done
    assert set(done) <= set(ITEMS[OLD:])
    # c of one item from 2000 answers has a standard error of some 0.05 beside its prior around 0.2.
    assert all(0.02 < c < 0.5 for c in done.values())


def origin_fit(database: Database) -> Calibration:
    """The fit of the origin window, made again from its stored answers."""
    from irt_assets.calibration.request import build_fit_request
    from irt_assets.calibration.request import calibrate as fit
    from irt_assets.responses.proposed_window import proposed_window

    with database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        judged = proposed_window(connection, *Month(FIRST).bounds, {SCALE: scale})
        request = build_fit_request(connection, judged.table, scale, Month(FIRST).start, None)
    return fit(EmEngine(1), request, judged.data_hash).calibration


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
        left = read_anchors(connection, SCALE, 2)
    keep = np.repeat([item != dropped for item in anchors.item_ids], 2)
    assert np.array_equal(left.joint_cov, joint[np.ix_(keep, keep)])


def test_anchors_of_the_bank_have_no_covariance_between_them(settings: Settings) -> None:
    database = Database(settings)
    add_items(database, {f"a{j}": VALUES for j in range(6)})
    initialise(database, SCALE, first_month=FIRST)
    with database.connect() as connection:
        anchors = read_anchors(connection, SCALE, 1)
    assert anchors.cov.shape == (6, 2, 2)
