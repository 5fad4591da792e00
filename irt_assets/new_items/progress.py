"""Rows of the table `item_pipeline`: progress and obstacles of each unpublished item."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from scipy.stats import norm

from irt_assets.common.wording import quantity
from irt_assets.gates.model_gates import MISFIT_LEVEL
from irt_assets.scales.rules import SeedRules
from resources.postgres.database import records

SILENCE = timedelta(days=14)
HORIZON = timedelta(days=182)
MIN_PROBABILITY = 0.5
"""Least probability of passing an item gate with which an item is publishable."""
MAX_MISFIT = float(norm.isf(MISFIT_LEVEL / 6))
"""Largest |z| of the misfit in the thirds of an item's learners; a sound item exceeds it once in 1,000 times."""


class Obstacle(NamedTuple):
    """Reason why an item does not get ahead, and the remedy."""

    reason: str
    remedy: str


ACCUSED = Obstacle(
    "another option beats its key",
    "Read the item. If the option is right, `irt items rekey ITEM --key OPTION`; otherwise `irt items reject ITEM`.",
)
ONE_SCORE = Obstacle(
    "all its answers have the same score",
    "Check its key, and whether the item is far too hard or too easy. Correct it, or `irt items reject ITEM`.",
)
NOT_POSITIVE = Obstacle(
    "stronger learners do no better on it",
    "Check its key and text. Correct the key by `irt items rekey ITEM`, or `irt items reject ITEM`.",
)
MISFIT = Obstacle(
    "its answers do not follow its curve",
    "Check its key, and whether weak learners guess or the text has changed. Correct it, or `irt items reject ITEM`.",
)
FAILS_GATE = Obstacle(
    "it will probably not pass an item gate",
    "Read its values. If the item is far too hard or too easy for these learners, `irt items reject ITEM`.",
)
SILENT = Obstacle(
    f"no answers in {SILENCE.days} days",
    "Raise its limits by `irt items seed ITEM`, put it on a form, or `irt items reject ITEM`.",
)
WITHDRAWN = Obstacle(
    "it is withdrawn from use", "Restore it by `irt items restore ITEM`, or reject it by `irt items reject ITEM`."
)
SLOW = Obstacle(
    "it will not be publishable within 6 months",
    "Show it to more learners: raise its limits by `irt items seed ITEM`, or seed fewer items at once.",
)
REMEDIES = dict((WITHDRAWN, ACCUSED, ONE_SCORE, NOT_POSITIVE, MISFIT, FAILS_GATE, SILENT, SLOW))
"""Reason why an item is stuck → the remedy."""


