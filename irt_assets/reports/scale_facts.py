"""Read the facts of a scale: model, rules, anchors, bank, linking, learners and movement.

Nothing is estimated here. `scale_blocks` lays the facts out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from irt_assets.adaptive.supply import TopicSupply, read_supplies
from irt_assets.calibration.linking_history import MONTHS_SHOWN, LinkedMonth, read_history
from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month, month_of
from irt_assets.decisions.bank import IN_USE, BankItem, bank_items
from irt_assets.decisions.movement_proposal import waiting_movement
from irt_assets.decisions.origin import OriginSummary, read_origin
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.linked_windows import last_fitted_month, linked_origin, linkings_of
from irt_assets.ledger.movement_proposals import MovementProposal, newest_proposal
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import ScaleDecision, read_decisions
from irt_psychometrics import ItemParameters
from irt_psychometrics.linking import AnchorSet
from resources.postgres.database import records

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Shares of the learners below each of `MeasuredMonth.quantiles`."""
SAMPLE_SHARES = tuple(((np.arange(400) + 0.5) / 400).tolist())
"""Shares of the learners below each of `MeasuredMonth.sample`."""


@dataclass(frozen=True)
class MeasuredMonth:
    """θ of the learners of a month, as of its end.

    Attributes:
        sd: None if there is one learner.
        quantiles: θ below which the `SHARES` of the learners are.
        sample: the same for `SAMPLE_SHARES`: 400 values that are distributed like the learners.
        passing: share of the learners at or above the pass mark, or None without a pass mark.
    """

    window_end: datetime
    learners: int
    mean: float
    sd: float | None
    mean_se: float
    quantiles: tuple[float, ...]
    sample: tuple[float, ...]
    passing: float | None

    @property
    def month(self) -> str:
        return month_of(self.window_end - timedelta(microseconds=1))


@dataclass(frozen=True, kw_only=True)
class ScaleFacts:
    """A scale.

    Attributes:
        at: time of the facts.
        origin: the origin window, or None if the bank is the origin.
        anchors: the newest anchor set, or None if the scale has no origin.
        decisions: decisions on model, priors, movement and rules, oldest first.
        items: every item of the scale.
        supplies: items of each topic, now and to come, and the number that blueprints need.
        measured: months with measured learners, oldest first.
        linked: linking of each fitted month, oldest first.
        reliability: reliability of θ in each month's fit; of a month in the origin window without a fit of its own, in
            the window's fit.
        proposal: the newest proposal of a movement, or None.
        is_waiting: whether the proposal waits for a decision.
    """

    scale: Scale
    at: datetime
    origin: OriginSummary | None
    anchors: AnchorSet | None
    decisions: tuple[ScaleDecision, ...]
    items: tuple[BankItem, ...]
    supplies: tuple[TopicSupply, ...]
    measured: tuple[MeasuredMonth, ...]
    linked: tuple[LinkedMonth, ...]
    reliability: Mapping[str, float | None]
    proposal: MovementProposal | None
    is_waiting: bool

    @property
    def in_use(self) -> list[BankItem]:
        return [item for item in self.items if item.status == IN_USE]

    @property
    def published(self) -> ItemParameters:
        """Parameters of the items in use."""
        return ItemParameters.from_rows([item.item_id for item in self.in_use], [item.values for item in self.in_use])

    @property
    def learners(self) -> Floats:
        """400 abilities that are distributed like the learners of the last measured month; empty without one."""
        return np.array(self.measured[-1].sample if self.measured else ())

    def rule_decision(self, name: str) -> ScaleDecision | None:
        """The last decision on a rule, or None if nobody has changed it since the scale was made."""
        return next((d for d in reversed(self.decisions) if d.subject == name), None)


