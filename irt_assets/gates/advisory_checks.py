"""Checks that only warn about a month and never hold it: pure functions of `Evidence`, like the gates."""

import numpy as np
from scipy.special import ndtr

from irt_assets.common.wording import quantity, some_of
from irt_assets.gates.coverage import coverage_gaps
from irt_assets.gates.evidence import Evidence, GateResult
from irt_assets.gates.gates import SetGate
from irt_assets.gates.model_gates import FEW_TOGETHER, new_misfit, second_dimension
from irt_psychometrics.itemfit import WindowGrowth

MAX_CORRELATION, MIN_LEARNERS = 0.2, 100
"""Largest accepted correlation of difficulty with earlier θ on a linear scale. With fewer learners than this, chance
alone reaches 0.2."""
SKEWNESS_LEVEL = 0.05
"""Significance level of the skewness of anchors."""
MAX_UNLIKELY_SHARE = 0.10
"""Largest accepted share of learners below the 5 % point of lz*: twice the model's share."""


def one_ability_explains_the_answers(evidence: Evidence) -> GateResult:
    """Evidence of a second dimension, unless the scale demands one dimension: then the gate reports it."""
    if evidence.scale.rules.publication.second_dimension != "warn":
        return GateResult(True, "the scale demands one dimension: see the gate `one_dimension`")
    return second_dimension(evidence)


def misfit_is_as_before(evidence: Evidence) -> GateResult:
    """New misfit, unless the scale holds months for it: then the gates report it."""
    if evidence.scale.rules.publication.new_misfit != "warn":
        return GateResult(True, "the scale holds months for new misfit: see the gate `misfit_has_not_grown`")
    return new_misfit(evidence)


def items_are_independent(evidence: Evidence) -> GateResult:
    """Q3 of each pair of items: if two items share more than the ability, part of their evidence counts twice."""
    if evidence.statistics is None:
        return GateResult(True, "not tested: the fit has no fit statistics")
    q3 = evidence.statistics.q3
    if not q3.pairs:
        return GateResult(True, f"pairs could not be tested: {FEW_TOGETHER}", q3.as_json())
    if not q3.flagged:
        return GateResult(
            True, f"no pair of items shares more than the ability ({q3.pairs:,} were tested)", q3.as_json()
        )
    largest = [f"{'/'.join(pair.items)} (Q3 {pair.q3:.2f})" for pair in q3.largest]
    named = some_of(largest, 5, q3.flagged)
    share = "shares" if q3.flagged == 1 else "share"
    return GateResult(
        False, f"{quantity(q3.flagged, 'pair')} of items {share} more than the ability: {named}", q3.as_json()
    )


def learners_have_one_id(evidence: Evidence) -> GateResult:
    """Pairs of ids whose answers are equal beyond chance: the same answers counted twice make errors too small."""
    twins = evidence.statistics.twins if evidence.statistics else None
    if twins is None or twins.learner_pairs is None:
        return GateResult(True, "whether learners have two ids is not known: persons of the fit are not learners")
    if not twins.learner_pairs:
        return GateResult(True, "no two ids have the same answers beyond chance")
    pairs = quantity(twins.learner_pairs, "pair")
    rows = [
        {"learner": learner, "pair": k, "common answers": pair.common, "equal": pair.equal}
        for k, pair in enumerate(twins.learners, start=1)
        for learner in pair.ids
    ]
    return GateResult(
        False,
        f"{pairs} of learner ids have the same answers beyond chance (the table names "
        f"{'it' if twins.learner_pairs == 1 else 'the most certain'}). If one learner has two ids, these answers are "
        "counted twice, and errors of items and constants are too small: if all learners do, by a factor of .707",
        {"pairs": twins.learner_pairs, "ids": rows},
    )


def items_are_distinct(evidence: Evidence) -> GateResult:
    """Pairs of items that nearly all learners answer equally: an item that counts twice makes slopes too large."""
    twins = evidence.statistics.twins if evidence.statistics else None
    if twins is None:
        return GateResult(True, "whether items are nearly the same is not known")
    if not twins.item_pairs:
        return GateResult(True, "no two items are answered equally beyond chance")
    named = some_of(
        [f"{'/'.join(pair.items)} ({pair.equal:.0%} equal, {pair.expected:.0%} by chance)" for pair in twins.items],
        5,
        twins.item_pairs,
    )
    rows = [
        {"items": "/".join(pair.items), "learners": pair.learners, "equal": pair.equal, "by chance": pair.expected}
        for pair in twins.items
    ]
    pairs = quantity(twins.item_pairs, "pair")
    why = f"{pairs} of items have nearly the same answers, which makes their slopes too large"
    return GateResult(False, f"{why}: {named}", {"pairs": twins.item_pairs, "nearly the same": rows})


