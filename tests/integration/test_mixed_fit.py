"""A month whose items are of several models, from the staged fit to the published set that the next month is compared
with: each item's model is known from what is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from irt_assets.calibration.month import publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.fits import latest_staged
from irt_assets.ledger.fitted_items import items_of_fit
from irt_assets.ledger.publications import in_force
from irt_assets.ledger.values_with_errors import against_published, frozen_anchors, in_force_with_errors, linked_window
from irt_assets.psychometrics.core.item_models import ITEM_MODELS
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.drift.items import judge
from irt_assets.responses.scales import read_scales
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers.rooms import MADE_UP_SPEC, SCALE, add_items, link_made_up, made_up_calibration, rows
from tests.helpers.trial_item_model import MODEL

JAN, FEB = "2026-01", "2026-02"
ANCHORS = {"K1": (1.0, -1.0), "K2": (1.2, 0.0), "K3": (0.9, 1.0)}
OTHERS = {f"{name}-{k}": (0.9 + k / 10, k / 4 - 0.5) for name in ("2pl", "3pl", MODEL.name) for k in range(5)}
MODELS = {**dict.fromkeys(ANCHORS, "2pl"), **{item: item.split("-")[0] for item in OTHERS}}
THETA = np.linspace(-3, 3, 9)


def mixed(moved: str = "") -> Calibration:
    """The anchors as they are frozen, and other items of three models; `moved` is harder by .8."""
    plain = made_up_calibration({**ANCHORS, **OTHERS}, n=3000)
    models = tuple(MODELS[item] for item in plain.item_ids)
    third = np.array([model != "2pl" for model in models])
    cov = np.zeros((plain.n_items, 3, 3))
    cov[:, :2, :2] = plain.cov
    cov[third, 2, 2] = 0.04
    cov[third, 1, 2] = cov[third, 2, 1] = 0.005
    return replace(
        plain, models=models, cov=cov, c=np.where([model == "3pl" for model in models], 0.2, 0.0),
        further=np.where([model == MODEL.name for model in models], logit(0.8), np.nan)[:, None],
        d=plain.d - 0.8 * (np.array(plain.item_ids) == moved) * plain.a,
    )  # fmt: skip


def test_each_items_model_goes_from_a_fit_to_the_ledger_and_into_drift(
    database: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ITEM_MODELS, MODEL.name, MODEL)
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    add_items(database, dict.fromkeys(OTHERS))
    initialise(database, SCALE, first_month=JAN, thresholds={"min_anchors": 3})
    fit = mixed()
    fit_id = link_made_up(database, store, JAN, fit)
    assert rows(database, "SELECT model FROM mirt_fit_meta WHERE fit_id = %s", (fit_id,)) == [("2pl+3pl+2plu",)]
    with database.connect() as connection:
        staged = latest_staged(connection, JAN, SCALE, "em")
        read = items_of_fit(connection, fit_id)
    assert staged is not None
    assert staged.decoded().models == fit.models
    assert staged.says_the_same(staged.snapshot_hash, fit, MADE_UP_SPEC)
    assert not staged.says_the_same(staged.snapshot_hash, replace(fit, models=("2pl",) * fit.n_items), MADE_UP_SPEC)
    items = ItemParameters.of_rows(fit.item_ids, (read[item].values for item in fit.item_ids))
    np.testing.assert_allclose(items.curve(THETA), fit.items.curve(THETA), rtol=1e-9)
    stored = dict(rows(database, "SELECT item_id, params->>'model' FROM mirt_item_params"))
    assert stored == MODELS

    assert publish_month(database, store, JAN, set(), None)[SCALE][JAN].state == "done"
    link_made_up(database, store, FEB, mixed(moved="3pl-2"))
    with database.connect() as connection:
        scale = read_scales(connection, Month(FEB).start)[SCALE]
        assert in_force(connection, SCALE, Month(FEB).start).items.keys() == MODELS.keys()
        anchors, window = frozen_anchors(connection, scale), linked_window(connection, scale, FEB)
        now = in_force_with_errors(connection, scale, Month(FEB).start, anchors)
    comparison = against_published(window, anchors, now, Month(FEB).start)
    published = dict(zip(comparison.item_ids, comparison.models_published, strict=True))
    assert published == {item: MODELS[item] for item in comparison.item_ids}
    assert set(OTHERS) <= published.keys()
    assert not comparison.across_models.any()
    assert comparison.by_curves.tolist() == [MODELS[item] != "2pl" for item in comparison.item_ids]
    assert judge(comparison).flagged == ("3pl-2",)