def scale_facts(connection: psycopg.Connection, scale: Scale, at: datetime) -> ScaleFacts:
    """Read the facts of a scale as of `at`. Months are the last 24 with a fit, and with measured learners."""
    last = last_fitted_month(connection, scale) or ""
    measured, origin = tuple(read_measured_months(connection, scale)), linked_origin(connection, scale)
    of_origin = origin.spec.fit_statistics if origin else None
    return ScaleFacts(
        scale=scale,
        at=at,
        origin=read_origin(connection, scale.scale_id),
        anchors=read_anchors(connection, scale.scale_id, scale.anchor_version) if scale.initialised else None,
        decisions=tuple(read_decisions(connection, scale.scale_id)),
        items=tuple(bank_items(connection, scale, at)),
        supplies=tuple(read_supplies(connection, scale.scale_id, at)),
        measured=measured,
        linked=tuple(read_history(connection, scale, last)),
        reliability={
            each.month: of_origin.reliability
            for each in measured
            if of_origin and overlapping_origin(connection, scale.scale_id, *Month(each.month).bounds)
        }
        | {
            fit.month: fit.spec.fit_statistics.reliability
            for fit in linkings_of(connection, scale, last, MONTHS_SHOWN)
            if fit.spec.fit_statistics
        },
        proposal=newest_proposal(connection, scale.scale_id),
        is_waiting=waiting_movement(connection, scale) is not None,
    )


def read_measured_months(connection: psycopg.Connection, scale: Scale) -> list[MeasuredMonth]:
    """θ of the last 24 months in which learners of the scale were measured, oldest first."""
    return records(
        connection,
        MeasuredMonth,
        """SELECT window_end, count(*) AS learners, avg(theta) AS mean, stddev_samp(theta) AS sd, avg(se) AS mean_se,
                  percentile_cont(%(shares)s::float8[]) WITHIN GROUP (ORDER BY theta) AS quantiles,
                  percentile_cont(%(sample)s::float8[]) WITHIN GROUP (ORDER BY theta) AS sample,
                  avg((theta >= %(pass)s)::int)::float8 AS passing
           FROM mirt_ability WHERE kind = 'monthly' AND scale_id = %(scale)s AND window_end > (
             SELECT max(window_end) FROM mirt_ability WHERE kind = 'monthly' AND scale_id = %(scale)s
           ) - %(months)s * interval '1 month'
           GROUP BY window_end ORDER BY window_end""",
        {"scale": scale.scale_id, "pass": scale.pass_theta, "months": MONTHS_SHOWN}
        | {"shares": [*SHARES], "sample": [*SAMPLE_SHARES]},
    )


def as_dict(facts: ScaleFacts) -> dict[str, Any]:
    """The facts as plain values, for JSON."""
    scale, anchors, defaults = facts.scale, facts.anchors, Rules().settings()
    rules = {name: (value, facts.rule_decision(name)) for name, value in scale.rules.settings().items()}
    window = facts.origin.window if facts.origin else None
    return {
        "scale_id": scale.scale_id,
        "model": scale.model,
        "engine": scale.engine,
        "priors": asdict(scale.priors) if scale.priors else None,
        "population": {"mean": scale.mu, "sd": scale.sigma},
        "pass_theta": scale.pass_theta,
        "since": scale.since,
        "origin": [window.window_start, window.window_end] if window else None,
        "anchors": None if anchors is None else dict(zip(anchors.item_ids, anchors.b.tolist(), strict=True)),
        "items": {item.item_id: item.status for item in facts.items},
        "rules": {
            name: {"value": value, "default": defaults[name], "decision": asdict(decision) if decision else None}
            for name, (value, decision) in rules.items()
        },
        "months": [
            {name: value for name, value in asdict(month).items() if name != "sample"}
            | {"month": month.month, "reliability": facts.reliability.get(month.month)}
            for month in facts.measured
        ],
        "linking": [
            {"month": m.month, "slope": m.constants and m.constants.slope}
            | {"intercept": m.constants and m.constants.intercept, "error": m.error}
            for m in facts.linked
        ],
        "movement": asdict(scale.movement),
        "proposal": asdict(facts.proposal) if facts.proposal else None,
        "decisions": [asdict(decision) for decision in facts.decisions],
    }
