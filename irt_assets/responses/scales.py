"""The scales of the bank and their rules, read from the database.

What does not belong here: anchors and how a scale is initialised (see `decisions.origin`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.engines.registry import require_demandable
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.responses.eligibility.rules import STAGE_OF, STAGES, Occasions, Rules
from irt_assets.responses.scale_decisions import (
    ACCEPTABLE,
    MOVEMENT,
    ScaleDecision,
    Subject,
    decision_in_force,
    movement_in_force,
    priors_in_force,
    read_decisions,
)
from irt_psychometrics.items import Model, Priors
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure
from resources.postgres.database import Database, named_rows


@dataclass(frozen=True)
class Scale:
    """A bank whose items measure one ability, and how it is calibrated.

    `mu` and `sigma` describe the population that abilities are reported against, `pass_theta` is its pass mark, in θ of
    this scale. `model` and `priors` are those of the window that the scale was read for: `model_since` is from when on
    a decision has set the model (None: it is that of the origin), `priors` are the scale's own (None: it has none).
    `occasions`: what is a person in a fit, a learner's month or each of a learner's weeks in it.
    A scale that occurs in the bank but has no origin yet has `initialised` false and the default rules.
    `scored`: some of its items have more than right and wrong. `movement`: how its learners' abilities move, up to the
    time that the scale was read for.
    """

    scale_id: str
    mu: float = 0.0
    sigma: float = 1.0
    model: Model = DEFAULT_MODEL
    engine: str = "em"
    rules: Rules = field(default_factory=Rules)
    anchor_version: int = 1
    initialised: bool = False
    pass_theta: float | None = None
    model_since: datetime | None = None
    priors: Priors | None = None
    occasions: Occasions = "month"
    scored: bool = False
    movement: Movement = field(default_factory=Movement)


def read_scales(connection: psycopg.Connection, window_start: datetime | None = None) -> dict[str, Scale]:
    """Every scale that the bank or `irt scale init` knows, by id, with the model, the priors and the anchors of a
    window from `window_start` on (None: the newest)."""
    decisions: dict[str, list[ScaleDecision]] = {}
    for decision in read_decisions(connection):
        decisions.setdefault(decision.scale_id, []).append(decision)
    rows = named_rows(
        connection,
        """
            SELECT s.scale_id, c.mu, c.sigma, c.model, c.engine, c.rules,
                   coalesce(v.version, c.anchor_version) AS anchor_version,
                   c.pass_theta, c.scale_id IS NOT NULL AS initialised, s.scored
            FROM (
              SELECT scale_id, bool_or(scored) AS scored FROM (
                SELECT scale_id, coalesce(max_score > 1, false) AS scored FROM question
                UNION SELECT scale_id, false FROM calibration_scale) known
              GROUP BY scale_id
            ) s
            LEFT JOIN calibration_scale c USING (scale_id)
            LEFT JOIN LATERAL (
              SELECT max(version) AS version FROM anchor_set a
              WHERE a.scale_id = c.scale_id AND coalesce(a.effective_from <= %(start)s, true)
            ) v ON true ORDER BY 1""",
        {"start": window_start},
    )
    return {
        row["scale_id"]: _scale(row, decisions.get(row["scale_id"], []), window_start)
        if row["initialised"]
        else Scale(row["scale_id"], scored=row["scored"])
        for row in rows
    }


def _scale(row: Mapping[str, Any], decisions: list[ScaleDecision], window_start: datetime | None) -> Scale:
    decided = decision_in_force(decisions, "model", window_start)
    occasions = decision_in_force(decisions, "occasions", window_start)
    return Scale(
        row["scale_id"],
        mu=row["mu"],
        sigma=row["sigma"],
        model=decided.value if decided else row["model"],  # type: ignore[arg-type]
        engine=row["engine"],
        rules=Rules.from_settings({name: value for name, value in row["rules"].items() if name in STAGE_OF}),
        anchor_version=row["anchor_version"],
        initialised=True,
        pass_theta=row["pass_theta"],
        model_since=decided.effective_from if decided else None,
        priors=priors_in_force(decisions, window_start),
        occasions=occasions.value if occasions else "month",  # type: ignore[arg-type]
        scored=row["scored"],
        movement=movement_in_force(decisions, window_start),
    )


def initialised_scale(connection: psycopg.Connection, scale_id: str, window_start: datetime) -> Scale:
    """The scale as a window that begins then follows it. Raises PermanentFailure where it has no origin."""
    scale = read_scales(connection, window_start).get(scale_id)
    if scale is None or not scale.initialised:
        raise PermanentFailure(f"scale {scale_id} has no origin yet: `irt scale init --scale {scale_id}`")
    return scale


def accepted_subjects(connection: psycopg.Connection, scale_id: str, month_start: datetime) -> frozenset[Subject]:
    """What somebody has accepted of the scale for a month that begins at `month_start`: guessing that its model does
    not have, misfit."""
    decisions = read_decisions(connection, scale_id)
    in_force = (decision_in_force(decisions, subject, month_start) for subject in ACCEPTABLE)
    return frozenset(decided.subject for decided in in_force if decided is not None)


def store_scale(connection: psycopg.Connection, scale: Scale, origin: Mapping[str, Any]) -> None:
    """Make a scale. `origin`: its kind, and the start and end of a window; kept as it is."""
    connection.execute(
        """INSERT INTO calibration_scale (scale_id, origin, mu, sigma, model, engine, rules)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (scale.scale_id, json.dumps(origin), scale.mu, scale.sigma, scale.model, scale.engine)
        + (json.dumps(scale.rules.changed()),),
    )


