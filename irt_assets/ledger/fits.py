"""Read and write fits in the database: first staged as the engine returned them, then linked and visible to everyone.

Fits are append-only. When a later fit of a month is linked, the earlier one is marked superseded and otherwise left
unchanged. If the same code gets the same result from the same snapshot again, the stored fit is used and no new one is
stored. Nightly fits are the exception: nothing is published from them, so a later run of the day replaces the fit. The
anchors' movement as a group is measured later and stored in a table of its own, `month_impact`.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.common.wording import some_of
from irt_assets.ledger.encoding import alike, decode, encode
from irt_assets.ledger.fit_rows import item_rows, testlets_on_the_scale
from irt_assets.ledger.fit_spec import (
    FitSettings,
    LinkedSpec,
    LinkingConstants,
    Spread,
    StagedSpec,
)
from irt_assets.ledger.fitted_items import FittedItem, items_of_fit
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.relations import IN_USE, LATEST_STAGED, MONTHS_IN_USE, TIME_OF_ATTEMPT
from irt_assets.responses.snapshot import Snapshot, settings_differ
from irt_assets.scales.rules import STAGE_OF, Rules
from irt_assets.scales.scale import Scale
from irt_assets.scales.scored_models import ModelInBank, models_in_words
from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.items import ItemRow, Priors, item_model
from irt_psychometrics.linking import Linking
from irt_psychometrics.scoring import ParameterErrors
from resources import tables
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres import warehouse
from resources.postgres.database import first_column, named_rows, one_value, records
from resources.version import code_version


@dataclass(frozen=True, kw_only=True)
class StagedFit:
    """The latest attempt to fit a month of a scale with an engine. `error` is the reason if there is no fit."""

    fit_id: str
    month: str
    scale_id: str
    engine: str
    snapshot_hash: str
    calibration: bytes | None = None
    error: str | None = None
    error_kind: str | None = None
    spec: StagedSpec
    code_version: str
    fitted_at: datetime

    def decode(self) -> Calibration | None:
        return None if self.calibration is None else decode(self.calibration)

    def has_same_result(self, snapshot_hash: str, outcome: Calibration | Exception, spec: StagedSpec) -> bool:
        """Whether this code got the same result from the same snapshot, up to rounding."""
        made_alike = (self.snapshot_hash, self.code_version) == (snapshot_hash, code_version())
        return (
            made_alike
            and self.error is None
            and alike(self.decode(), outcome)
            and alike(self.spec.as_json(), spec.as_json())
        )


def model_spec(scale: Scale) -> StagedSpec:
    """A spec with the scale's settings: model, own priors, rule for the distribution of θ, and occasions."""
    return StagedSpec(
        model=scale.model,
        scale_priors=scale.priors,
        latent=scale.rules.fit.latent,
        occasions=scale.occasions,
    )


def settings_difference(made: FitSettings, scale: Scale) -> str | None:
    """Why a fit was not made with the model, priors, distribution of θ and occasions of `scale`.

    `scale` has the settings that apply to the fit's window. Returns None if they agree. If a fit does not record the
    distribution of θ, that is not compared.
    """
    if other := model_difference(made, scale):
        return other
    if made.latent is not None and made.latent != scale.rules.fit.latent:
        return f"the fit was made with latent={made.latent} and the scale's rule is {scale.rules.fit.latent}"
    if made.occasions != scale.occasions:
        return f"the persons of the fit are learners' {made.occasions}s and the scale's are {scale.occasions}s"
    if made.scale_priors == scale.priors:
        return None
    used = priors_as_text(made.scale_priors)
    return f"the fit was made with priors {used} and the scale's are {priors_as_text(scale.priors)}"


def changed_scored_items(made: FitSettings, scale: Scale, in_bank: Mapping[str, ModelInBank]) -> str | None:
    """List the scored items whose model or block in the fit is not the one that the bank names now.

    Returns None if all agree. Fits of earlier releases do not record them and are not compared.
    """
    now = models_in_words(scale.model, made.scored_items, in_bank)
    changed = [
        f"{item} ({was}, now {now[item]})" for item, was in made.scored_items.items() if now.get(item, was) != was
    ]
    return some_of(changed, 5) if changed else None


