"""The gates of publication: set gates hold a month of a scale, item gates hold one item.

Each gate is a pure function of `Evidence`, which is read from the database and the object store. Dagster's checks, the
publication step and the command line use these gates and no others.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from irt_assets.engines.registry import asset_of
from irt_assets.gates.evidence import NO_SNAPSHOT, Evidence, GateResult, current_fit
from irt_assets.gates.linking_gates import (
    anchors_agree,
    anchors_move_with_the_others,
    linked,
    linking_stays_near_its_history,
)
from irt_assets.gates.model_gates import (
    MISFIT_LEVEL,
    guessing_is_in_the_model,
    misfit_has_not_grown,
    misfit_was_accepted,
    one_dimension,
)
from irt_assets.gates.month_classification import NOT_JUDGED
from irt_assets.ledger.fits import StagedFit, explanation, model_difference
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.ledger.month_verdicts import GateVerdict
from irt_assets.responses.eligibility.attempts import Reason, count_rejected
from irt_assets.scales.rules import Rules
from irt_psychometrics.estimation import Flag

_log = logging.getLogger(__name__)


def snapshot_matches_its_hash(evidence: Evidence) -> GateResult:
    if evidence.snapshot is None or evidence.snapshot_problem:
        return GateResult(False, f"{evidence.snapshot_problem}: materialise scored_responses")
    return GateResult(True, f"the stored file is unchanged ({evidence.snapshot.snapshot_hash[:12]}…)")


def few_answers_are_rejected(evidence: Evidence) -> GateResult:
    """Rapid guesses and unusable rows among the live answers of real learners.

    Answers to items that the bank does not have belong to no scale, so they count against every scale.
    """
    snapshot, scale_id = evidence.snapshot, evidence.scale.scale_id
    if snapshot is None:
        return GateResult(False, NO_SNAPSHOT)
    counts = snapshot.counts.get(scale_id, {})
    strays = sum(
        of_none.get(Reason.UNUSABLE, 0)
        for name, of_none in snapshot.counts.items()
        if name != scale_id and name not in snapshot.rules
    )
    n_rejected, answers = (n + strays for n in count_rejected(counts))
    share = n_rejected / answers if answers else 0.0
    limit = evidence.scale.rules.publication.max_rejected_share
    return GateResult(
        share <= limit,
        f"{share:.1%} of {answers:,} answers were rapid guesses or unusable (at most {limit:.0%} allowed)",
        {"share": share, "rejected": n_rejected, "answers": answers},
    )


def converged(evidence: Evidence) -> GateResult:
    fit = current_fit(evidence)
    if isinstance(fit, GateResult):
        return fit
    c = fit.convergence
    return GateResult(
        c.converged,
        f"{fit.engine} converged after {c.iterations} iterations"
        if c.converged
        else f"{fit.engine} did not converge: {c.reason}",
        {"iterations": c.iterations, "max_change": c.max_change, "max_gradient": c.max_gradient, "loglik": c.loglik},
    )


_DISCONNECTED = "DisconnectedDesignError"
"""Type of the stored error if the answers fall into groups without a common scale."""


def connected(evidence: Evidence) -> GateResult:
    staged = evidence.staged
    if staged is not None and staged.error_kind == _DISCONNECTED:
        return GateResult(False, staged.error or "")
    fit = current_fit(evidence)
    if isinstance(fit, GateResult):
        return fit
    return GateResult(
        True, "every item is connected with every other through learners who answered both or items shared"
    )


def demanded_engines_fitted(evidence: Evidence) -> GateResult:
    """Whether each other engine that the scale demands has a converged fit of the current snapshot."""
    problems = {engine: why for engine, fit in evidence.demanded.items() if (why := _not_usable(evidence, engine, fit))}
    if problems:
        return GateResult(
            False, "; ".join(f"{engine} is demanded and {why}" for engine, why in problems.items()), problems
        )
    return GateResult(
        True, f"fitted by {', '.join(evidence.demanded)} too" if evidence.demanded else "no other engine is demanded"
    )


def _not_usable(evidence: Evidence, engine: str, fit: StagedFit | None) -> str | None:
    again = f"materialise {asset_of(engine)}"
    if fit is None or evidence.snapshot is None or fit.snapshot_hash != evidence.snapshot.snapshot_hash:
        which = "has no fit of the month" if fit is None else "has only a fit of an earlier snapshot of the month"
        return f"{which}: enable it (IRT_ENGINES={engine}) and {again}; `irt doctor` shows whether it is installed"
    other = model_difference(fit.spec, evidence.scale)
    return f"{other}: {again}" if other else fit_problem(fit)


def fit_problem(fit: StagedFit) -> str | None:
    """Why a fit cannot be used, as a predicate to the engine's name. Returns None if it can."""
    calibration = fit.decode()
    if calibration is None:
        return f"could not fit the month: {fit.error}"
    if not calibration.convergence.converged:
        return f"did not converge: {calibration.convergence.reason}"
    return f"could not be put on the scale: {fit.error}" if fit.error else None