def set_pass_mark(database: Database, scale_id: str, theta: float) -> None:
    """The θ from which on a learner has passed. Raises PermanentFailure for a scale without an origin, or no number."""
    if not math.isfinite(theta):
        raise PermanentFailure(f"a pass mark is a θ of the scale, e.g. 0.5, got {theta}")
    with database.connect() as connection:
        found = connection.execute(
            "UPDATE calibration_scale SET pass_theta = %s WHERE scale_id = %s", (theta, scale_id)
        ).rowcount
    if not found:
        raise PermanentFailure(f"scale {scale_id} has no origin yet: `irt scale init --scale {scale_id}`")


@dataclass(frozen=True)
class RuleChange:
    """A scale as it is and as its rules would be."""

    before: Scale
    after: Scale

    @property
    def rules(self) -> dict[str, Any]:
        """The rules that would change, with their new values."""
        old, new = self.before.rules.settings(), self.after.rules.settings()
        return {name: new[name] for name in new if new[name] != old[name]}

    @property
    def stages(self) -> list[str]:
        """The stages that they belong to, in the order of a month."""
        old, new = self.before.rules, self.after.rules
        return [stage for stage in STAGES if getattr(old, stage).hash != getattr(new, stage).hash]

    @property
    def sentence(self) -> str:
        """Which rules would change, and from what to what."""
        old = self.before.rules.settings()
        changes = [f"{name} {old[name]} → {value}" for name, value in self.rules.items()]
        return f"scale {self.before.scale_id}: " + (", ".join(changes) or "its rules have these values already")


def consider_rules(connection: psycopg.Connection, scale_id: str, settings: Mapping[str, Any]) -> RuleChange:
    """What laying `settings` over a scale's rules would change.

    Raises PsychometricsError for a rule that does not exist, is out of range or contradicts another one,
    PermanentFailure for a scale without an origin.
    """
    scale = read_scales(connection).get(scale_id)
    if scale is None or not scale.initialised:
        raise PermanentFailure(f"scale {scale_id} has no origin yet: `irt scale init --scale {scale_id} --set …`")
    rules = rules_from_settings(scale.rules.changed() | dict(settings))
    rules.require_effect()
    return RuleChange(scale, replace(scale, rules=rules))


def rules_from_settings(settings: Mapping[str, Any]) -> Rules:
    """`Rules.from_settings`, which also raises PsychometricsError for demanding an engine that there is not, and
    PermanentFailure for how abilities move, which is decided from a month on."""
    decided = [name for name in settings if name in MOVEMENT]
    if decided:
        raise PermanentFailure(
            f"{', '.join(decided)} {'is' if len(decided) == 1 else 'are'} decided from a month on, with the effect on "
            f"learners before it: `irt scale set {decided[0]}={settings[decided[0]]} --from YYYY-MM`, in a command of "
            "its own"
        )
    rules = Rules.from_settings(settings)
    require_demandable(rules.publication.demands)
    return rules


def change_rules(database: Database, scale_id: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `settings` over a scale's rules; returns what differs from the defaults now. Raises as `consider_rules`."""
    with database.connect() as connection:
        rules = consider_rules(connection, scale_id, settings).after.rules
        write_rules(connection, scale_id, rules)
    return rules.changed()


def write_rules(connection: psycopg.Connection, scale_id: str, rules: Rules) -> None:
    """Put `rules` in force for a scale."""
    connection.execute(
        "UPDATE calibration_scale SET rules = rules - %s::text[] || %s::jsonb WHERE scale_id = %s",
        ([*STAGE_OF], json.dumps(rules.changed()), scale_id),
    )
