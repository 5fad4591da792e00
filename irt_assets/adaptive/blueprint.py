"""The blueprint of forms, as people write it in YAML. `forms` assembles it."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from irt_assets.adaptive.yaml_lines import MAX_COUNT, ContentRules, Count, Limits, Name, Part, Share, items_by_testlet
from irt_psychometrics.adaptive import ItemLimit
from irt_psychometrics.assembly import FormDesign, SumLimit
from resources.failures import PermanentFailure


class Objective(Part):
    """The information that counts: its kind, the points of θ (by default the pass mark or the mean), and the target."""

    kind: Literal["maximum", "maximin", "target", "shortest"] = "maximum"
    theta: tuple[float, ...] = ()
    target: tuple[float, ...] | None = None
    certainty: Share | None = 0.95


class Anchors(Part):
    """The number of anchors in a form, and their source: a form, a list of items, or both."""

    n: int = Field(ge=1, le=MAX_COUNT)
    form: str | None = None
    items: tuple[str, ...] = ()
    bands: int = Field(default=3, ge=1, le=10)


class Blueprint(ContentRules):
    """The rules of one or more forms.

    Attributes:
        name, forms: the name and the number of the forms. With several, the forms are NAME-1, NAME-2 and so on.
        length: the minimum (by default the maximum) and the maximum number of items.
        columns: limits on sums of numbers in `meta` of a question, such as words.
        testlets: the number of items of a testlet that a form has, if it has any; `{}`: all of its items. Without
            `testlets`, the items of a testlet are chosen one by one.
        uses: the number of forms that an item is in. Anchors may be in all forms.
        overlap: the maximum number of items that two forms have in common, apart from anchors.
        max_exposure: items that a larger share of a month's learners saw in the last year are in no form.
        included, excluded: items that are in every form, or in no form.
        seed_places: positions in each form that draws of new items fill, from 1. The form's items have the others.
        seconds: the time limit of the search, after which the best forms found are taken.
    """

    name: Name
    forms: int = Field(default=1, ge=1, le=100)
    length: Limits
    objective: Objective = Objective()
    columns: Mapping[str, Mapping[Literal["min", "max"], float]] = {}
    testlets: Limits | None = None
    anchors: Anchors | None = None
    uses: Limits = Limits(max=1)
    overlap: Count | None = None
    max_exposure: Share | None = None
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    seed_places: tuple[Annotated[int, Field(ge=1, le=MAX_COUNT)], ...] = ()
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0

    @model_validator(mode="after")
    def _require_valid_rules(self) -> Self:
        self.design({}, 0.0)
        last = (self.length.min or self.length.max or 0) + len(self.seed_places)
        if len({*self.seed_places}) < len(self.seed_places) or max(self.seed_places, default=0) > last:
            raise ValueError(f"seed_places must be different positions from 1 to {last}, got {[*self.seed_places]}")
        return self

    @property
    def names(self) -> list[str]:
        """The names of the forms."""
        return [self.name] if self.forms == 1 else [f"{self.name}-{k}" for k in range(1, self.forms + 1)]

    def needed(self, per_form: int) -> int:
        """Compute the least number of items of a group in the bank if each form has `per_form` of them.

        Anchors may be in all forms; each other item is in at most `uses.max` forms.
        """
        anchors = min(self.anchors.n, per_form) if self.anchors else 0
        uses = min(self.uses.max or self.forms, self.forms)
        return anchors + math.ceil(self.forms * (per_form - anchors) / uses)

    def places(self, items: Sequence[str]) -> dict[int, str]:
        """Return the item in each place of a form with these items, in order. Seed places have ""."""
        free = (place for place in count(1) if place not in self.seed_places)
        filled = {place: item for item, place in zip(items, free, strict=False)}
        return dict(sorted((filled | dict.fromkeys(self.seed_places, "")).items()))

    @property
    def items(self) -> set[str]:
        """The items that the blueprint names."""
        anchors = self.anchors.items if self.anchors else ()
        return {*self.included, *self.excluded, *anchors, *(item for group in self.enemies for item in group)}

    def design(
        self,
        bank: Mapping[str, Mapping[str, Any]],
        theta: float,
        anchor_form: Sequence[str] = (),
        left_out: Mapping[str, tuple[str, ...]] = {},
    ) -> FormDesign:
        """The rules for the library.

        Parameters
        ----------
        bank
            `topic`, `format`, `testlet` and `meta` of each item.
        theta
            The point of the information if the blueprint has no point.
        anchor_form
            The items of the form from which anchors may come.
        left_out
            Items that are in no form, by the reason.

        Raises PermanentFailure if an item has no number in a column.
        """
        wanted, length, taken, anchors = self.objective, self.length.max or 0, self.testlets or Limits(), None
        gone = {*chain(*left_out.values())}
        free = {item: own for item, own in bank.items() if item not in gone}
        if self.anchors:
            candidates = tuple(item for item in free if item in self.anchors.items or item in anchor_form)
            anchors = ItemLimit("anchors", candidates, self.anchors.n, self.anchors.n)
        return FormDesign(
            forms=self.forms,
            min_items=self.length.min or length,
            max_items=length,
            objective=wanted.kind,
            theta=wanted.theta or (theta,),
            target=wanted.target,
            certainty=wanted.certainty,
            limits=(*self.limits(bank), *(ItemLimit(reason, items, 0, 0) for reason, items in left_out.items())),
            sums=tuple(_sum_limit(name, own, free) for name, own in self.columns.items()),
            testlets=tuple(
                ItemLimit(name, own, min(taken.min or (1 if taken.max else len(own)), len(own)), taken.max)
                for name, own in items_by_testlet(free).items()
                if self.testlets
            ),
            anchors=anchors,
            anchor_bands=self.anchors.bands if self.anchors else 3,
            min_uses=self.uses.min,
            max_uses=self.forms if self.uses.max is None else self.uses.max,
            max_overlap=self.overlap,
            included=self.included,
        )


def _sum_limit(column: str, ends: Mapping[Any, float], bank: Mapping[str, Mapping[str, Any]]) -> SumLimit:
    values = {item: own["meta"].get(column) for item, own in bank.items()}
    if wrong := [item for item, value in values.items() if not isinstance(value, int | float)]:
        raise PermanentFailure(
            f"{len(wrong)} items have no number {column} in `meta`, such as {wrong[0]}: add it with `irt import "
            "questions`, or exclude the items"
        )
    return SumLimit(column, values, ends.get("min", -math.inf), ends.get("max", math.inf))


def in_order(items: Sequence[str], questions: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the items in the order of the bank, with the items of a testlet together, at the place of the first."""
    place: dict[str, int] = {}
    return tuple(sorted(items, key=lambda item: place.setdefault(questions[item]["testlet"] or item, len(place))))
