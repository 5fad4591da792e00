"""The scales of the bank and their rules, read from the database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.engines.registry import require_demandable
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.scales.rules import STAGE_OF, STAGES, Occasions, Rules, line_through
from irt_assets.scales.scale_decisions import (
    ACCEPTABLE,
    MOVEMENT,
    ScaleDecision,
    Subject,
    decision_in_force,
    marks_in_force,
    movement_in_force,
    priors_in_force,
    read_decisions,
    record_decisions,
)
from irt_psychometrics.items import Priors, ScaleModel, item_model
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure
from resources.postgres.database import Database, named_rows


@dataclass(frozen=True)
class Scale:
    """Items of the bank that measure one ability, and the settings of their calibration.

    Attributes:
        mu, sigma: mean and SD of the population that abilities are reported against.
        model, priors: as decided for the window for which the scale was read. `priors` are the scale's own, or None.
        rules: the default rules if the scale has no origin yet.
        initialised: whether the scale has an origin. A scale that only occurs in the bank has no origin.
        pass_theta: pass mark in θ of this scale, or None.
        marks: pass marks of scores without θ, by unit: raw, percent or percentile.
        model_since: time from which a decision sets the model. None: the origin sets it.
        occasions: unit that counts as a person in a fit: a learner's month, or each of a learner's weeks in it.
        scored: whether an item of the scale has a maximum score above 1.
        movement: movement of its learners' abilities as of the time for which the scale was read.
        since: time at which the scale got its origin, or None.
    """

    scale_id: str
    mu: float = 0.0
    sigma: float = 1.0
    model: ScaleModel = DEFAULT_MODEL
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
    since: datetime | None = None
    marks: Mapping[str, float] = field(default_factory=dict, hash=False)

    def min_published_responses(self, max_score: int) -> int:
        """Return the number of responses below which a fitted item with this maximum score is provisional."""
        return self.rules.eligibility.min_published_responses(item_model(self.model).of_max_score(max_score).name)

    @property
    def pass_mark(self) -> float | None:
        """The pass mark in the unit of the scale's scores, or None."""
        unit = self.rules.scores.unit
        return self.pass_theta if unit == "theta" else self.marks.get(unit)


def read_scales(connection: psycopg.Connection, window_start: datetime | None = None) -> dict[str, Scale]:
    """Read all scales of the bank and all initialised scales, by id.

    Model, priors and anchors are the ones that apply to a window from `window_start` on (None: the newest).
    """
    return read_scales_of_windows(connection, {"": window_start})[""]


def read_scales_of_windows(
    connection: psycopg.Connection, starts: Mapping[str, datetime | None]
) -> dict[str, dict[str, Scale]]:
    """Read the scales as they apply to each of several windows (see `read_scales`), by window and id.

    `starts`: window → its start.
    """
    decisions: dict[str, list[ScaleDecision]] = {}
    for decision in read_decisions(connection):
        decisions.setdefault(decision.scale_id, []).append(decision)
    rows = named_rows(
        connection,
        """
            SELECT w.name AS window, s.scale_id, c.mu, c.sigma, c.model, c.engine, c.rules,
                   coalesce(v.version, c.anchor_version) AS anchor_version,
                   c.pass_theta, c.scale_id IS NOT NULL AS initialised, c.initialised_at, s.scored
            FROM unnest(%s::text[], %s::timestamptz[]) AS w (name, start)
            CROSS JOIN (
              SELECT scale_id, bool_or(scored) AS scored FROM (
                SELECT scale_id, coalesce(max_score > 1, false) AS scored FROM question
                UNION SELECT scale_id, false FROM calibration_scale) known
              GROUP BY scale_id
            ) s
            LEFT JOIN calibration_scale c USING (scale_id)
            LEFT JOIN LATERAL (
              SELECT max(version) AS version FROM anchor_set a
              WHERE a.scale_id = c.scale_id AND coalesce(a.effective_from <= w.start, true)
            ) v ON true ORDER BY 2""",
        ([*starts], [*starts.values()]),
    )
    scales: dict[str, dict[str, Scale]] = {window: {} for window in starts}
    for row in rows:
        scale_id, window = row["scale_id"], row["window"]
        scales[window][scale_id] = (
            _scale(row, decisions.get(scale_id, []), starts[window])
            if row["initialised"]
            else Scale(scale_id, scored=row["scored"])
        )
    return scales


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
        since=row["initialised_at"],
        marks=marks_in_force(decisions),
    )


def named_scale(scales: Mapping[str, Scale], scale_id: str) -> Scale:
    """Return one of the scales. Raises PermanentFailure, which names all scales, if it does not exist."""
    if scale_id not in scales:
        raise PermanentFailure(f"there is no scale {scale_id}; there are: {', '.join(scales) or 'none'}")
    return scales[scale_id]


def initialised_scale(connection: psycopg.Connection, scale_id: str, window_start: datetime | None) -> Scale:
    """The scale as it applies to a window from `window_start` on (None: by the newest decisions).

    Raises PermanentFailure if it has no origin.
    """
    scale = read_scales(connection, window_start).get(scale_id)
    if scale is None or not scale.initialised:
        raise PermanentFailure(f"scale {scale_id} has no origin yet: `irt scale init --scale {scale_id}`")
    return scale


