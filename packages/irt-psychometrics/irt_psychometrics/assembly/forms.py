"""Assemble forms: the rules of a `FormDesign` as a program, its solution, and information reached with certainty."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from irt_psychometrics.adaptive.declaration import ItemLimit
from irt_psychometrics.assembly.design import FormDesign
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.linear_programs import Program, Rule
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.scoring.form_scores import require_curves

if TYPE_CHECKING:
    from irt_psychometrics.adaptive.item_posterior import ItemPosterior

_DRAWS, _BLOCK, _DENSITIES = 1000, 250, 10
"""Number of true banks, number drawn at once, and number of densities of slopes among these."""
_Promise = tuple[Floats, Floats]
"""Values of items, (J, K), and constants, (K,): the information that a form surely has is its sum less the constant."""
_TOLERANCE = 1e-6
"""Share of the target that a form may lack, so that the solver's own tolerance cannot choose a refused form again."""
_PROGRESS = 1e-3
"""Relative gain of a certain information below which it is not improved further."""
_CLOSE = 0.005
"""Share of the target by which the greatest distance to it may exceed the smallest possible one."""


@dataclass(frozen=True, eq=False, repr=False)
class AssembledForms(Result):
    """Forms that meet a design, and the proof of how good they are.

    Attributes
    ----------
    forms
        Ids of the items of each form, in the order of the bank.
    objective, bound
        Value of the objective, and the best value that any forms could have.
    theta
        Shape (K,), the points.
    information
        Shape (F, K), information of each form at each point; with `certainty`, its mean over true banks.
    reached
        Shape (F,), the share of true banks, newly drawn from the posterior, in which a form reaches the target at all
        points, or the value of the objective if it is maximised. None without `certainty`.
    rules
        Each rule on the content of a form in words, and the number in each form.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.assembly import AssembledForms
    >>> at, rules = np.array([0.0]), (("length: 2 items", (2.0,)),)
    >>> found = AssembledForms((("q1", "q7"),), 1.25, 1.25, at, np.array([[1.25]]), None, rules)
    >>> found.gap, found.to_frame("pandas")["item"].tolist()
    (0.0, ['q1', 'q7'])
    """

    forms: tuple[tuple[str, ...], ...]
    objective: float
    bound: float
    theta: Floats
    information: Floats
    reached: Floats | None
    rules: tuple[tuple[str, tuple[float, ...]], ...]
    frame_kind: str | None = None

    @property
    def gap(self) -> float:
        """Relative distance of `objective` from `bound`. The forms are proven the best if it is 0."""
        return abs(self.bound - self.objective) / max(abs(self.objective), 1e-9)

    def _title(self) -> str:
        lengths = sorted({len(form) for form in self.forms})
        items = f"{lengths[0]} items" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} items"
        return f"{len(self.forms)} {'form' if len(self.forms) == 1 else 'forms'} of {items}"

    def _facts(self) -> dict[str, str]:
        return {name: format_value(getattr(self, name)) for name in ("objective", "bound", "gap")}

    def _columns(self) -> dict[str, Any]:
        return {
            "form": np.repeat(np.arange(1, len(self.forms) + 1), [len(form) for form in self.forms]),
            "item": [item for form in self.forms for item in form],
        }

    def _html_columns(self) -> dict[str, Any]:
        """Return each rule, and the information at each θ, with the number of each form."""
        names = (f"information at θ = {at:g}" for at in self.theta)
        rows: list[tuple[str, Sequence[float] | Floats]] = [*self.rules]
        rows += zip(names, self.information.T, strict=False)
        if self.reached is not None:
            rows.append(("share of true banks that reach the target", self.reached))
        forms = {f"form {f + 1}": [_whole(numbers[f]) for _, numbers in rows] for f in range(len(self.forms))}
        return {"": [name for name, _ in rows], **forms}


def _whole(number: float) -> int | float:
    """Return a count as int, so that it is shown without decimals."""
    return int(number) if float(number).is_integer() else float(number)


