"""Fits in the database: staged as they left the engine, then linked and visible to everyone.

Fits are append-only. A month's earlier fit is marked superseded when a later one is linked, never changed; of a night,
from which nothing is ever published, a later run of its day replaces the fit.
"""

from __future__ import annotations

import io
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
import pandas as pd
import psycopg
from psycopg.rows import class_row, dict_row

from irt_assets.calibration.testlets import on_the_scale
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Convergence, Flag, Population
from irt_assets.psychometrics.core.options import Latent
from irt_assets.psychometrics.core.priors import Priors, prior_as_text
from irt_assets.psychometrics.linking.jump import Constants
from irt_assets.psychometrics.linking.linking import Linking
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import Snapshot
from resources import tables, warehouse
from resources.failures import PermanentFailure, TransientFailure
from resources.version import code_version

if TYPE_CHECKING:
    from irt_assets.psychometrics.fit.fit_summary import FitSummary

_ARRAYS = ("a", "d", "c", "cov", "n", "n_correct")


def encode(calibration: Calibration) -> bytes:
    """A Calibration as compressed bytes; `decode` gives it back to the last bit."""
    header = {
        "item_ids": calibration.item_ids,
        "model": calibration.model,
        "engine": calibration.engine,
        "engine_version": calibration.engine_version,
        "flags": calibration.flags,
        "latent_mean": calibration.latent_mean,
        "latent_sd": calibration.latent_sd,
        "n_persons": calibration.n_persons,
        "convergence": asdict(calibration.convergence),
        "data_hash": calibration.data_hash,
        "populations": [asdict(population) for population in calibration.populations],
        "priors": calibration.priors,
        "anchored": calibration.anchored,
        "software": calibration.software,
    }
    arrays = {name: getattr(calibration, name) for name in _ARRAYS}
    if calibration.joint_cov is not None:
        arrays["joint_cov"] = calibration.joint_cov
    if calibration.guessing_cov is not None:
        arrays["guessing_cov"] = calibration.guessing_cov
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
    return buffer.getvalue()


def decode(content: bytes) -> Calibration:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        header = json.loads(stored["header"].tobytes())
        arrays = {name: stored[name] for name in _ARRAYS}
        joint, guessing = stored.get("joint_cov"), stored.get("guessing_cov")
    header["item_ids"] = tuple(header["item_ids"])
    header["flags"] = tuple(tuple(Flag(f) for f in flags) for flags in header["flags"])
    header["convergence"] = Convergence(**header["convergence"])
    header["populations"] = tuple(
        Population(**population | {name: tuple(population[name]) for name in ("nodes", "weights")})
        for population in header.get("populations", ())
    )
    header["anchored"] = tuple(header.get("anchored", ()))
    return Calibration(**header, **arrays, joint_cov=joint, guessing_cov=guessing)


@dataclass(frozen=True)
class StagedFit:
    """The latest attempt to fit a month of a scale with an engine; `error` says why there is none."""

    fit_id: str
    month: str
    scale_id: str
    engine: str
    snapshot_hash: str
    calibration: bytes | None
    error: str | None
    error_kind: str | None
    spec: dict[str, Any]
    code_version: str
    fitted_at: datetime

    def decoded(self) -> Calibration | None:
        return None if self.calibration is None else decode(self.calibration)


MADE_WITH: LiteralString = """jsonb_build_object('model', spec->'model', 'scale_priors', spec->'scale_priors',
                                            'latent', spec->'latent')"""
"""The keys of a staged fit's spec that `made_otherwise` compares: those of `model_spec`."""


def model_spec(scale: Scale) -> dict[str, Any]:
    """What a fit's spec keeps of the model: the model, the scale's own priors and the rule of θ's distribution that it
    is made with."""
    priors = scale.priors.as_dict() if scale.priors else None
    return {"model": scale.model, "scale_priors": priors, "latent": scale.rules.latent}