def months_with_other_fit_rules(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """Months whose latest fit by the scale's engine was made with different rules of the stage `fit`."""
    rows = connection.execute(
        f"""SELECT month, spec->'eligibility', spec->>'latent' FROM {LATEST_STAGED} s
           WHERE (scale_id, engine) = (%s, %s) AND month NOT LIKE '%%:%%' ORDER BY 1""",
        (scale.scale_id, scale.engine),
    )
    rules = scale.rules
    return [
        month
        for month, used, latent in rows
        if latent not in (None, rules.fit.latent) or settings_differ(used, rules, "fit")
    ]


def months_with_other_linking_rules(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """Months whose linked fit in use was linked with different rules of the stage `linking`."""
    rows = connection.execute(
        f"""SELECT month, model_spec->'eligibility' FROM {MONTHS_IN_USE} m
           WHERE (scale_id, engine) = (%s, %s) ORDER BY 1""",
        (scale.scale_id, scale.engine),
    )
    return [month for month, used in rows if settings_differ(used, scale.rules, "linking")]


def rules_of_a_linking(spec: StagedSpec, rules: Rules) -> dict[str, Any]:
    """Non-default settings to store with a linked fit: the settings that it was fitted with, and the current ones for
    linking."""
    of_the_fit = {name: value for name, value in spec.eligibility.items() if STAGE_OF.get(name) != "linking"}
    return of_the_fit | rules.linking.non_defaults()


def model_difference(made: FitSettings, scale: Scale) -> str | None:
    """Like `settings_difference`, for the model alone: engines other than em do not use the scale's priors."""
    if made.model is None or made.model == scale.model:
        return None
    since = f" since {scale.model_since:%Y-%m}" if scale.model_since else ""
    return f"the fit is a {item_model(made.model).spoken} and the scale's model is {scale.model}{since}"


def priors_as_text(priors: Priors | None) -> str:
    """The scale's own priors as text, for example `a lognormal(0, 0.5), c beta(5, 17)` or `none`."""
    named = {name: getattr(priors, name) for name in ("a", "b", "c")} if priors else {}
    return ", ".join(f"{name} {Priors.text_of(prior)}" for name, prior in named.items() if prior) or Priors.text_of(
        None
    )


@dataclass(frozen=True)
class LinkedFit:
    """A row of `mirt_fit_meta` that is in use, with its items."""

    fit_id: str
    snapshot_hash: str
    data_hash: str
    anchor_hash: str
    converged: bool
    model_spec: LinkedSpec
    items: dict[str, FittedItem]

    @property
    def constants(self) -> LinkingConstants:
        return self.model_spec.linking_constants

    @property
    def values(self) -> dict[str, ItemRow]:
        """Parameters by item, for items with parameters."""
        return {item: x.values for item, x in self.items.items() if x.values}


def new_fit_id(window: str, scale_id: str, engine: str) -> str:
    return f"{window}-{scale_id}-{engine}-{uuid.uuid4().hex[:8]}"


def stage_fit(
    connection: psycopg.Connection,
    snapshot: Snapshot,
    scale_id: str,
    engine: str,
    outcome: Calibration | Exception,
    spec: StagedSpec,
    run_id: str | None,
) -> str:
    """Store a fit, or the reason why the attempt failed. Returns the fit's id."""
    fit_id = new_fit_id(snapshot.month, scale_id, engine)
    error = outcome if isinstance(outcome, Exception) else None
    connection.execute(
        f"""INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, calibration, error, error_kind,
                                    spec, code_version, run_id, fitted_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, {TIME_OF_ATTEMPT})""",
        (fit_id, snapshot.month, scale_id, engine, snapshot.snapshot_hash)
        + (None if isinstance(outcome, Exception) else encode(outcome), explanation(error) if error else None)
        + (type(error).__name__ if error else None, json.dumps(spec.as_json()), code_version(), run_id)
        + (snapshot.month, scale_id, engine),
    )
    return fit_id


def latest_staged(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> StagedFit | None:
    for row in named_rows(
        connection,
        f"""SELECT fit_id, month, scale_id, engine, snapshot_hash, calibration, error, error_kind, spec,
                   code_version, fitted_at
            FROM {LATEST_STAGED} s WHERE (month, scale_id, engine) = (%s, %s, %s)""",
        (month, scale_id, engine),
    ):
        spec = StagedSpec.from_json(row["spec"], f"{row['fit_id']} ({month}, {scale_id}, {engine})")
        return StagedFit(**row | {"spec": spec})
    return None


def engines_staged(connection: psycopg.Connection, snapshot: Snapshot, scale_id: str) -> list[str]:
    """Engines whose latest attempt at the month used this snapshot, in alphabetical order."""
    return first_column(
        connection,
        f"""SELECT engine FROM {LATEST_STAGED} s
           WHERE (month, scale_id, snapshot_hash) = (%s, %s, %s) ORDER BY engine""",
        (snapshot.month, scale_id, snapshot.snapshot_hash),
    )


def engines_tried(connection: psycopg.Connection, month: str, scale_id: str) -> set[str]:
    """Engines that ever tried to fit the month."""
    return set(
        first_column(
            connection, "SELECT DISTINCT engine FROM fit_staging WHERE (month, scale_id) = (%s, %s)", (month, scale_id)
        )
    )


def ensure_unlinked(connection: psycopg.Connection, staged: StagedFit, run_id: str | None) -> StagedFit:
    """Return `staged`, or a copy under a new id if it is linked already, as linked and cited fits never change."""
    if connection.execute("SELECT 1 FROM mirt_fit_meta WHERE fit_id = %s", (staged.fit_id,)).fetchone() is None:
        return staged
    fit_id = new_fit_id(staged.month, staged.scale_id, staged.engine)
    fitted_at = one_value(
        connection,
        f"""INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, calibration, spec, code_version,
                                    run_id, fitted_at)
           SELECT %s, month, scale_id, engine, snapshot_hash, calibration, spec || '{{"linking_constants": null}}',
                  code_version, %s, {TIME_OF_ATTEMPT}
           FROM fit_staging WHERE fit_id = %s RETURNING fitted_at""",
        (fit_id, run_id, staged.month, staged.scale_id, staged.engine, staged.fit_id),
    )
    return replace(staged, fit_id=fit_id, fitted_at=fitted_at)


def record_failed_linking(
    connection: psycopg.Connection, staged: StagedFit, error: Exception, constants: LinkingConstants | None
) -> None:
    """Record with the staged fit why linking failed, and the constants if they were computed."""
    found = {"linking_constants": constants.as_json() if constants else None}
    connection.execute(
        "UPDATE fit_staging SET error = %s, error_kind = %s, spec = spec || %s WHERE fit_id = %s",
        (explanation(error), type(error).__name__, json.dumps(found), staged.fit_id),
    )


def linked_spec(spec: StagedSpec, linked: Calibration, linking: Linking | None) -> LinkedSpec:
    """The facts to store with a linked fit. `linking` is None for an origin, which defines the scale."""
    constants = LinkingConstants.of_origin() if linking is None else LinkingConstants.from_linking(linking)
    latent = Spread(mean=linked.latent_mean, sd=linked.latent_sd)
    testlets = None if spec.testlets is None else testlets_on_the_scale(spec.testlets, linking)
    return spec.to_linked(constants, latent, testlets, linked.software)


def save_linked_fit(
    connection: psycopg.Connection,
    fit: StagedFit,
    raw: Calibration,
    linked: Calibration,
    linking: Linking | None,
    *,
    kind: str,
    window: tuple[datetime, datetime],
    anchor_hash: str,
    run_id: str | None,
) -> None:
    """Store a fit on the bank's scale and mark the window's earlier one superseded, in the caller's transaction.

    `linking` is None for an origin, which defines the scale (slope 1, intercept 0). `fit.calibration`, the encoded fit,
    is stored with it unless it is None.
    """
    connection.execute(
        """UPDATE mirt_fit_meta SET superseded_at = now()
           WHERE scale_id = %s AND kind = %s AND window_start = %s AND engine = %s AND superseded_at IS NULL""",
        (fit.scale_id, kind, window[0], raw.engine),
    )
    c = raw.convergence
    meta = {
        "fit_id": fit.fit_id,
        "scale_id": fit.scale_id,
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
        "max_rhat": fit.spec.sampling.max_rhat if fit.spec.sampling else None,
        "min_ess": fit.spec.sampling.min_ess if fit.spec.sampling else None,
        "model_spec": linked_spec(fit.spec, linked, linking).as_json(),
        "data_hash": raw.data_hash,
        "snapshot_hash": fit.snapshot_hash,
        "anchor_hash": anchor_hash,
        "code_version": fit.code_version,
        "run_id": run_id,
        "fitted_at": fit.fitted_at,
        "calibration": fit.calibration,
        "common_errors": None if (gamma := ParameterErrors.common_to(linked)) is None else gamma.ravel().tolist(),
    }
    import pandas as pd  # importing it takes half a second, and only writers need it

    warehouse.append(connection, tables.mirt_fit_meta, pd.DataFrame([meta]))
    items = pd.DataFrame(item_rows(fit.fit_id, raw, linked, fit.fitted_at, fit.spec))
    warehouse.append(connection, tables.mirt_item_params, items)


def delete_fits(connection: psycopg.Connection, scale_id: str, kind: str, window_start: datetime) -> None:
    """Delete a window's linked fits by all engines. Only for kinds from which nothing is ever published."""
    connection.execute(
        """WITH gone AS (
             DELETE FROM mirt_fit_meta WHERE scale_id = %s AND kind = %s AND window_start = %s RETURNING fit_id)
           DELETE FROM mirt_item_params WHERE fit_id IN (SELECT fit_id FROM gone)""",
        (scale_id, kind, window_start),
    )


def linked_fit(
    connection: psycopg.Connection, scale_id: str, kind: str, window_start: datetime, engine: str
) -> LinkedFit | None:
    """The window's linked fit that no later one has superseded."""
    for row in named_rows(
        connection,
        f"""SELECT fit_id, snapshot_hash, data_hash, anchor_hash, converged, model_spec
            FROM {IN_USE} m WHERE (scale_id, kind, window_start, engine) = (%s, %s, %s, %s)""",
        (scale_id, kind, window_start, engine),
    ):
        spec = LinkedSpec.from_json(row["model_spec"], f"{row['fit_id']} ({kind}, {scale_id}, {engine})")
        return LinkedFit(**row | {"model_spec": spec}, items=items_of_fit(connection, row["fit_id"]))
    return None


def stored_calibration(connection: psycopg.Connection, fit_id: str) -> Calibration | None:
    """The calibration of a linked fit. Returns None if it was not stored."""
    stored = one_value(connection, "SELECT calibration FROM mirt_fit_meta WHERE fit_id = %s", (fit_id,))
    return decode(stored) if stored else None


def read_group_shift(
    connection: psycopg.Connection, fit_id: str, compared_with: str | None = None
) -> GroupShift | None:
    """Read the group shift of the anchors of a month's linked fit.

    Returns None if it has not been measured or, if `compared_with` is given, not against the values with this digest.
    """
    columns = ", ".join(field.name for field in fields(GroupShift))
    found = records(
        connection,
        GroupShift,
        f"""SELECT {columns} FROM month_impact
            WHERE fit_id = %(fit_id)s AND (%(digest)s::text IS NULL OR compared_with = %(digest)s)""",
        {"fit_id": fit_id, "digest": compared_with},
    )
    return found[0] if found else None


def write_group_shift(
    connection: psycopg.Connection, fit_id: str, shift: GroupShift, compared_with: str | None
) -> None:
    """Store the group shift of the anchors of a month's linked fit, replacing an earlier measurement.
    `compared_with`: digest of the values in force with which the fit was compared."""
    import pandas as pd  # importing it takes half a second, and only writers need it

    row = asdict(shift) | {"fit_id": fit_id, "compared_with": compared_with}
    warehouse.replace(connection, tables.month_impact, {"fit_id": fit_id}, pd.DataFrame([row]))


def explanation(error: Exception) -> str:
    """The error's message, preceded by its type if the error is not one of ours."""
    foreseen = isinstance(error, PsychometricsError | PermanentFailure | TransientFailure)
    return str(error) if foreseen else f"{type(error).__name__}: {error}"


def drop_twins_of(connection: psycopg.Connection, user_id: str) -> int:
    """Drop the learner's pairs from the statistics of staged fits (`fit_spec.Twins`). Returns the number of fits."""
    return connection.execute(
        """UPDATE fit_staging SET spec = jsonb_set(spec, %(at)s, coalesce(
               (SELECT jsonb_agg(pair ORDER BY place) FROM jsonb_array_elements(spec #> %(at)s)
                WITH ORDINALITY AS pairs (pair, place) WHERE NOT pair->'ids' ? %(user)s), '[]'))
           WHERE spec #> %(at)s @> jsonb_build_array(jsonb_build_object('ids', jsonb_build_array(%(user)s::text)))""",
        {"at": ["fit_statistics", "set", "twins", "learners"], "user": user_id},
    ).rowcount