def assemble(
    items: ItemSource,
    design: FormDesign,
    *,
    posterior: ItemPosterior | None = None,
    time_limit: float = 60.0,
    gap: float = 1e-4,
    random_state: int = 0,
) -> AssembledForms:
    """Choose the items of forms by mixed integer programming with HiGHS.

    With `certainty`, the information that a form has with this probability is its mean minus z standard deviations over
    true banks, with z and SD from the form's own distribution over drawn banks. Near a form this is nearly linear in
    the items, which gives the rule for the next forms, until other banks confirm the promise of the rule (cf.
    Spaccapanico Proietti, Matteucci, Mignani & Veldkamp 2023). The bound is then the bound of the last program.

    Parameters
    ----------
    items
        The bank: a `Fit`, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`.
    design
        The rules and the objective.
    posterior
        Posterior of the bank's true parameters, for `design.certainty`.
    time_limit
        Seconds of the search after which the best forms that were found are returned.
    gap
        The relative distance from the best possible objective at which the search ends; for "target", 0.5 % of the
        target is enough.
    random_state
        Seed of the drawn banks.

    Returns
    -------
    AssembledForms
        The forms, the proven bound of the objective, and the numbers found for each rule.

    Raises
    ------
    InfeasibleError
        If no forms meet the rules. The message names a smallest set of rules that conflict.
    PsychometricsError
        If `highspy` is not installed, a rule names an item that the bank does not have, an item has no parameters, or
        no form is found within the time limit.

    References
    ----------
    Spaccapanico Proietti, G., Matteucci, M., Mignani, S. & Veldkamp, B. P. (2023). Chance-constrained automated test
    assembly. Journal of Educational and Behavioral Statistics, 48.
    van der Linden, W. J. (2005). Linear models for optimal test design. New York: Springer.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.assembly import FormDesign, assemble
    >>> bank = irt.ItemParameters.from_frame({"item": list("abcd"), "a": [2, 1, 2, 1], "b": [0, 0, 0, 0]})
    >>> assemble(bank, FormDesign(min_items=2, max_items=2)).forms  # needs highspy
    (('a', 'c'),)
    """
    items = require_items(items, "assemble")
    if design.certainty is not None and posterior is None:
        raise PsychometricsError("certainty needs the posterior of the items: give ItemPosterior.from_items(items)")
    if design.values is None:
        require_curves(items, "the bank")
    content, width = [*_content_rules(items, design)], len(items.item_ids) + len(design.testlets)
    rules, binary, step = [*_all_forms(items, design, content, width)], design.forms * width, _step(design)
    sign = 1.0 if design.has_floor else -1.0
    close = _CLOSE * max(design.target or [0.0]) if design.objective == "target" else 0.0

    def solve(worth: Floats, promises: Sequence[_Promise]) -> tuple[Mask, float, float]:
        """Return the forms, shape (F, J), the objective and its bound."""
        whole = (*rules, *_information_rules(design, worth, promises, width))
        upper = np.ones(1 + max(binary, *(rule.columns.max(initial=0) for rule in whole)))
        cost = np.zeros_like(upper)
        upper[binary], cost[binary] = math.inf, sign * (step or 1.0)
        program, left = Program(whole, cost, upper, binary + (step > 0)), end - time.monotonic()
        seconds = left if design.certainty is None else left / 2  # other programs follow
        if (found := program.solve(time_limit=seconds, gap=gap, absolute_gap=close)) is None:
            raise program.conflict()
        x, value, bound = found
        return x[:binary].reshape(design.forms, width)[:, : len(worth)] > 0.5, sign * value, sign * bound

    if posterior is not None and design.certainty is not None:
        rng = np.random.default_rng(random_state)
        drawn, fresh = (_draw_worth(posterior, design, rng) for _ in range(2))
        worth = drawn.mean(axis=0)
        drawn, fresh = _criterion(drawn, design), _criterion(fresh, design)
        end = time.monotonic() + time_limit  # large banks take longer to draw than to search
        forms, objective, bound, reached = _with_certainty(design, solve, drawn, fresh, end - time_limit / 10)
    else:
        worth, end = _worth(items, design), time.monotonic() + time_limit
        criterion = _criterion(worth, design)
        (forms, objective, bound), reached = solve(criterion, [(criterion, np.zeros(criterion.shape[1]))]), None
    ids = np.array(items.item_ids)
    return AssembledForms(
        forms=tuple(tuple(ids[form].tolist()) for form in forms),
        objective=objective,
        bound=bound,
        theta=np.array(design.theta),
        information=forms @ worth,
        reached=reached,
        rules=tuple(
            (rule.name, tuple((forms[:, rule.columns] * rule.values).sum(axis=1).tolist()))
            for rule in content
            if (rule.columns < len(worth)).all()
        ),
    )