def made_otherwise(spec: Mapping[str, Any], scale: Scale) -> str | None:
    """Why a fit is not of the model, priors and distribution of θ of `scale`, as its window follows them; None where it
    is.

    A fit that an earlier version staged says nothing of priors: it had none of the scale's. Where it says nothing of
    θ's distribution it stands as it is.
    """
    if other := of_other_model(spec, scale):
        return other
    latent = spec.get("latent")
    if latent is not None and latent != scale.rules.latent:
        return f"the fit was made with latent={latent} and the scale's rule is {scale.rules.latent}"
    priors = spec.get("scale_priors")
    if priors == model_spec(scale)["scale_priors"]:
        return None
    used = Priors.from_dict(priors) if priors else None
    return f"the fit was made with priors {priors_as_text(used)} and the scale's are {priors_as_text(scale.priors)}"


def months_of_other_latent(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """The months whose latest fit by the scale's engine was made by another rule of θ's distribution."""
    rows = connection.execute(
        """SELECT month, latent FROM (
             SELECT DISTINCT ON (month) month, spec->>'latent' AS latent FROM fit_staging
             WHERE (scale_id, engine) = (%s, %s) AND month NOT LIKE '%%:%%'
             ORDER BY month, fitted_at DESC, fit_id DESC) latest
           WHERE latent <> %s ORDER BY 1""",
        (scale.scale_id, scale.engine, scale.rules.latent),
    ).fetchall()
    return [month for (month, _) in rows]


def of_other_model(spec: Mapping[str, Any], scale: Scale) -> str | None:
    """Like `made_otherwise`, but for the model alone: engines other than em do not take a scale's priors."""
    model = spec.get("model")
    if model is None or model == scale.model:
        return None
    since = f" since {scale.model_since:%Y-%m}" if scale.model_since else ""
    return f"the fit is a {spoken(model)} and the scale's model is {scale.model}{since}"


def spoken(model: str) -> str:
    """A model's name in a sentence: Rasch, 2PL."""
    return model.capitalize() if model == "rasch" else model.upper()


def priors_as_text(priors: Priors | None) -> str:
    """A scale's own priors in a line: `a lognormal(0, 0.5), c beta(5, 17)`, or `none`."""
    named = {name: getattr(priors, name) for name in ("a", "b", "c")} if priors else {}
    return ", ".join(f"{name} {prior_as_text(prior)}" for name, prior in named.items() if prior) or prior_as_text(None)


@dataclass(frozen=True)
class LinkedFit:
    """A row of `mirt_fit_meta` that is in use, with its items."""

    fit_id: str
    scale_id: str
    snapshot_hash: str
    data_hash: str
    anchor_hash: str
    converged: bool
    model_spec: dict[str, Any]
    items: dict[str, dict[str, Any]]

    @property
    def constants(self) -> dict[str, Any]:
        return self.model_spec["linking_constants"]

    @property
    def latent(self) -> Latent:
        """What the fit took for the distribution of θ."""
        shape = self.model_spec.get("shape")
        return shape["latent"] if shape else "normal"


def new_fit_id(window: str, scale_id: str, engine: str) -> str:
    return f"{window}-{scale_id}-{engine}-{uuid.uuid4().hex[:8]}"


def stage(
    connection: psycopg.Connection,
    snapshot: Snapshot,
    scale_id: str,
    engine: str,
    outcome: Calibration | Exception,
    spec: dict[str, Any],
    run_id: str | None,
) -> str:
    """Store a fit, or the reason why there is none, and return its id."""
    fit_id = new_fit_id(snapshot.month, scale_id, engine)
    error = outcome if isinstance(outcome, Exception) else None
    connection.execute(
        """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, calibration, error, error_kind,
                                    spec, code_version, run_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        (fit_id, snapshot.month, scale_id, engine, snapshot.snapshot_hash)
        + (None if isinstance(outcome, Exception) else encode(outcome), explanation(error) if error else None)
        + (type(error).__name__ if error else None, json.dumps(spec), code_version(), run_id),
    )
    return fit_id


def latest_staged(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> StagedFit | None:
    with connection.cursor(row_factory=class_row(StagedFit)) as cursor:
        return cursor.execute(
            """SELECT fit_id, month, scale_id, engine, snapshot_hash, calibration, error, error_kind, spec,
                      code_version, fitted_at
               FROM fit_staging WHERE month = %s AND scale_id = %s AND engine = %s
               ORDER BY fitted_at DESC, fit_id DESC LIMIT 1""",
            (month, scale_id, engine),
        ).fetchone()


def engines_staged(connection: psycopg.Connection, snapshot: Snapshot, scale_id: str) -> list[str]:
    """The engines whose latest attempt at the month saw this very snapshot, in alphabetical order."""
    rows = connection.execute(
        """SELECT engine FROM (
             SELECT DISTINCT ON (engine) engine, snapshot_hash FROM fit_staging WHERE month = %s AND scale_id = %s
             ORDER BY engine, fitted_at DESC, fit_id DESC
           ) latest WHERE snapshot_hash = %s ORDER BY engine""",
        (snapshot.month, scale_id, snapshot.snapshot_hash),
    ).fetchall()
    return [engine for (engine,) in rows]


def never_linked(connection: psycopg.Connection, staged: StagedFit, run_id: str | None) -> StagedFit:
    """`staged`, or where it is linked already a copy under a new id: what is linked, and cited, stays as it is."""
    if connection.execute("SELECT 1 FROM mirt_fit_meta WHERE fit_id = %s", (staged.fit_id,)).fetchone() is None:
        return staged
    fit_id = new_fit_id(staged.month, staged.scale_id, staged.engine)
    row = connection.execute(
        """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, calibration, spec, code_version,
                                    run_id)
           SELECT %s, month, scale_id, engine, snapshot_hash, calibration, spec - 'linking_constants', code_version, %s
           FROM fit_staging WHERE fit_id = %s RETURNING fitted_at""",
        (fit_id, run_id, staged.fit_id),
    ).fetchone()
    assert row is not None
    return replace(staged, fit_id=fit_id, fitted_at=row[0])


def record_failed_linking(
    connection: psycopg.Connection, staged: StagedFit, error: Exception, constants: dict[str, Any] | None
) -> None:
    """Record with the staged fit why it could not be linked, and the constants that could be computed."""
    connection.execute(
        "UPDATE fit_staging SET error = %s, error_kind = %s, spec = spec || %s WHERE fit_id = %s",
        (explanation(error), type(error).__name__, json.dumps({"linking_constants": constants}), staged.fit_id),
    )


def save_linked_fit(
    connection: psycopg.Connection,
    fit_id: str,
    raw: Calibration,
    linked: Calibration,
    linking: Linking | None,
    *,
    kind: str,
    scale_id: str,
    window: tuple[datetime, datetime],
    snapshot_hash: str,
    anchor_hash: str,
    spec: dict[str, Any],
    fitted_at: datetime,
    fit_code_version: str,
    run_id: str | None,
) -> None:
    """Complete a fit on the bank's scale, superseding the window's earlier one, in the caller's transaction.

    `linking` is None for an origin, which defines the scale (slope 1, intercept 0).
    """
    constants = linking.as_constants() if linking is not None else ORIGIN_CONSTANTS
    statistics = spec.get("fit_statistics") or {}
    of_items = statistics.get("items", {})
    spec = spec | {"fit_statistics": statistics.get("set")}
    connection.execute(
        """UPDATE mirt_fit_meta SET superseded_at = now()
           WHERE scale_id = %s AND kind = %s AND window_start = %s AND engine = %s AND superseded_at IS NULL""",
        (scale_id, kind, window[0], raw.engine),
    )
    c = raw.convergence
    meta = {
        "fit_id": fit_id,
        "scale_id": scale_id,
        "kind": kind,
        "window_start": window[0],
        "window_end": window[1],
        "engine": raw.engine,
        "engine_version": raw.engine_version,
        "model": raw.model,
        "n_persons": raw.n_persons,
        "n_items": int(raw.estimated.sum()),
        "n_responses": raw.n_responses,
        "loglik": c.loglik,
        "aic": raw.aic,
        "bic": raw.bic,
        "converged": c.converged,
        "iterations": c.iterations,
        "max_rhat": spec.get("sampling", {}).get("max_rhat"),
        "min_ess": spec.get("sampling", {}).get("min_ess"),
        "model_spec": spec
        | ({"testlets": on_the_scale(spec["testlets"], linking)} if "testlets" in spec else {})
        | {"linking_constants": constants, "latent": {"mean": linked.latent_mean, "sd": linked.latent_sd}}
        | ({"software": raw.software} if raw.software else {}),
        "data_hash": raw.data_hash,
        "snapshot_hash": snapshot_hash,
        "anchor_hash": anchor_hash,
        "code_version": fit_code_version,
        "run_id": run_id,
        "fitted_at": fitted_at,
    }
    warehouse.append(connection, tables.mirt_fit_meta, pd.DataFrame([meta]))
    warehouse.append(connection, tables.mirt_item_params, _item_rows(fit_id, raw, linked, fitted_at, spec, of_items))


def forget(connection: psycopg.Connection, scale_id: str, kind: str, window_start: datetime) -> None:
    """Delete a window's linked fits, whatever their engine: only of a kind that nothing is ever published from."""
    connection.execute(
        """WITH gone AS (
             DELETE FROM mirt_fit_meta WHERE scale_id = %s AND kind = %s AND window_start = %s RETURNING fit_id)
           DELETE FROM mirt_item_params WHERE fit_id IN (SELECT fit_id FROM gone)""",
        (scale_id, kind, window_start),
    )


ORIGIN_CONSTANTS: dict[str, Any] = {
    "slope": 1.0,
    "intercept": 0.0,
    "slope_se": 0.0,
    "intercept_se": 0.0,
    "method": "origin",
    "rmse": 0.0,
    "anchors_used": [],
    "anchors_dropped": {},
    "anchor_set": None,
}


STATISTIC_COLUMNS = ("point_biserial", "infit", "outfit", "rmsd")
"""Statistics that have a column of their own; the others stand in `params` under `fit`."""


def statistics_spec(summary: FitSummary) -> dict[str, Any]:
    """Fit statistics as they are staged: `items` by name and in the calibration's order, and the `set`."""
    return {
        "items": {name: [finite(x) for x in values] for name, values in summary.items.items()},
        "set": summary.whole,
    }


def _item_rows(
    fit_id: str,
    raw: Calibration,
    linked: Calibration,
    fitted_at: datetime,
    spec: dict[str, Any],
    statistics: dict[str, list[float | None]],
) -> pd.DataFrame:
    provisional, unpublished = set(spec.get("provisional", ())), set(spec.get("never_published", ()))
    cov_ab, c_se = linked.cov_ab, linked.c_se
    with_logit_c = linked.guessing_cov_ab
    rows = []
    for j, item_id in enumerate(raw.item_ids):
        params = {
            "a": finite(linked.a[j]),
            "b": finite(linked.b[j]),
            "c": finite(linked.c[j]),
            "a_se": finite(linked.a_se[j]),
            "b_se": finite(linked.b_se[j]),
            "c_se": finite(c_se[j]) if linked.model == "3pl" else None,
            "cov_ab": finite(cov_ab[j, 0, 1]),
            "cov_logit_c": None if with_logit_c is None else [finite(x) for x in with_logit_c[j]],
            "raw": {
                "a": finite(raw.a[j]),
                "b": finite(raw.b[j]),
                "d": finite(raw.d[j]),
                "a_se": finite(raw.a_se[j]),
                "b_se": finite(raw.b_se[j]),
                "d_se": finite(raw.d_se[j]),
            },
            "fit": {name: values[j] for name, values in statistics.items() if name not in STATISTIC_COLUMNS},
        } | ({"provisional": True} if item_id in unpublished else {})
        rows.append(
            {
                "fit_id": fit_id,
                "item_id": item_id,
                "params": params,
                "n_responses": int(raw.n[j]),
                "p_value": raw.n_correct[j] / raw.n[j] if raw.n[j] else None,
                "flags": [str(f) for f in raw.flags[j]] + [str(Flag.PROVISIONAL)] * (item_id in provisional),
                "fitted_at": fitted_at,
            }
            | {name: statistics[name][j] if statistics else None for name in STATISTIC_COLUMNS}
        )
    return pd.DataFrame(rows)


def linked_fit(
    connection: psycopg.Connection, scale_id: str, kind: str, window_start: datetime, engine: str
) -> LinkedFit | None:
    """The window's linked fit that no later one has superseded."""
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(
            """SELECT fit_id, scale_id, snapshot_hash, data_hash, anchor_hash, converged, model_spec
           FROM mirt_fit_meta
           WHERE scale_id = %s AND kind = %s AND window_start = %s AND engine = %s AND superseded_at IS NULL""",
            (scale_id, kind, window_start, engine),
        )
        .fetchone()
    )
    if row is None:
        return None
    items = connection.execute(
        "SELECT item_id, params, n_responses, flags, rmsd FROM mirt_item_params WHERE fit_id = %s ORDER BY 1",
        (row["fit_id"],),
    ).fetchall()
    return LinkedFit(
        **row, items={i: params | {"n": n, "flags": flags, "rmsd": rmsd} for i, params, n, flags, rmsd in items}
    )