@dataclass(frozen=True)
class SetGate:
    """A set gate, the asset whose materialisation it judges, and the remedy if it fails.

    `rules`: names of the scale's rules whose change makes the gate judge all months again. `new_misfit` is not one of
    them, because a person uses it to let a single month pass.
    """

    judge: Callable[[Evidence], GateResult]
    asset: str
    explanation: str
    fix: str
    rules: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the Dagster check, under which its history is stored."""
        return self.judge.__name__


SET_GATES: tuple[SetGate, ...] = (
    SetGate(
        snapshot_matches_its_hash,
        "scored_responses",
        "The stored snapshot has not changed since it was written.",
        "Materialise the month again. If nobody changed the file on purpose, check who can write to the object store.",
    ),
    SetGate(
        few_answers_are_rejected,
        "scored_responses",
        "Few answers are rapid guesses or unusable.",
        "The counts by reason show which answers were left out. Import the items that are missing from the bank, or "
        "mark the answers of a form that learners did not take seriously as sandbox.",
        ("max_rejected_share",),
    ),
    SetGate(
        converged,
        "item_calibration",
        "The engine reached a maximum, as judged by the changes of parameters and the gradient.",
        "Correct the keys of the items that the reason names, or take these items off the scale; then "
        "materialise again.",
    ),
    SetGate(
        connected,
        "item_calibration",
        "Learners and items form one connected design.",
        "Give the groups common items or learners (an anchor block in each form), or put them on separate scales.",
    ),
    SetGate(
        one_dimension,
        "item_calibration",
        "One ability explains the answers, if the scale requires it.",
        "Look at which items go together in the largest Q3. A second ability needs its own scale.",
        ("second_dimension",),
    ),
    SetGate(
        guessing_is_in_the_model,
        "item_calibration",
        "Learners do not guess, or the scale's model includes guessing.",
        "Give the scale a model with guessing from this month on (`irt scale set model=3pl`), or accept it with a "
        "reason, once for all months (`irt scale accept guessing`). Then materialise the month again.",
    ),
    SetGate(
        misfit_was_accepted,
        "item_calibration",
        "The misfit of the window with which months are compared is small, or has been accepted.",
        "Look at its clusters of items. Then accept the misfit with a reason, once for all months that are compared "
        "with the window (`irt scale accept misfit`), or put the items of a second ability on their own scale.",
    ),
    SetGate(
        misfit_has_not_grown,
        "item_calibration",
        "The answers fit the model as well as they did when the scale was initialised.",
        "Find out what is new in the month: learners who answered at random, items that were not reached, items that "
        "go together. Mark these answers as sandbox, or take the items off the scale, and materialise the month "
        "again. Or accept the misfit for this month and later ones (`irt scale accept misfit --from MONTH`).",
    ),
    SetGate(
        linked,
        "linked_item_parameters",
        "The month's fit is linked to the scale.",
        "Follow the reason: collect answers to more anchors, or run `irt scale init`.",
    ),
    SetGate(
        anchors_agree,
        "linked_item_parameters",
        "Most anchors kept their relation to each other, and place the bank precisely enough.",
        "Take the anchors that changed (a leak, a wrong key, an edited text) out of the linking, in the dashboard or "
        "with `irt release drop-anchors`, or leave the month red. Anchors off the line in `plot: linking` have "
        "changed. If half of them moved together, or all vary, compare the month's forms with earlier forms. If they "
        "place an end of the bank imprecisely, link through more anchors or more answers.",
        ("min_anchors", "min_anchor_share", "max_item_variation", "max_linking_error"),
    ),
    SetGate(
        linking_stays_near_its_history,
        "linked_item_parameters",
        "Slope and intercept are similar to those of earlier months.",
        "Compare the month's learners and forms with earlier months: perhaps the learners are different, or know all "
        "anchors (look at response times, exposure and the proportion correct of anchors). If the learners did change, "
        "let the month pass: `irt scale set new_misfit=warn`, materialise the month again, and set it back to hold.",
    ),
    SetGate(
        anchors_move_with_the_others,
        "linked_item_parameters",
        "The anchors as a group did not move against the other published items.",
        "Find out which group moved, the anchors or the other published items, from their proportions correct, "
        "response times and exposure. Remove anchors that leaked with `irt release drop-anchors`. If the other items "
        "changed, calibrate them again with `irt release recalibrate` and decide on its proposals.",
        ("max_anchor_shift",),
    ),
    SetGate(
        demanded_engines_fitted,
        "linked_item_parameters",
        "Every engine that the scale requires has fitted the month.",
        "Read the engine's own check, fix the problem that it names, and materialise the month again. Or stop "
        "requiring the engine.",
        ("demanded_engines",),
    ),
)


NO_ANSWERS = "no answers to this scale in this month"


def judge_gates(evidence: Evidence, gates: Iterable[SetGate] = SET_GATES) -> dict[str, GateVerdict]:
    """Judge a month of a scale by some set gates. All gates pass if the month has neither answers nor a fit there."""
    snapshot, scale_id = evidence.snapshot, evidence.scale.scale_id
    has_answers = snapshot is None or snapshot.has_attempts(scale_id) or evidence.calibration is not None
    fit_id = evidence.staged.fit_id if evidence.staged else None
    rules = evidence.scale.rules.non_defaults()
    found = {}
    for gate in gates:
        result = _result(gate, evidence) if has_answers else GateResult(True, NO_ANSWERS)
        found[gate.name] = GateVerdict(asset=gate.asset, fit_id=fit_id, rules=gate_rules(gate, rules), **vars(result))
    return found


def _result(gate: SetGate, evidence: Evidence) -> GateResult:
    """Judge by one gate. A gate that raises an error fails with the reason, and the others are still judged."""
    try:
        return gate.judge(evidence)
    except Exception as error:  # noqa: BLE001 – the other gates are still judged
        _log.exception("the gate %s could not be evaluated", gate.name)
        return GateResult(False, f"could not be judged: {explanation(error)}")


def gate_rules(gate: SetGate, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Select the rules that the gate reads from a scale's `rules` that differ from their defaults."""
    return {name: value for name, value in rules.items() if name in gate.rules}