def _with_certainty(
    design: FormDesign, solve: Callable[..., tuple[Mask, float, float]], drawn: Floats, fresh: Floats, end: float
) -> tuple[Mask, float, float, Floats]:
    """Return the forms, the objective, its bound, and the share of banks in which each form has the information.

    Forms are judged by the banks `fresh`, shape (S, J, K). The weakest form gives a promise that all later forms must
    keep: the information that it surely has, and by the banks `drawn` (S, J, K) how similar forms differ from it. After
    the time `end`, information that is maximised is not improved further.
    """
    mean, shape = drawn.mean(axis=0), np.array(design.target or np.ones(drawn.shape[2]))
    promises, most, done = [(mean, np.zeros(len(shape)))], -math.inf, False
    while not done:
        forms, value, bound = solve(mean, promises)
        certain = np.array([_certain(fresh[:, form].sum(axis=1), design) for form in forms])
        least = (certain / shape).min(axis=1)
        weakest = least.argmin()
        values = _values_near(drawn, forms[weakest], design)
        promises.append((values, values[forms[weakest]].sum(axis=0) - certain[weakest]))
        if design.has_floor:
            done = least[weakest] >= 1 - _TOLERANCE
        else:
            done = least[weakest] <= most * (1 + _PROGRESS) or time.monotonic() > end
            if least[weakest] > most:
                best, most = forms, float(least[weakest])
    if not design.has_floor:
        forms, value, bound = best, most, max(most, bound)
    needed = shape * (1.0 if design.has_floor else value)
    return forms, value, bound, np.array([(fresh[:, form].sum(axis=1) >= needed).all(axis=1).mean() for form in forms])


def _content_rules(items: ItemParameters, design: FormDesign) -> Iterator[Rule]:
    """The rules on the content of one form, which has a column for each item, then one for each testlet."""
    place = {item: j for j, item in enumerate(items.item_ids)}

    def places(name: str, ids: Iterable[str]) -> Ints:
        if unknown := [item for item in ids if item not in place]:
            raise PsychometricsError(f"{name} names items that the bank does not have: {some_of(unknown)}")
        return np.array([place[item] for item in dict.fromkeys(ids)], dtype=int)

    limits, anchors = [ItemLimit("length", items.item_ids, design.min_items, design.max_items)], design.anchors
    limits += [*design.limits, *([anchors] if anchors else [])]
    if included := dict.fromkeys(design.included):
        limits.append(ItemLimit(f"included {some_of(included)}", tuple(included), len(included), len(included)))
    for limit in limits:
        most = math.inf if limit.most is None else limit.most
        yield Rule(f"{limit.name}: {_amount(limit.least, most)}", places(limit.name, limit.items), limit.least, most)
    for total in design.sums:
        values, words = np.array([*total.values.values()], dtype=float), _amount(total.least, total.most, "")
        at = places(total.name, total.values)
        yield Rule(f"sum of {total.name}: {words}", at, total.least, total.most, values)
    for column, testlet in enumerate(design.testlets, start=len(place)):
        least, most = max(testlet.least, 1), len(testlet.items) if testlet.most is None else testlet.most
        at = np.append(places(testlet.name, testlet.items), column)
        for k, low, high in ((least, 0.0, math.inf), (most, -math.inf, 0.0)):
            values = np.append(np.ones(len(at) - 1), -k)
            yield Rule(f"testlet {testlet.name}: {_amount(least, most)}, or 0", at, low, high, values)
    if anchors:  # their share of each group and band of b is near their share of the form
        share = (anchors.most or anchors.least) / design.max_items
        band = np.searchsorted(np.quantile(items.b, np.linspace(0, 1, design.anchor_bands + 1)[1:-1]), items.b)
        groups = (
            *((limit.name, places(limit.name, limit.items)) for limit in design.limits),
            *((f"band {k + 1} of b", np.flatnonzero(band == k)) for k in range(design.anchor_bands)),
        )
        for name, group in groups:
            values = np.isin(group, places(anchors.name, anchors.items)).astype(float) - share
            yield Rule(f"{anchors.name} in proportion in {name}", group, -1.0, 1.0, values)


def _all_forms(items: ItemParameters, design: FormDesign, content: Sequence[Rule], width: int) -> Iterator[Rule]:
    """The rules on the content of every form, on the uses of items, and on the items that two forms share.

    Columns of the forms are followed by the column of the objective, then by a column for each item of two forms.
    """
    starts, n = width * np.arange(design.forms), len(items.item_ids)
    for start in starts:
        yield from (rule._replace(columns=rule.columns + start) for rule in content)
    fixed = {*design.included, *(design.anchors.items if design.anchors else ())}
    fixed.update(*(limit.items for limit in design.limits if limit.most == 0))
    free = [j for j, item in enumerate(items.item_ids) if item not in fixed]
    if design.min_uses > 0 or design.max_uses < design.forms:
        uses = _amount(design.min_uses, design.max_uses, "form")
        yield from (Rule(f"each item: {uses}", starts + j, design.min_uses, design.max_uses) for j in free)
    if design.max_overlap is not None and design.max_uses > 1:
        name = f"two forms share {_amount(0, design.max_overlap)}"
        for pair, (one, other) in enumerate(combinations(starts, 2)):
            shared = design.forms * width + 1 + pair * n + np.array(free)
            yield Rule(name, shared, 0, design.max_overlap)
            for j, both in zip(free, shared, strict=True):
                yield Rule(name, np.array([one + j, other + j, both]), -math.inf, 1.0, np.array([1.0, 1.0, -1.0]))


