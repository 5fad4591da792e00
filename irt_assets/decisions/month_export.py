"""Export a month: the answers of its fit, the parameters before and after linking, and scripts that repeat the fit."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger import fits
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.responses.snapshot import CALIBRATION_COLUMNS, Snapshot, read_snapshot, snapshot_of
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import initialised_scale
from irt_assets.scales.scored_models import ModelInBank, models_in_bank
from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore

ENGINE = "em"
ESTIMATES = ("a", "a_se", "b", "b_se", "c", "c_se")


@dataclass(frozen=True, kw_only=True)
class MonthFit:
    """A fit of a scale's month, or of the origin window with this month.

    Attributes:
        raw: the fit before linking.
        latent: the distribution of θ that it assumed.
        snapshot: its answers.
        linked: the fit on the bank's scale, or None if it could not be linked.
    """

    fit_id: str
    raw: Calibration
    latent: str
    snapshot: Snapshot
    linked: fits.LinkedFit | None

    @classmethod
    def from_database(cls, connection: psycopg.Connection, scale_id: str, month: str) -> Self:
        """Read the fit by the scale's engine.

        Raises PermanentFailure if there is no fit, or if the scripts cannot repeat it: by an engine other than em, or
        with several populations, which are formed from learners' earlier answers.
        """
        start, end = Month(month).bounds
        scale = initialised_scale(connection, scale_id, start)
        raw, snapshot = None, None
        if origin := overlapping_origin(connection, scale_id, start, end):
            linked = fits.linked_fit(connection, scale_id, "origin", origin.window_start, origin.engine)
            if linked is not None:
                raw, snapshot = fits.stored_calibration(connection, linked.fit_id), origin.snapshot
                fit_id, latent = linked.fit_id, linked.model_spec.latent_shape
        elif staged := fits.latest_staged(connection, month, scale_id, scale.engine):
            raw, snapshot = staged.decode(), snapshot_of(connection, month, staged.snapshot_hash)
            fit_id, latent = staged.fit_id, staged.spec.latent_shape
            linked = fits.linked_fit(connection, scale_id, "monthly", start, scale.engine)
            linked = linked if linked is not None and linked.fit_id == fit_id else None
        if raw is None or snapshot is None:
            raise PermanentFailure(
                f"{month} has no stored fit of scale {scale_id}: `irt calibrate --month {month} --scale {scale_id}`"
            )
        if raw.engine != ENGINE or len(raw.populations) > 1:
            cause = f"by {raw.engine}" if raw.engine != ENGINE else "with groups of learners by their earlier answers"
            raise PermanentFailure(
                f"the fit {fit_id} was made {cause}, which the scripts cannot repeat. `irt export parameters` writes "
                "the values in force"
            )
        return cls(fit_id=fit_id, raw=raw, latent=latent, snapshot=snapshot, linked=linked)


def write_month(
    connection: psycopg.Connection, store: ObjectStore, scale_id: str, month: str, folder: Path
) -> list[Path]:
    """Write the answers, the parameters and the scripts of a month into `folder`, which is created. Returns the files.

    Raises PermanentFailure if the month has no fit that the scripts can repeat, or if the folder cannot be written.
    """
    fit, scripts = MonthFit.from_database(connection, scale_id, month), resources.files(__package__) / "reproduce"
    table = read_snapshot(store, fit.snapshot, columns=CALIBRATION_COLUMNS)
    responses, learners = scored_responses_of(table, scale_id)
    answers = {
        "learner_key": learners[responses.person],
        "item": np.array(responses.item_ids, dtype=object)[responses.item],
        "score": responses.score,
    }
    contents = {
        "README.md": _readme((scripts / "README.md").read_text("utf-8"), f"{month} of scale {scale_id}", fit),
        "responses.csv": pd.DataFrame(answers).to_csv(index=False),
        "parameters.csv": pd.DataFrame(_parameters(fit)).to_csv(index=False),
        "settings.json": json.dumps(_settings(fit, models_in_bank(connection, scale_id)), indent=1) + "\n",
        **{name: (scripts / name).read_text("utf-8") for name in ("reproduce.py", "reproduce.R")},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise PermanentFailure(f"{folder} cannot be written: {error}") from error
    return [folder / name for name in contents]


def _readme(template: str, title: str, fit: MonthFit) -> str:
    link = "The fit could not be linked."
    if fit.linked:
        constants = fit.linked.constants
        link = f"θ of the bank = {constants.slope:.6f} · θ of the fit + {constants.intercept:.6f}"
    return template.format(title=title, fit_id=fit.fit_id, fit=fit.raw, link=link)


def _settings(fit: MonthFit, in_bank: Mapping[str, ModelInBank]) -> dict[str, Any]:
    """Models, priors and distribution of θ, as the scripts read them."""
    raw, priors = fit.raw, dict(fit.raw.priors)
    rare, known = priors.pop("rare_steps", None), priors.pop("known_guessing", None)
    return {
        "fit": fit.fit_id,
        "items": {
            item: {"model": model, "max_score": size - 1}
            for item, model, size in zip(raw.item_ids, raw.models, raw.n_categories.tolist(), strict=True)
        },
        "latent": fit.latent,
        "priors": priors,
        "guessing": dict(zip(known["items"], known["c"], strict=True)) if known else {},
        "guessing_sd": known["sd"] if known else None,
        "prior_on_rare_steps": rare["items"] if rare else [],
        "blocks": {item: entry.block for item, entry in in_bank.items() if entry.block and item in raw.item_ids},
        "loglik": raw.convergence.loglik,
    }


def _parameters(fit: MonthFit) -> Iterator[dict[str, Any]]:
    """Yield a row for each item: raw parameters with errors, the same in mirt's form, and linked parameters."""
    raw, linked = fit.raw, fit.linked.values if fit.linked else {}
    for j, item in enumerate(raw.item_ids):
        further = raw.further_of(j)
        estimates = {name: float(getattr(raw, name)[j]) for name in ESTIMATES} | further
        row = {"item": item, "model": raw.models[j], "n": int(raw.n[j])}
        row["flags"] = " ".join(flag.value for flag in raw.flags[j])
        row |= {f"raw_{name}": value for name, value in estimates.items()}
        if raw.estimated[j]:
            with suppress(PsychometricsError):  # mirt has no form for a graded item that lacks a score
                of_mirt = ItemRow(estimates["a"], estimates["b"], estimates["c"], further=further).columns("mirt")
                row |= {f"mirt_{name}": value for name, value in of_mirt.items()}
        if values := linked.get(item):
            row |= {name: getattr(values, name) for name in ESTIMATES} | dict(values.further)
        yield row