def failures(verdicts: Mapping[str, GateVerdict]) -> dict[str, str]:
    """Find the gates that fail, with their reasons. Returns an empty dict if the month may publish."""
    return {name: verdict.why for name, verdict in verdicts.items() if not verdict.passed}


def hold_reasons(problems: Mapping[str, str]) -> str:
    """Why a month is held, in one sentence. Gates that fail only because another gate fails are left out."""
    return "; ".join(dict.fromkeys(why for why in problems.values() if not why.startswith(NOT_JUDGED)))


def hold_reasons_and_remedy(problems: Mapping[str, str]) -> str:
    """Why a month is held, and the remedy of the first gate that fails, as later gates may fail because of it. Returns
    "" if the month is not held."""
    if not problems:
        return ""
    fix = next(gate.fix for gate in SET_GATES if gate.name in problems).partition(". ")[0].rstrip(".")
    return f"{hold_reasons(problems)}; decide: {fix[0].lower() + fix[1:]}"


def item_problems(item: FittedItem, rules: Rules) -> list[str]:
    """Reasons why an item's linked parameters may not be published. Returns an empty list if they may."""
    values, rmsd, by_chance = item.values, item.statistics.get("rmsd"), item.statistics.get("rmsd_p")
    points = values.max_score if values else 1
    flags = {f: Flag(f).explanation for f in item.flags}
    if points > 1 and Flag.NEGATIVE_DISCRIMINATION in flags:
        flags[Flag.NEGATIVE_DISCRIMINATION] = "stronger learners get fewer points; check how answers to it are scored"
    problems = [f"{Flag(f).value}: {explanation}" for f, explanation in flags.items()]
    if problems:
        return problems
    if values is None:
        return ["it has no parameters"]
    if values.a_se is None or values.b_se is None:
        problems.append("its standard errors are not finite")
    elif values.b_se > rules.publication.max_b_se:
        problems.append(f"SE(b) = {values.b_se:.2f} is above {rules.publication.max_b_se:g}")
    if values.a <= 0:
        problems.append(
            f"a = {values.a:.2f} is not positive: check its key"
            if points == 1
            else f"a = {values.a:.2f} a point (times {points} points: {values.a * points:.2f}) is not positive: check "
            "how answers to it are scored"
        )
    if abs(values.b) > rules.publication.max_abs_b:
        problems.append(f"|b| = {abs(values.b):.2f} is above {rules.publication.max_abs_b:g}")
    if item.n < rules.eligibility.min_responses:
        problems.append(f"{item.n} responses are fewer than {rules.eligibility.min_responses}")
    if rmsd is not None and by_chance is not None and rmsd > rules.publication.max_rmsd and by_chance < MISFIT_LEVEL:
        problems.append(
            f"its answers do not follow its curve: RMSD = {rmsd:.3f} is above {rules.publication.max_rmsd:g}, and "
            "fewer than one in a thousand items that follow the model have an RMSD this large with this many answers"
        )
    return problems