def patterns_are_likely(evidence: Evidence) -> GateResult:
    """lz*: whether many learners have an answer pattern that is unlikely at their ability."""
    lz = evidence.statistics.lz if evidence.statistics else None
    if lz is None or lz.unlikely is None:
        return GateResult(True, "not tested: the fit has no response patterns")
    return GateResult(
        lz.unlikely <= MAX_UNLIKELY_SHARE,
        f"{lz.unlikely:.1%} of {lz.learners:,} learners have an unlikely response pattern (lz* below the "
        f"{lz.level:.0%} critical value)",
        lz.as_json(),
    )


def items_are_assigned_as_the_scale_says(evidence: Evidence) -> GateResult:
    """On a linear scale, item difficulty is unrelated to the learner's earlier θ.

    Answers in adaptive tests that start at the population are left out.
    """
    found = evidence.staged.spec.assignment if evidence.staged else None
    scale = evidence.scale
    if found is None or found.correlation is None or found.learners < MIN_LEARNERS:
        return GateResult(True, "too few learners have answers from before the month to see how items are assigned")
    sentence = (
        f"over the answers of {found.learners:,} learners, difficulty and earlier θ correlate {found.correlation:+.2f}"
    )
    if scale.rules.fit.assignment == "by_level":
        return GateResult(True, f"fitted by level; {sentence}", found.as_json())
    if found.correlation <= MAX_CORRELATION:
        return GateResult(True, sentence, found.as_json())
    why = (
        f"{sentence}: items seem to be assigned by level on a linear scale, which makes slopes too small. If they are, "
        "declare it, for all months and for good: "
        f"`irt calibrate --month {evidence.month} --scale {scale.scale_id} --set assignment=by_level`"
    )
    return GateResult(False, why, found.as_json())


def ability_stands_still_within_the_month(evidence: Evidence) -> GateResult:
    """Whether growth within the month biases the difficulty of items that learners answer in an order."""
    growth = evidence.statistics.growth if evidence.statistics else None
    if growth is None or growth.r2 is None:
        return GateResult(True, "no learner's answers are known to lie a day apart")
    sentence, details = growth_in_words(growth), vars(growth)
    if not growth.ordered:
        return GateResult(True, f"{sentence}; items have no order, so growth does not bias their b", details)
    if evidence.staged and evidence.staged.spec.occasions == "week":
        return GateResult(True, f"{sentence}; learners' weeks were fitted, so growth does not bias b", details)
    if growth.strictly_ordered:
        return GateResult(False, f"{sentence}. It would bias b, and later items more", details)
    if growth.outcome in ("constant", "not separable"):
        return GateResult(True, sentence, details)
    looks = "easier" if growth.outcome == "grows" else "harder"
    return GateResult(False, f"{sentence}, so later items look {looks} than they are", details)


def growth_in_words(growth: WindowGrowth) -> str:
    """Growth within a window, as a clause."""
    order = "" if growth.r2 is None else f"the item explains {growth.r2:.0%} of the time since learners' first answers"
    if growth.estimate is None or growth.se is None:
        return f"{order}: growth cannot be distinguished from difficulty within the month"
    size = f"{growth.estimate:+.2f} ± {growth.se:.2f} SD of ability in {growth.PERIOD_DAYS:.0f} days"
    if growth.outcome == "not separable":
        return f"{order}: growth cannot be distinguished from difficulty within the month ({size})"
    verbs = {"grows": "ability grows by", "declines": "ability changes by", "constant": "no growth is found:"}
    return f"{verbs[growth.outcome]} {size} (z = {growth.z:.1f}); {order}"


def published_items_are_fitted(evidence: Evidence) -> GateResult:
    """Published items with too few responses in the month are named, not merely left out."""
    left_out = evidence.staged.spec.left_out if evidence.staged else {}
    missing = {item: n for item, n in sorted(left_out.items()) if item in evidence.in_force}
    if not missing:
        return GateResult(True, "every published item that was answered has been fitted")
    named = some_of([f"{item} ({n})" for item, n in missing.items()], 5)
    return GateResult(
        False,
        f"{quantity(len(missing), 'published item')} {'has' if len(missing) == 1 else 'have'} too few responses to be "
        f"fitted, so nothing shows whether the published values still hold: {named}. Pool "
        "several months to get more responses: `irt release recalibrate`",
        {"left_out": missing},
    )


def anchors_cover_the_bank(evidence: Evidence) -> GateResult:
    """Enough of the anchors were used, and they place the bank well at both ends of its b and in each topic.

    Errors that the bank did not give are reported without a warning: the anchors are frozen as they are.
    """
    if evidence.linked is None:
        return GateResult(True, "the month is not linked: see the check 'linked'")
    constants = evidence.linked.constants
    scale = evidence.scale
    uncovered = coverage_gaps(constants, evidence.bank, scale.model, scale.rules.warnings.warn_linking_error)
    sentence = "; ".join(dict.fromkeys([*constants.warnings, *uncovered]))
    enough = constants.share_kept >= scale.rules.warnings.warn_anchor_share
    n = len(constants.anchors_used)
    sound = f"{n} anchors cover the difficulties and topics of the bank"
    if not evidence.bank.has_more_than_anchors:
        sound = f"{n} anchors used; how they cover the bank is judged once it has published more than its anchors"
    return GateResult(
        enough and not uncovered,
        sentence or sound,
        {"anchors": n, "items": len(evidence.bank.topics), "warnings": list(constants.warnings), "gaps": uncovered},
    )


