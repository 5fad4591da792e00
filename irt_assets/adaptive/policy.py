"""The policy of an adaptive test, as people write it in YAML.

`versions` stores policies as decisions. `banks` turns a policy and a published set into a plan.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from irt_assets.adaptive.yaml_lines import MAX_COUNT, ContentRules, Name, Part, Share, items_by_testlet
from irt_psychometrics.adaptive import AdaptiveTest

MAX_ITEMS, MAX_UNSCORED = 200, 0.5
"""Largest number of scored items of a test, and largest share of places for other items."""
MAX_PLACES = round(MAX_ITEMS / (1 - MAX_UNSCORED))


class Length(Part):
    """The numbers of items, and the standard error at which a test ends."""

    min: int = Field(default=1, ge=1)
    max: int = Field(ge=1, le=MAX_ITEMS)
    se: float | None = Field(default=None, gt=0)


class Classification(Part):
    """The pass mark (by default the scale's), and the rule by which a test ends early."""

    cut: float | None = None
    rule: Literal["sprt", "interval"] = "sprt"
    indifference: float = Field(default=0.2, gt=0)
    false_pass: Share = 0.05
    false_fail: Share = 0.05
    confidence: Share = 0.95


class Exposure(Part):
    """The largest share of learners who may see an item, over all θ or in intervals of θ, and random choice."""

    max: Share | None = None
    theta_cuts: tuple[float, ...] = ()
    randomesque: int = Field(default=1, ge=1, le=MAX_COUNT)


class Policy(ContentRules):
    """The policy of an adaptive test.

    Attributes:
        test: the test, which is the form of its sessions.
        start: items are chosen from the population or from the learner's θ of now on.
        score_by: estimates and the end of the test use the population and the session's answers, or the learner's θ of
            now and the session's answers.
        testlets: whether the items of a testlet are given together.
        unscored: share of places for items without published values.
        look_back_days: days for which an item is not given to a learner again.
    """

    test: Name
    start: Literal["population", "theta-now"] = "population"
    score_by: Literal["session", "theta-now"] = "session"
    method: str = "maximum-information"
    estimator: str = "eap"
    length: Length
    classify: Classification | None = None
    testlets: bool = False
    content: str = "priority"
    exposure: Exposure = Exposure()
    unscored: Annotated[float, Field(ge=0, le=MAX_UNSCORED)] = 0.0
    look_back_days: int = Field(default=365, ge=0, le=3650)

    @model_validator(mode="after")
    def _require_valid_rules(self) -> "Policy":
        if self.score_by == "theta-now" != self.start:
            raise ValueError("score_by: theta-now needs start: theta-now")
        self.declaration({}, 0.0)
        return self

    def needed(self, per_session: int) -> int:
        """Compute the least number of items of a group in the bank if each session has `per_session` of them.

        An item is in at most the share `exposure.max` of the sessions.
        """
        return math.ceil(round(per_session / (self.exposure.max or 1), 9))

    def declaration(self, bank: Mapping[str, Mapping[str, Any]], pass_theta: float | None) -> AdaptiveTest:
        """The rules for the library.

        `bank` has `topic`, `format` and `testlet` of each item. Raises ValueError if the rules are not possible, or
        if the test classifies and there is no pass mark.
        """
        cut = (self.classify.cut if self.classify.cut is not None else pass_theta) if self.classify else None
        if self.classify and cut is None:
            raise ValueError(f"scale {self.scale} has no pass mark: `irt scale pass-mark`, or set classify.cut")
        rules = self.classify or Classification()
        return AdaptiveTest(
            method=self.method,  # type: ignore[arg-type]
            estimator=self.estimator,  # type: ignore[arg-type]
            min_items=self.length.min,
            max_items=self.length.max,
            max_se=self.length.se,
            cut=cut,
            cut_rule=rules.rule,
            indifference=rules.indifference,
            false_pass=rules.false_pass,
            false_fail=rules.false_fail,
            confidence=rules.confidence,
            limits=tuple(self.limits(bank)),
            testlets=tuple(items_by_testlet(bank).values()) if self.testlets else (),
            content=self.content,  # type: ignore[arg-type]
            max_exposure=self.exposure.max,
            exposure_cuts=self.exposure.theta_cuts,
            randomesque=self.exposure.randomesque,
            unscored=round(self.unscored * self.length.max / (1 - self.unscored)),
        )