def _information_rules(design: FormDesign, worth: Floats, promises: Sequence[_Promise], width: int) -> Iterator[Rule]:
    """Yield the rules on the information of each form and on the column of the objective.

    `worth` is the information of each item at each point, (J, K).
    """
    objective, n, step = design.forms * width, len(worth), _step(design) or 1.0
    points = ["the sum"] if design.values is not None else [f"information at θ = {theta:g}" for theta in design.theta]
    surely = "" if design.certainty is None else f" with a certainty of {design.certainty:.0%}"
    for start in range(0, objective, width):
        form = np.arange(start, start + n)
        with_objective = np.append(form, objective)
        if design.objective == "shortest":
            yield Rule("the objective", with_objective, -math.inf, 0.0, np.append(np.ones(n), -step))
        for k in range(worth.shape[1]):
            target = design.target[k] if design.target else 1.0
            for values, less in promises:
                if not design.has_floor:
                    yield Rule("the objective", with_objective, less[k], math.inf, np.append(values[:, k], -target))
                elif design.objective == "shortest" or design.certainty is not None:
                    name = f"{points[k]} at least {target:g}{surely}"
                    yield Rule(name, form, target + less[k], math.inf, values[:, k])
                else:
                    yield Rule("the objective", with_objective, target, math.inf, np.append(worth[:, k], step))
            if design.objective == "target":
                yield Rule("the objective", with_objective, -math.inf, target, np.append(worth[:, k], -step))


def _worth(items: ItemParameters, design: FormDesign) -> Floats:
    """The information of each item at each point, or its value, shape (J, K)."""
    if design.values is not None:
        return np.array([[design.values.get(item, 0.0)] for item in items.item_ids], dtype=float)
    return items.curves.information(design.theta).T


def _draw_worth(posterior: ItemPosterior, design: FormDesign, rng: np.random.Generator) -> Floats:
    """Draw true banks, and return the information of each item at each point, shape (S, J, K)."""
    blocks = (posterior.draw(_BLOCK, rng, densities=_DENSITIES) for _ in range(_DRAWS // _BLOCK))
    return np.stack([_worth(bank, design) for banks in blocks for bank in banks])


def _criterion(worth: Floats, design: FormDesign) -> Floats:
    """The numbers of which a form's sums determine the objective, shape (…, K), or (…, 1) if the points add up."""
    return worth.sum(axis=-1, keepdims=True) if design.objective == "maximum" else worth


def _step(design: FormDesign) -> float:
    """The number of which the objective is a multiple, whatever the forms are; 0 if no such number is known.

    With a whole number as the objective, the solver needs far less time for the proof that there is no better form.
    """
    if design.objective == "shortest":
        return 1.0
    if design.objective != "target" or design.values is None:
        return 0.0
    thousandths = 1000 * np.array([*design.values.values(), *(design.target or ())])
    whole = np.round(thousandths).astype(int)
    return float(np.gcd.reduce(whole)) / 1000 if np.allclose(whole, thousandths, rtol=0, atol=1e-6) else 0.0


def _certain(totals: Floats, design: FormDesign) -> Floats:
    """Return the information that a form surely has at all points together, shape (K,), if it has `totals` (S, K) in S
    banks."""
    mean, sd = totals.mean(axis=0), np.maximum(totals.std(axis=0), 1e-12)
    return mean - sd * np.quantile(((mean - totals) / sd).max(axis=1), design.certainty or 0.5)


def _values_near(drawn: Floats, form: Mask, design: FormDesign) -> Floats:
    """Return values of items, (J, K), whose sums differ between similar forms as their certain information does.

    The variance of a form is a sum over its items if their errors are independent, and it is linearised in the items
    otherwise. Its root is linearised at this form.
    """
    totals, mean = drawn[:, form].sum(axis=1), drawn.mean(axis=0)
    away, own = totals - totals.mean(axis=0), drawn.var(axis=0)
    with_form = 2 * np.einsum("sjk,sk->jk", drawn, away) / len(drawn)
    variance = np.where(form[:, None], with_form - own, with_form + own)
    return mean - variance * (totals.mean(axis=0) - _certain(totals, design)) / (
        2 * np.maximum(away.var(axis=0), 1e-24)
    )


def _amount(least: float, most: float, unit: str = "item") -> str:
    """Limits in words, such as “2 to 4 items”."""
    last = least if most == math.inf else most
    of = f" {unit}{'s' * (last != 1)}" if unit else ""
    if least == most:
        return f"{least:g}{of}"
    if most == math.inf:
        return f"at least {least:g}{of}"
    return f"{least:g} to {most:g}{of}" if least and math.isfinite(least) else f"at most {most:g}{of}"
