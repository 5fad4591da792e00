"""DIF of a learner attribute: which items are harder, or tell less, for one group than for another of equal ability.

Belongs here: which groups can be tested, and the three methods' results together. Does not belong here: the methods
(dif_wald.py, dif_mantel_haenszel.py, dif_logistic.py), and which attributes are asked about.

The Wald test is the one that decides. Mantel-Haenszel and logistic regression are shown beside it, within forms, as
they compare learners of equal score on the same items.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.dif_forms import cells, sittings
from irt_assets.psychometrics.dif_logistic import LogisticDif, logistic_dif
from irt_assets.psychometrics.dif_mantel_haenszel import MantelHaenszel, mantel_haenszel
from irt_assets.psychometrics.dif_wald import Wald, compare_groups
from irt_assets.psychometrics.em import fit_em
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.models import Calibration, Model, Responses

TESTABLE = 200
"""Learners of a group; with fewer a slope's error is as large as slopes differ."""
ENOUGH = 500
"""With fewer, half of the items that differ by 0.5 stay unseen: "low power"."""


@dataclass(frozen=True)
class Group:
    """A value of the attribute. `reason` says why it is not tested; it is empty where it is."""

    name: str
    n_learners: int
    n_responses: int
    reason: str = ""

    @property
    def tested(self) -> bool:
        return not self.reason

    @property
    def low_power(self) -> bool:
        return self.tested and self.n_learners < ENOUGH


@dataclass(frozen=True)
class WithinForms:
    """Both methods that match on scores: an entry for each focal group, in the order of `Dif.wald.groups` without the
    reference, and for each item; None where the item was on no complete sitting of either group.

    `n_sittings` were complete, `n_incomplete` had no answer to an item of their form and were left out.
    """

    mantel_haenszel: tuple[tuple[MantelHaenszel | None, ...], ...]
    logistic: tuple[tuple[LogisticDif | None, ...], ...]
    n_sittings: int
    n_incomplete: int


@dataclass(frozen=True)
class Dif:
    """What is known of an attribute.

    Attributes:
        groups: all of them, the largest first, which is the reference.
        n_unknown: learners with responses and without the attribute.
        wald: None where fewer than two groups can be tested.
        within_forms: None also where nobody sat a form.
        reason: why there is no `wald`; empty where there is.
    """

    attribute: str
    groups: tuple[Group, ...]
    n_unknown: int
    wald: Wald | None
    within_forms: WithinForms | None
    reason: str = ""

    @property
    def not_testable(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if not group.tested)

    @property
    def low_power(self) -> tuple[str, ...]:
        return tuple(group.name for group in self.groups if group.low_power)


def analyse_dif(
    attribute: str,
    responses: Responses,
    values: Sequence[str | None],
    *,
    forms: Sequence[str | None] | None = None,
    model: Model = "2pl",
    anchor_items: Collection[str] | None = None,
    threads: int | None = None,
) -> Dif:
    """Compare the groups of an attribute.

    Args:
        attribute: its name, for the record.
        responses: scored responses of a window.
        values: the attribute of each person, n_persons of them; None where unknown.
        forms: the form of each response, R of them; None outside forms.
        model: "rasch", "1pl" or "2pl". A bank calibrated by a 3PL is compared by a 2PL.
        anchor_items: items known to be free of DIF; None to find them.
        threads: of the fits; None for all processors.

    Groups of fewer than 200 learners, and those whose fit fails, are named and not tested. Attributes that nothing can
    be said of give a `Dif` that says why.

    Raises PsychometricsError where lengths do not agree or the model is not one of the three.
    """
    for name, given, size in (("values", values, responses.n_persons), ("forms", forms, responses.n_responses)):
        if given is not None and len(given) != size:
            raise PsychometricsError(f"{name} of {attribute} must be {size} labels, got {len(given)}")
    if model == "3pl":
        raise PsychometricsError(f"DIF of {attribute}: groups are compared by a rasch, 1pl or 2pl model, not by a 3pl")
    answered = np.bincount(responses.person, minlength=responses.n_persons)
    labels = np.array(["" if value is None else str(value) for value in values], dtype=object)
    unknown = np.array([value is None for value in values], dtype=bool)
    groups, fits = [], []
    for name in sorted(set(labels[~unknown & (answered > 0)])):
        members = (labels == name) & ~unknown & (answered > 0)
        group, fit = _fitted(name, responses, members, model, threads)
        groups.append(group)
        fits.append(fit)
    order = sorted(range(len(groups)), key=lambda g: (-groups[g].n_learners, groups[g].name))
    groups = [groups[g] for g in order]
    tested = [(groups[k].name, fit) for k, g in enumerate(order) if (fit := fits[g]) is not None]
    n_unknown = int((unknown & (answered > 0)).sum())
    if len(tested) < 2:
        reason = f"{len(tested)} of {len(groups)} groups can be tested, two are needed"
        return Dif(attribute, tuple(groups), n_unknown, None, None, reason)
    names = [name for name, _ in tested]
    try:
        wald = compare_groups([fit for _, fit in tested], names, anchor_items=anchor_items)
    except PsychometricsError as error:
        return Dif(attribute, tuple(groups), n_unknown, None, None, str(error))
    within = None if forms is None else _within_forms(responses, forms, labels, unknown, wald)
    return Dif(attribute, tuple(groups), n_unknown, wald, within)


def _fitted(
    name: str, responses: Responses, members: npt.NDArray[np.bool_], model: Model, threads: int | None
) -> tuple[Group, Calibration | None]:
    rows = members[responses.person]
    size, n_responses = int(members.sum()), int(rows.sum())
    if size < TESTABLE:
        return Group(name, size, n_responses, f"{size} learners, {TESTABLE} are needed"), None
    place = np.cumsum(members) - 1
    own = Responses(
        place[responses.person[rows]].astype(np.int32),
        responses.item[rows],
        responses.score[rows],
        size,
        responses.item_ids,
    )
    try:
        fit = fit_em(own, model=model, threads=threads)
    except PsychometricsError as error:
        return Group(name, size, n_responses, f"it could not be fitted: {error}"), None
    if not fit.convergence.converged:
        return Group(name, size, n_responses, f"its fit did not converge: {fit.convergence.reason}"), None
    return Group(name, size, n_responses), fit


def _within_forms(
    responses: Responses,
    forms: Sequence[str | None],
    labels: npt.NDArray[np.object_],
    unknown: npt.NDArray[np.bool_],
    wald: Wald,
) -> WithinForms | None:
    """Matched on the Wald test's anchors, so that items with DIF do not spoil the score."""
    group = np.full(responses.n_persons, -1, dtype=np.int64)
    for g, name in enumerate(wald.groups):
        group[(labels == name) & ~unknown] = g
    taken, incomplete = sittings(responses, forms, group)
    if not taken:
        return None
    n_groups, anchors = len(wald.groups), set(wald.anchors)
    matching = [j for j, item in enumerate(responses.item_ids) if item in anchors]
    tables = [cells(taken, j, matching, n_groups) for j in range(responses.n_items)]
    focal = range(1, n_groups)
    return WithinForms(
        tuple(tuple(mantel_haenszel(t, f) if t.n.size else None for t in tables) for f in focal),
        tuple(tuple(logistic_dif(t, f) if t.n.size else None for t in tables) for f in focal),
        sum(len(sat.group) for sat in taken),
        incomplete,
    )
