"""Set gates on a month's linking: the month is linked, its anchors agree, and its constants do not jump."""

from typing import Any

from irt_assets.gates.coverage import ends_of
from irt_assets.gates.evidence import Evidence, GateResult, apply_new_misfit_rule, needs_fit
from irt_assets.gates.month_classification import NOT_JUDGED
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.linked_windows import month_number
from irt_psychometrics.linking import MonthConstants

NOT_ON_THE_SCALE = GateResult(False, f"{NOT_JUDGED}: the month's fit is not on the scale, see the check `linked`")


@needs_fit
def linked(evidence: Evidence) -> GateResult:
    assert evidence.staged is not None
    if evidence.on_the_scale is None:
        why = evidence.staged.error or "it has not been linked yet: materialise linked_item_parameters"
        return GateResult(
            False, f"fit {evidence.staged.fit_id} is not on the scale: {why}", _details(evidence.constants)
        )
    constants = evidence.on_the_scale.constants
    why = f"θ* = {constants.slope:.3f}·θ {constants.intercept:+.3f} from {len(constants.anchors_used)} anchors"
    return GateResult(True, why, _details(constants))


def anchors_agree(evidence: Evidence) -> GateResult:
    """Enough anchors lie on one line, vary little around it, and place both ends of the bank; moved ones are
    named, the largest change first."""
    constants = evidence.constants
    if constants is None:
        return GateResult(False, f"{NOT_JUDGED}: the month's fit has no linking constants, see the check `linked`")
    dropped, suspects = constants.anchors_dropped, constants.moved_anchors
    n_used = len(constants.anchors_used)
    n, limits = n_used + len(dropped), evidence.scale.rules.publication
    if evidence.on_the_scale is None:
        problem = f"only {n_used} of {n} anchors agree"
    else:
        problem = constants.disagreement(limits) or _imprecise(constants, evidence, limits.max_linking_error)
    why = f"{problem or f'{n_used} anchors agree'} ({constants.variation})"
    if suspects:
        named = ", ".join(f"{item} ({suspect.shown})" for item, suspect in suspects.items())
        why = f"{len(suspects)} of {n} anchors moved against the others: {named}; {why}"
    elif constants.diagnosis:
        why += f"; {constants.diagnosis}"
    others = [item for item in dropped if item not in suspects]
    return GateResult(
        not problem, why + (f"; left out of the linking: {', '.join(others)}" if others else ""), _details(constants)
    )


def _imprecise(constants: LinkingConstants, evidence: Evidence, limit: float) -> str:
    """A clause on the ends of the bank whose b has too large an error from the linking. Returns "" if both are fine."""
    ends = ends_of(constants, evidence.bank, evidence.scale.model)
    found = [f"b = {b:.2f} with a standard error of {error:.2f}" for b, error in ends if error > limit]
    return f"the anchors place {' and '.join(found)}, limit {limit:g}" if found else ""


def linking_stays_near_its_history(evidence: Evidence) -> GateResult:
    """Slope and intercept lie no farther from earlier months than earlier months lie from each other."""
    if evidence.on_the_scale is None:
        return NOT_ON_THE_SCALE
    constants = evidence.on_the_scale.constants
    n = len(evidence.earlier)
    if n < MonthConstants.MIN_EARLIER:
        months = "1 earlier month" if n == 1 else f"{n} earlier months"
        why = f"the publication step of {months} is done, and {MonthConstants.MIN_EARLIER} are needed to compare"
        return GateResult(True, why)
    values = (*constants.value("slope"), *constants.value("intercept"))
    found = MonthConstants(month_number(evidence.month), *values).jumps(evidence.earlier)
    jumps = [change for change in found if change.seen]
    jumps_text = "; ".join(change.sentence for change in jumps or found)
    why = f"against {n} earlier months {jumps_text or 'there is nothing to compare'}"
    numbers = {
        f"{change.constant}_{name}": getattr(change, name) for change in found for name in ("change", "limit", "p")
    }
    return apply_new_misfit_rule(evidence, GateResult(not jumps, why, numbers))


def anchors_move_with_the_others(evidence: Evidence) -> GateResult:
    """The anchors as a group did not move against the other published items (see `group_shift`)."""
    if evidence.on_the_scale is None:
        return NOT_ON_THE_SCALE
    shift = evidence.group_shift
    if shift is None:
        return GateResult(
            False, "whether the anchors moved as a group is not known: materialise linked_item_parameters"
        )
    largest = evidence.scale.rules.publication.max_anchor_shift
    details = {} if shift.why else {name: getattr(shift, name) for name in ("items", "shift", "shift_se")}
    return apply_new_misfit_rule(
        evidence, GateResult(not shift.exceeds_limit(largest), shift.sentence(largest), details)
    )


def _details(constants: LinkingConstants | None) -> dict[str, Any]:
    return {} if constants is None else constants.as_json()