def accepted_subjects(connection: psycopg.Connection, scale_id: str, month_start: datetime) -> frozenset[Subject]:
    """Subjects of `ACCEPTABLE` that somebody has accepted for a scale's month that begins at `month_start`.

    `guessing` means: learners guess, although the model has no guessing parameter.
    """
    decisions = read_decisions(connection, scale_id)
    in_force = (decision_in_force(decisions, subject, month_start) for subject in ACCEPTABLE)
    return frozenset(decided.subject for decided in in_force if decided is not None)


def store_scale(connection: psycopg.Connection, scale: Scale, origin: Mapping[str, Any]) -> None:
    """Store a new scale. `origin`: its kind, and the start and end of a window; stored as JSON."""
    connection.execute(
        """INSERT INTO calibration_scale (scale_id, origin, mu, sigma, model, engine, rules)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (scale.scale_id, json.dumps(origin), scale.mu, scale.sigma, scale.model, scale.engine)
        + (json.dumps(scale.rules.non_defaults()),),
    )


def write_pass_mark(connection: psycopg.Connection, scale_id: str, theta: float | None) -> None:
    """Store the pass mark of a scale; None removes the mark."""
    connection.execute("UPDATE calibration_scale SET pass_theta = %s WHERE scale_id = %s", (theta, scale_id))


@dataclass(frozen=True)
class RuleChange:
    """A scale before and after a proposed change of its rules."""

    before: Scale
    after: Scale

    @property
    def rules(self) -> dict[str, Any]:
        """The rules that would change, with their new values."""
        old, new = self.before.rules.settings(), self.after.rules.settings()
        return {name: new[name] for name in new if new[name] != old[name]}

    @property
    def stages(self) -> list[str]:
        """The stages of the rules that would change, in the order of a month."""
        old, new = self.before.rules, self.after.rules
        return [stage for stage in STAGES if getattr(old, stage).hash != getattr(new, stage).hash]

    @property
    def sentence(self) -> str:
        """The changes as text: each rule with its old and new value."""
        old = self.before.rules.settings()
        changes = [f"{name} {old[name]} → {value}" for name, value in self.rules.items()]
        return f"scale {self.before.scale_id}: " + (", ".join(changes) or "its rules have these values already")


def preview_rules(connection: psycopg.Connection, scale_id: str, settings: Mapping[str, Any]) -> RuleChange:
    """The change that `settings` would make to a scale's rules. Stores nothing.

    Raises PsychometricsError if a rule does not exist, is out of range or contradicts another rule, and
    PermanentFailure if the scale has no origin.
    """
    scale = read_scales(connection).get(scale_id)
    if scale is None or not scale.initialised:
        raise PermanentFailure(f"scale {scale_id} has no origin yet: `irt scale init --scale {scale_id} --set …`")
    rules = rules_from_settings(scale.rules.non_defaults() | dict(settings))
    rules.require_effect()
    return RuleChange(scale, replace(scale, rules=rules))


def rules_from_settings(settings: Mapping[str, Any]) -> Rules:
    """`Rules.from_settings` with more checks. `score_points` gives slope and intercept of the reported scale.

    Also raises PsychometricsError if an engine that does not exist is demanded, and PermanentFailure for settings of
    the movement of abilities, which are decisions from a month on and not rules.
    """
    decided = [name for name in settings if name in MOVEMENT]
    if decided:
        raise PermanentFailure(
            f"{', '.join(decided)} {'is' if len(decided) == 1 else 'are'} decided from a month on, after a preview of "
            f"the effect on learners: use `irt scale set {decided[0]}={settings[decided[0]]} --from YYYY-MM` in a "
            "separate command"
        )
    line = line_through(settings["score_points"]) if "score_points" in settings else {}
    rules = Rules.from_settings({name: settings[name] for name in settings if name != "score_points"} | line)
    require_demandable(rules.publication.demands)
    return rules


def change_rules(
    database: Database, scale_id: str, settings: Mapping[str, Any], *, by: str = "", reason: str = ""
) -> dict[str, Any]:
    """Replace rules of a scale by `settings`. Returns the rules that now differ from the defaults.

    If `by` is given, a decision is recorded on each rule that changes. Raises the errors of `preview_rules`.
    """
    with database.connect() as connection:
        change = preview_rules(connection, scale_id, settings)
        write_rules(connection, scale_id, change.after.rules)
        if by:
            values = {name: json.dumps(value) for name, value in change.rules.items()}
            first_month = Month(database.settings.irt_first_month).start
            record_decisions(connection, scale_id, values, first_month, by=by, reason=reason)
    return change.after.rules.non_defaults()


def write_rules(connection: psycopg.Connection, scale_id: str, rules: Rules) -> None:
    """Store `rules` as the rules of a scale."""
    connection.execute(
        "UPDATE calibration_scale SET rules = rules - %s::text[] || %s::jsonb WHERE scale_id = %s",
        ([*STAGE_OF], json.dumps(rules.non_defaults()), scale_id),
    )