def anchors_scatter_evenly(evidence: Evidence) -> GateResult:
    """The anchors used lie as far from the line on one side as on the other. Several anchors that moved a little in the
    same direction are not named, but they move the intercept."""
    constants = evidence.constants
    if constants is None or constants.skewness is None:
        return GateResult(True, "too few anchors were aligned to see whether they scatter evenly")
    n = len(constants.anchors_used)
    p = p_of_skewness(constants.skewness, n)
    why = f"the b of the {n} anchors used have a skewness of {constants.skewness:+.2f} around the line (p = {p:.2g})"
    if p >= SKEWNESS_LEVEL:
        return GateResult(True, why, {"skewness": constants.skewness, "p": p})
    easier = "harder" if constants.skewness > 0 else "easier"
    return GateResult(
        False,
        f"{why}: some of them may have become {easier} together, each by less than is named, which moves the "
        "intercept. One sound month in twenty looks like this",
        {"skewness": constants.skewness, "p": p},
    )


def p_of_skewness(skewness: float, n: int) -> float:
    """Two-sided p of the skewness of n values that are normal, by D'Agostino's transformation."""
    y = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    kurtosis = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    w2 = np.sqrt(2 * (kurtosis - 1)) - 1
    z = np.arcsinh(y / np.sqrt(2 / (w2 - 1))) / np.sqrt(np.log(w2) / 2)
    return float(2 * ndtr(-abs(z)))


ADVISORY_CHECKS: tuple[SetGate, ...] = (
    SetGate(
        one_ability_explains_the_answers,
        "item_calibration",
        "One ability explains the answers.",
        "Look at which items go together in the largest Q3. A second ability needs its own scale.",
        ("second_dimension",),
    ),
    SetGate(
        misfit_is_as_before,
        "item_calibration",
        "The answers fit the model as well as they did when the scale was initialised.",
        "Find out what is new in the month. `irt scale set new_misfit=hold` holds such months from now on.",
    ),
    SetGate(
        items_are_independent,
        "item_calibration",
        "No two items have more in common than the ability.",
        "Read the pairs. If one item gives the other away, keep one of them, or make them one testlet.",
    ),
    SetGate(
        items_are_distinct,
        "item_calibration",
        "No two items are nearly the same.",
        "Read both items. If one repeats the other, take one of them off the scale.",
    ),
    SetGate(
        learners_have_one_id,
        "item_calibration",
        "No learner has answers under two ids.",
        "Compare when and where the answers of both ids were given, because some of the pairs are two learners. If "
        "both ids belong to one learner, erase the answers of one id (`irt learner erase`) and materialise the month "
        "again. If an import created all ids twice, import again with the right ids.",
    ),
    SetGate(
        items_are_assigned_as_the_scale_says,
        "item_calibration",
        "Items are assigned as the scale's rules say.",
        "If learners get items by their level, declare it: `irt calibrate --set assignment=by_level` lists the months "
        "that must be calibrated again, and asks before it does so.",
    ),
    SetGate(
        ability_stands_still_within_the_month,
        "item_calibration",
        "Growth of ability within the month does not bias difficulties.",
        "See the table of growth. `irt scale set occasions=week` fits learners' weeks as persons from a month on, if "
        "weeks share items. If items have a strict order, only learners who meet them in a different order show it.",
    ),
    SetGate(
        published_items_are_fitted,
        "item_calibration",
        "Every published item that was answered was fitted.",
        "Give the items more answers, or calibrate several months as one: `irt release recalibrate`. Until then they "
        "are tested for drift by their proportion correct.",
    ),
    SetGate(
        patterns_are_likely,
        "item_calibration",
        "Few learners have a response pattern that is unlikely at their ability.",
        "Look for copied or random answer sheets, or a form whose key is shifted.",
    ),
    SetGate(
        anchors_cover_the_bank,
        "linked_item_parameters",
        "The anchors used cover the bank: they place the 10th and the 90th percentile of its published b with a "
        "standard error of at most 0.10, and every topic with a tenth of its items has two of them.",
        "`linking` shows the dropped anchors and the reasons. New anchors need their own scale. Until then, b of items "
        "beyond the anchors, and of topics with fewer than two anchors, is less certain.",
        ("warn_anchor_share",),
    ),
    SetGate(
        anchors_scatter_evenly,
        "linked_item_parameters",
        "Anchors scatter evenly around the line.",
        "Check whether the anchors on the longer side in `plot: linking` have something in common, such as a lesson, a "
        "leak or a form. If they have, remove them with `irt release drop-anchors`.",
    ),
)