def latest_constants(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> dict[str, Any]:
    """Linking constants of the month's latest fit, linked or not; empty if linking found none."""
    row = connection.execute(
        """SELECT coalesce(m.model_spec->'linking_constants', s.spec->'linking_constants')
           FROM fit_staging s LEFT JOIN mirt_fit_meta m USING (fit_id)
           WHERE (s.month, s.scale_id, s.engine) = (%s, %s, %s) ORDER BY s.fitted_at DESC, s.fit_id DESC LIMIT 1""",
        (month, scale_id, engine),
    ).fetchone()
    return (row and row[0]) or {}


MONTHS_COMPARED = 24


def month_number(month: str) -> int:
    """Months since the year 0."""
    year, of_year = map(int, month.split("-"))
    return year * 12 + of_year


def released_constants(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> tuple[Constants, ...]:
    """Linking constants of the last 24 months before `month` that were taken to the ledger, newest first; without those
    of an engine that anchored itself."""
    rows = connection.execute(
        """SELECT s.month, (c->>'slope')::float8, (c->>'slope_se')::float8, (c->>'intercept')::float8,
                  (c->>'intercept_se')::float8
           FROM publication_step s
           JOIN mirt_fit_meta m ON m.fit_id = s.fit_id AND m.kind = 'monthly' AND m.superseded_at IS NULL
           CROSS JOIN LATERAL (SELECT m.model_spec->'linking_constants') AS l (c)
           WHERE s.scale_id = %s AND s.state = 'done' AND s.month < %s AND m.engine = %s AND c->>'method' <> 'fixed'
           ORDER BY s.month DESC LIMIT %s""",
        (scale_id, month, engine, MONTHS_COMPARED),
    ).fetchall()
    return tuple(Constants(month_number(at), *values) for at, *values in rows)


def explanation(error: Exception) -> str:
    """An error in a sentence, with its type if it is an unforeseen one."""
    foreseen = isinstance(error, PsychometricsError | PermanentFailure | TransientFailure)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def finite(x: float) -> float | None:
    """JSON has no NaN or infinity: they become null."""
    return float(x) if math.isfinite(x) else None