@dataclass(frozen=True, kw_only=True)
class PipelineItem:
    """A row of `item_pipeline`: an unpublished item, as of the answers up to `evaluated_at`.

    Attributes:
        parameters: as `ledger.encoding.item_as_json` encodes them; empty if the item could not be estimated.
        p_gates: item gate → probability of passing it.
    """

    scale_id: str
    item_id: str
    model: str
    parameters: Mapping[str, Any]
    n: int
    first_at: datetime
    last_at: datetime
    measured_at: datetime | None
    prior_share: float | None
    p_gates: Mapping[str, float]
    e_value: float | None
    accused: bool
    position: float | None
    misfit: float | None
    flags: Sequence[str]
    publishable: bool
    publishable_at: datetime | None
    ready_at: date | None
    ready_from: date | None
    ready_to: date | None
    stuck: str | None
    evaluated_at: datetime

    @property
    def b_se(self) -> float | None:
        """Standard error of b, or None."""
        return self.parameters.get("b_se")

    @property
    def ln_a_se(self) -> float | None:
        """Standard error of ln a, or None; 0 for models with a fixed slope."""
        se = self.parameters.get("a_se")
        return None if se is None else se / self.parameters["a"]

    @property
    def remedy(self) -> str:
        """Remedy if the item is stuck, or ""."""
        return REMEDIES.get(self.stuck or "", "").replace("ITEM", shlex.quote(self.item_id))

    def as_row(self) -> dict[str, Any]:
        """Return the item as a flat row for files, with a column for each parameter and each gate's probability."""
        own = asdict(self)
        gates = {f"p_{name}": p for name, p in own.pop("p_gates").items()}
        listed = {"flags": ", ".join(own.pop("flags")), "remedy": self.remedy}
        return own | own.pop("parameters") | gates | listed

    def progress(self, rules: SeedRules) -> float:
        """Return the least share reached of the answers and of the precisions of b and ln a that the rules demand."""
        if self.b_se is None or self.ln_a_se is None:
            return 0.0
        limits = ((rules.seed_max_b_se, self.b_se), (rules.seed_max_ln_a_se, self.ln_a_se))
        shares = ((limit / se) ** 2 for limit, se in limits if se > limit)
        return min(1.0, self.n / rules.seed_min_responses, *shares)

    @property
    def passes_gates(self) -> bool:
        """Whether the item passes each item gate with a probability of at least `MIN_PROBABILITY`."""
        return bool(self.p_gates) and min(self.p_gates.values()) >= MIN_PROBABILITY

    def shortfalls(self, rules: SeedRules) -> Iterator[str]:
        """Yield why nobody may publish the item yet, each rule with the item's number."""
        if self.b_se is None or self.ln_a_se is None or not self.p_gates:
            yield "could not be estimated"
        if self.n < rules.seed_min_responses:
            yield f"has {quantity(self.n, 'answer')}, but seed_min_responses is {rules.seed_min_responses}"
        for name, se, rule in (("b", self.b_se, "seed_max_b_se"), ("ln a", self.ln_a_se, "seed_max_ln_a_se")):
            if se is not None and se > getattr(rules, rule):
                yield f"has SE({name}) = {se:.3f}, but {rule} is {getattr(rules, rule):g}"
        for gate, p in self.p_gates.items():
            if p < MIN_PROBABILITY:
                yield f"passes the gate {gate} with probability {p:.2f}, but must pass with {MIN_PROBABILITY:g} or more"
        if self.accused:
            rekey = f"`irt items rekey {shlex.quote(self.item_id)}`"
            yield f"has a key that another option beats (e-value {self.e_value or 0:.3g}): {rekey}"
        yield from (f"has the flag {flag}" for flag in self.flags)

    def meets(self, rules: SeedRules) -> bool:
        """Return whether a person may publish the item by the scale's rules. The prior's share decides nothing."""
        return not any(self.shortfalls(rules))

    def obstacle(self, rules: SeedRules) -> Obstacle | None:
        """Find the first obstacle. Returns None if it may be published or gets ahead."""
        seen = self.evaluated_at - self.first_at >= SILENCE
        late = self.ready_at is None or self.ready_at > (self.evaluated_at + HORIZON).date()
        found = {
            WITHDRAWN: "withdrawn" in self.flags,
            ACCUSED: self.accused,
            ONE_SCORE: "one_score" in self.flags and self.n >= rules.seed_min_responses,
            NOT_POSITIVE: self.p_gates.get("positive_a", 1.0) < MISFIT_LEVEL,
            MISFIT: "misfit" in self.flags,
            FAILS_GATE: self.progress(rules) >= 1 and not self.passes_gates,
            SILENT: self.evaluated_at - self.last_at >= SILENCE,
            SLOW: seen and late,
        }
        return None if self.meets(rules) else next((obstacle for obstacle, applies in found.items() if applies), None)


def read_pipeline(
    connection: psycopg.Connection, scale_id: str | None = None, items: Collection[str] | None = None
) -> list[PipelineItem]:
    """Read the unpublished items with answers of a scale, or some of them, as the last night found them. None: all."""
    return records(
        connection,
        PipelineItem,
        """SELECT * FROM item_pipeline WHERE coalesce(scale_id = %s, true) AND coalesce(item_id = ANY(%s), true)
           ORDER BY scale_id, item_id""",
        (scale_id, None if items is None else [*items]),
    )
