"""The gates of publication: set gates hold a month of a scale, item gates hold one item.

Each is a pure function of `Evidence`, read from the database and the object store. Dagster's checks,
the publication step and the command line all judge by these and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from irt_assets.calibration.coverage import Bank, read_bank
from irt_assets.calibration.fits import (
    LinkedFit,
    StagedFit,
    latest_staged,
    linked_fit,
    made_otherwise,
    month_number,
    of_other_model,
    released_constants,
)
from irt_assets.calibration.misfit import eigenvalue_ratio
from irt_assets.engines import installed
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.anchor_diagnosis import moved
from irt_assets.psychometrics.dependence import SMALLEST_PAIR
from irt_assets.psychometrics.eligibility import Reason, Rules, rejected
from irt_assets.psychometrics.errors import DisconnectedDesignError
from irt_assets.psychometrics.linking_jump import FEWEST_MONTHS, Constants, Jump, jumps
from irt_assets.psychometrics.misfit import LARGEST_RATIO, LIMITS
from irt_assets.psychometrics.models import Calibration, Flag
from irt_assets.psychometrics.personfit import SMALLEST_TEST
from irt_assets.psychometrics.scale_shift import MonthImpact
from irt_assets.responses.scale_decisions import Subject
from irt_assets.responses.scales import Scale, accepted_subjects
from irt_assets.responses.snapshot import Snapshot, current_snapshot, snapshot_problem
from resources.object_store import ObjectStore

MISFIT_LEVEL = 0.001
"""An item is held back, and a second dimension seen, where a sound item or set does so less often than this."""

NOT_JUDGED = "not judged"
"""So begins the reason of a gate that fails because another one does."""
FEW_TOGETHER = f"no two items were seen by {SMALLEST_PAIR} learners"


@dataclass(frozen=True)
class Verdict:
    """What a gate says: passed or not, and why in a sentence."""

    passed: bool
    why: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that is known of one month of one scale when it is judged.

    `in_force`: items with published parameters at the month's start; `bank`: the scale's items then;
    `accepted`: what a person has accepted of the scale; `earlier`: the linking constants of the months before it that
    were taken to the ledger.
    """

    month: str
    scale: Scale
    snapshot: Snapshot | None
    snapshot_problem: str | None
    staged: StagedFit | None
    calibration: Calibration | None
    linked: LinkedFit | None
    demanded: Mapping[str, StagedFit | None] = field(default_factory=dict)
    in_force: frozenset[str] = frozenset()
    bank: Bank = field(default_factory=Bank)
    accepted: frozenset[Subject] = frozenset()
    earlier: tuple[Constants, ...] = ()


def gather(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> Evidence:
    """Read the evidence on a month of a scale, `scale` being as the month's window follows it."""
    snapshot = current_snapshot(connection, month)
    staged = latest_staged(connection, month, scale.scale_id, scale.engine)
    return Evidence(
        month,
        scale,
        snapshot,
        snapshot_problem(store, snapshot) if snapshot else "no snapshot of the month has been taken",
        staged,
        staged.decoded() if staged else None,
        linked_fit(connection, scale.scale_id, "monthly", month_bounds(month)[0], scale.engine),
        {
            engine: latest_staged(connection, month, scale.scale_id, engine)
            for engine in scale.rules.demands
            if engine != scale.engine
        },
        frozenset(
            item
            for (item,) in connection.execute(
                "SELECT DISTINCT item_id FROM item_parameter_publication WHERE scale_id = %s AND effective_from <= %s",
                (scale.scale_id, month_bounds(month)[0]),
            )
        ),
        read_bank(connection, scale.scale_id, month_bounds(month)[0]),
        accepted_subjects(connection, scale.scale_id, month_bounds(month)[0]),
        released_constants(connection, month, scale.scale_id, scale.engine),
    )


def snapshot_matches_its_hash(evidence: Evidence) -> Verdict:
    if evidence.snapshot is None or evidence.snapshot_problem:
        return Verdict(False, f"{evidence.snapshot_problem}: materialise scored_responses")
    return Verdict(True, f"the stored file is the one taken ({evidence.snapshot.snapshot_hash[:12]}…)")


def few_answers_are_rejected(evidence: Evidence) -> Verdict:
    """Rapid guesses and unusable rows among the live answers of real learners.

    Answers to items that the bank does not have belong to no scale, so they count against every one.
    """
    snapshot, scale_id = evidence.snapshot, evidence.scale.scale_id
    if snapshot is None:
        return Verdict(False, "no snapshot of the month has been taken")
    counts = snapshot.counts.get(scale_id, {})
    strays = sum(
        of_none.get(Reason.UNUSABLE, 0)
        for name, of_none in snapshot.counts.items()
        if name != scale_id and name not in snapshot.rules
    )
    n_rejected, answers = (n + strays for n in rejected(counts))
    share = n_rejected / answers if answers else 0.0
    limit = evidence.scale.rules.max_rejected_share
    return Verdict(
        share <= limit,
        f"{share:.1%} of {answers:,} answers were rapid guesses or unusable (at most {limit:.0%} allowed)",
        {"share": share, "rejected": n_rejected, "answers": answers},
    )


def converged(evidence: Evidence) -> Verdict:
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    c = fit.convergence
    return Verdict(
        c.converged,
        f"{fit.engine} converged after {c.iterations} iterations"
        if c.converged
        else f"{fit.engine} did not converge: {c.reason}",
        {"iterations": c.iterations, "max_change": c.max_change, "max_gradient": c.max_gradient, "loglik": c.loglik},
    )


def connected(evidence: Evidence) -> Verdict:
    staged = evidence.staged
    if staged is not None and staged.error_kind == DisconnectedDesignError.__name__:
        return Verdict(False, staged.error or "")
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    return Verdict(True, "every item is connected with every other through learners who answered both or items shared")


def linked(evidence: Evidence) -> Verdict:
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    assert evidence.staged is not None
    if evidence.linked is None or evidence.linked.fit_id != evidence.staged.fit_id:
        why = evidence.staged.error or "it has not been linked yet: materialise linked_item_parameters"
        return Verdict(False, f"fit {evidence.staged.fit_id} is not on the scale: {why}", _constants(evidence))
    constants = evidence.linked.constants
    return Verdict(
        True,
        f"θ* = {constants['slope']:.3f}·θ {constants['intercept']:+.3f} from {len(constants['anchors_used'])} anchors",
        constants,
    )


def anchors_agree(evidence: Evidence) -> Verdict:
    """Where they do not, every anchor that moved is named, the largest change first."""
    constants = _constants(evidence)
    if not constants:
        return Verdict(False, f"{NOT_JUDGED}: the month's fit has no linking constants, see the check `linked`")
    dropped, suspects = constants["anchors_dropped"], moved(constants)
    n_used = len(constants["anchors_used"])
    n = n_used + len(dropped)
    if evidence.linked is None or evidence.staged is None or evidence.linked.fit_id != evidence.staged.fit_id:
        agree, why = False, f"only {n_used} of {n} anchors agree"
    else:
        alpha = evidence.scale.rules.anchor_q_alpha
        agree = constants["q_p"] >= alpha
        test = f"Q = {constants['q']:.1f} on {constants['q_df']} df, p = {constants['q_p']:.3g}, limit {alpha:g}"
        why = f"{n_used} anchors {'agree' if agree else 'disagree'} ({test})"
    if suspects:
        named = ", ".join(f"{item} ({suspect.shown})" for item, suspect in suspects.items())
        why = f"{len(suspects)} of {n} anchors moved against the others: {named}; {why}"
    elif constants.get("diagnosis"):
        why += f"; {constants['diagnosis']}"
    others = [item for item in dropped if item not in suspects]
    return Verdict(agree, why + (f"; left out of the linking: {', '.join(others)}" if others else ""), constants)


def linking_stays_near_its_history(evidence: Evidence) -> Verdict:
    """Neither slope nor intercept lies farther from earlier months than these lie from each other."""
    constants = _judged_by_history(evidence)
    if isinstance(constants, Verdict):
        return constants
    n = len(evidence.earlier)
    if n < FEWEST_MONTHS:
        return Verdict(True, f"{n} earlier months were taken to the ledger, and {FEWEST_MONTHS} are needed to compare")
    values = (constants[name] for name in ("slope", "slope_se", "intercept", "intercept_se"))
    found = jumps(Constants(month_number(evidence.month), *values), evidence.earlier)
    seen = [one for one in found if one.seen]
    said = "; ".join(_told(one) for one in seen or found)
    why = f"against {n} earlier months {said or 'nothing varies that could be compared'}"
    return _as_the_scale_says(evidence, Verdict(not seen, why, _numbers(found)))


def _told(jump: Jump) -> str:
    name = "the logarithm of the slope" if jump.constant == "slope" else "the intercept"
    p = f", p = {jump.p:.1g}" if jump.seen else ""
    return f"{name} {'jumps' if jump.seen else 'differs'} by {jump.change:+.2f} (limit {jump.limit:.2f}{p})"


def _numbers(found: tuple[Jump, ...]) -> dict[str, Any]:
    return {f"{one.constant}_{name}": getattr(one, name) for one in found for name in ("change", "limit", "p")}


def theta_stays_on_the_same_answers(evidence: Evidence) -> Verdict:
    """The month's values of items in force leave learners' θ where the published values have it (see month_impact)."""
    constants = _judged_by_history(evidence)
    if isinstance(constants, Verdict):
        return constants
    assert evidence.linked is not None
    impact = MonthImpact.from_dict(evidence.linked.model_spec["impact"])
    return _as_the_scale_says(evidence, Verdict(not (impact.shifts or impact.flips), impact.sentence, impact.as_dict()))


def _judged_by_history(evidence: Evidence) -> dict[str, Any] | Verdict:
    """The linking constants of the month's fit, or why it is not compared with what was published before it."""
    if evidence.linked is None or evidence.staged is None or evidence.linked.fit_id != evidence.staged.fit_id:
        return Verdict(False, f"{NOT_JUDGED}: the month's fit is not on the scale, see the check `linked`")
    if "impact" not in evidence.linked.model_spec:
        return Verdict(True, "not judged then: the month was linked before there was this gate")
    return evidence.linked.constants


def _as_the_scale_says(evidence: Evidence, found: Verdict) -> Verdict:
    """What a newer gate finds, passed where the scale's rule new_misfit is to warn."""
    if found.passed or evidence.scale.rules.new_misfit == "hold":
        return found
    return Verdict(True, f"the scale does not hold a month for it (new_misfit=warn); {found.why}", found.details)


def one_dimension(evidence: Evidence) -> Verdict:
    """Where the scale demands it: the largest eigenvalue of the residual correlations is one that the model gives."""
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    found = second_dimension(evidence)
    if evidence.scale.rules.second_dimension == "warn":
        return Verdict(True, f"the scale does not demand one dimension; {found.why}", found.details)
    return found


def second_dimension(evidence: Evidence) -> Verdict:
    """Parallel analysis of the month's fit, whatever the scale demands."""
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    assert evidence.staged is not None
    statistics = set_statistics(evidence.staged.spec)
    if statistics is None:
        return Verdict(False, "the fit has no fit statistics: materialise item_calibration")
    parallel = statistics["parallel"]
    return one_ability(parallel) if parallel else Verdict(True, f"dimensions could not be tested: {FEW_TOGETHER}")


def one_ability(parallel: Mapping[str, Any]) -> Verdict:
    """What the parallel analysis says that a fit is stored with; the one place that judges it."""
    one = parallel["p"] >= MISFIT_LEVEL
    why = (
        f"the largest eigenvalue of the residual correlations is {parallel['eigenvalue']:.2f}, and "
        f"{parallel['expected']:.2f} is expected where one ability explains the answers (p = {parallel['p']:.2g})"
    )
    return Verdict(one, why if one else f"a second dimension: {why}", dict(parallel))


def guessing_is_in_the_model(evidence: Evidence) -> Verdict:
    """Learners do not guess, or the scale's model has guessing, or a person has accepted it."""
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    assert evidence.staged is not None
    shape = evidence.staged.spec.get("shape")
    if shape is None:
        return Verdict(True, "not judged then: guessing is judged where em fits one population")
    if not shape["guessing"]:
        return Verdict(True, shape["why"], shape)
    if "guessing" in evidence.accepted:
        return Verdict(True, f"guessing is accepted; {shape['why']}", shape)
    return Verdict(False, shape["why"], shape)


def misfit_was_accepted(evidence: Evidence) -> Verdict:
    """Items of the window that months are compared with measure one ability, or a person has accepted that they do
    not."""
    found = _compared(evidence)
    return found if isinstance(found, Verdict) else _as_the_scale_says(evidence, accepted_misfit(evidence, found))


def misfit_has_not_grown(evidence: Evidence) -> Verdict:
    """What of the month does not follow the model was so before."""
    found = _compared(evidence)
    return found if isinstance(found, Verdict) else _as_the_scale_says(evidence, growth_of_misfit(evidence, found))


def new_misfit(evidence: Evidence) -> Verdict:
    """Both of the above, whatever the scale demands."""
    found = _compared(evidence)
    if isinstance(found, Verdict):
        return Verdict(True, found.why)
    verdicts = [accepted_misfit(evidence, found), growth_of_misfit(evidence, found)]
    return next((verdict for verdict in verdicts if not verdict.passed), verdicts[1])


def _compared(evidence: Evidence) -> dict[str, Any] | Verdict:
    """What the month's fit says of its misfit beside its reference's, or the verdict where it says nothing."""
    fit = _current_fit(evidence)
    if isinstance(fit, Verdict):
        return fit
    assert evidence.staged is not None
    found = evidence.staged.spec.get("misfit")
    if found is None:
        return Verdict(True, "not judged then: misfit is compared where the scale's engine fits the month")
    return found


def accepted_misfit(evidence: Evidence, found: Mapping[str, Any]) -> Verdict:
    assert evidence.staged is not None
    reference = found["reference"]
    ratio = found["ratio"] if reference else eigenvalue_ratio(set_statistics(evidence.staged.spec))
    name = reference or f"{evidence.month}, which later months are compared with,"
    if ratio is None:
        return Verdict(True, f"dimensions of {name} could not be tested: {FEW_TOGETHER}")
    why = (
        f"the largest eigenvalue of the residual correlations of {name} is {ratio:.2f} times what one ability gives, "
        f"limit {LARGEST_RATIO:g}"
    )
    if ratio <= LARGEST_RATIO or "misfit" not in evidence.accepted:
        return Verdict(ratio <= LARGEST_RATIO, why, {"ratio": ratio})
    return Verdict(True, f"misfit is accepted; {why}", {"ratio": ratio})


def growth_of_misfit(evidence: Evidence, found: Mapping[str, Any]) -> Verdict:
    reference = found["reference"]
    if reference is None:
        return Verdict(True, f"{evidence.month} is the month that later ones are compared with")
    if "why" in found:
        return Verdict(not found.get("lost", False), f"not compared with {reference}: {found['why']}")
    growth = {name: found["growth"][name] for name in MEASURES if found["growth"].get(name)}
    beyond = {name: measure for name, measure in growth.items() if measure["low"] > LIMITS[name]}
    details = {f"growth of {MEASURES[name]}": measure["value"] for name, measure in growth.items()}
    if not growth:
        why = FEW_TOGETHER if found["items"] >= SMALLEST_TEST else f"they have {found['items']} items in common"
        return Verdict(True, f"could not be compared with {reference}: {why}")
    told = "; ".join(
        f"{MEASURES[name]} {measure['value']:+.3f} (at least {measure['low']:+.3f}, limit {LIMITS[name]:g})"
        for name, measure in (beyond or growth).items()
    )
    if found["items"] < SMALLEST_TEST:
        told += f"; the rest could not be compared: they have {found['items']} items in common"
    if beyond:
        return Verdict(False, f"misfit that {reference} did not have: {told}", details)
    return Verdict(True, f"no more misfit than {reference}: {told}", details)


MEASURES = {
    "dependence": "dependence between items",
    "ratio": "eigenvalue ratio of all items",
    "rmsea": "RMSEA₂",
    "unlikely": "share of unlikely patterns",
    "random": "share answering at random",
}
"""Measures of growth in a sentence."""


def set_statistics(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a staged fit says of the whole set; None of one that did not converge, or that an earlier version made."""
    statistics = spec.get("fit_statistics")
    return statistics["set"] if statistics else None


def demanded_engines_fitted(evidence: Evidence) -> Verdict:
    """Each engine that the scale demands besides its own has a converged fit of the present snapshot."""
    problems = {engine: why for engine, fit in evidence.demanded.items() if (why := _not_usable(evidence, engine, fit))}
    if problems:
        return Verdict(
            False, "; ".join(f"{engine} is demanded and {why}" for engine, why in problems.items()), problems
        )
    return Verdict(True, f"fitted by {', '.join(evidence.demanded)} too" if evidence.demanded else "none is demanded")


def _not_usable(evidence: Evidence, engine: str, fit: StagedFit | None) -> str | None:
    again = f"materialise item_calibration_{engine}" if engine != "em" else "materialise item_calibration"
    if fit is None or evidence.snapshot is None or fit.snapshot_hash != evidence.snapshot.snapshot_hash:
        absent = installed(engine)
        which = "has no fit of the month" if fit is None else "has only a fit of an earlier snapshot of the month"
        return f"{which}: {absent or f'enable it (IRT_ENGINES={engine}) and {again}'}"
    other = of_other_model(fit.spec, evidence.scale)
    return f"{other}: {again}" if other else fit_problem(fit)


def fit_problem(fit: StagedFit) -> str | None:
    """Why a fit is not a result, as a sentence that follows on the engine's name; None where it is one."""
    calibration = fit.decoded()
    if calibration is None:
        return f"could not fit the month: {fit.error}"
    if not calibration.convergence.converged:
        return f"did not converge: {calibration.convergence.reason}"
    return f"could not be put on the scale: {fit.error}" if fit.error else None


@dataclass(frozen=True)
class SetGate:
    """A set gate, the asset whose materialisation it judges, and what a person does when it fails."""

    asset: str
    explanation: str
    fix: str
    judge: Callable[[Evidence], Verdict]

    @property
    def name(self) -> str:
        return self.judge.__name__


SET_GATES: tuple[SetGate, ...] = (
    SetGate(
        "scored_responses",
        "The stored snapshot is the file that was taken.",
        "Materialise the month again; where the file changed by itself, look at who can write to the object store.",
        snapshot_matches_its_hash,
    ),
    SetGate(
        "scored_responses",
        "Few answers are rapid guesses or unusable.",
        "See in the counts by reason what was left out, and import the items that the bank lacks, or mark the answers "
        "of a form that nobody took seriously as sandbox.",
        few_answers_are_rejected,
    ),
    SetGate(
        "item_calibration",
        "The engine reached a maximum, by parameters and gradient.",
        "Mend the keys of the items that the reason names, or take these items off the scale; then materialise again.",
        converged,
    ),
    SetGate(
        "item_calibration",
        "Learners and items form one connected design.",
        "Give the groups common items or learners (an anchor block in each form), or put them on scales of their own.",
        connected,
    ),
    SetGate(
        "item_calibration",
        "One ability explains the answers, where the scale demands it.",
        "Look at which items go together in the largest Q3; a second ability wants a scale of its own.",
        one_dimension,
    ),
    SetGate(
        "item_calibration",
        "Learners do not guess, or the scale's model knows that they do.",
        "Decide once: give the scale a model with guessing from this month on (`irt scale set model=3pl`), or accept "
        "it with a reason (`irt scale accept guessing`). Then materialise the month again.",
        guessing_is_in_the_model,
    ),
    SetGate(
        "item_calibration",
        "The misfit of the window that months are compared with is small, or accepted.",
        "Look at its clusters of items and decide once: take items off the scale, give a second ability a scale of its "
        "own, or accept it with a reason (`irt scale accept misfit`).",
        misfit_was_accepted,
    ),
    SetGate(
        "item_calibration",
        "The answers follow the model as well as they did when the scale was made.",
        "Find out what is new in the month: who answered at random, which items were not reached, which go together. "
        "Mark these answers as sandbox, or take the items off, and materialise the month again; or accept it for this "
        "month and later ones (`irt scale accept misfit --from MONTH`).",
        misfit_has_not_grown,
    ),
    SetGate(
        "linked_item_parameters",
        "The month's fit stands on the scale.",
        "Follow the reason: answers to more anchors are needed, or `irt scale init` has not been run.",
        linked,
    ),
    SetGate(
        "linked_item_parameters",
        "The anchors kept their relation to each other.",
        "Take the anchors that changed (a leak, a wrong key, an edited text) out of the linking with the job "
        "release_decision or `irt release drop-anchors`, or leave the month red. Those off the line in `plot: linking` "
        "have changed; where half of them moved together, compare the month's forms with those before.",
        anchors_agree,
    ),
    SetGate(
        "linked_item_parameters",
        "Slope and intercept are like those of the months before.",
        "Compare the month's learners and forms with those before: other learners, or all anchors known to them (look "
        "at response times, exposure and the proportion correct of anchors). Where the learners did change, let the "
        "month pass: `irt scale set new_misfit=warn`, materialise the month again, and set it back to hold.",
        linking_stays_near_its_history,
    ),
    SetGate(
        "linked_item_parameters",
        "The month's values leave θ on the same answers where it was.",
        "Find out which group moved, the anchors or the other published items: by their proportions correct, response "
        "times and exposure. Anchors that leaked are taken out by `irt release drop-anchors`; where the others did "
        "change, calibrate them again with `irt release recalibrate` and decide on what it proposes.",
        theta_stays_on_the_same_answers,
    ),
    SetGate(
        "linked_item_parameters",
        "Every engine that the scale demands has fitted the month.",
        "Read the engine's own check, fix what it names, and materialise the month again; or no longer demand it.",
        demanded_engines_fitted,
    ),
)


def failures(evidence: Evidence) -> dict[str, str]:
    """The set gates that do not pass, each with its reason; empty where the month may publish."""
    verdicts = {gate.name: gate.judge(evidence) for gate in SET_GATES}
    return {name: verdict.why for name, verdict in verdicts.items() if not verdict.passed}


def held_because(problems: Mapping[str, str]) -> str:
    """Why a month is held, in one sentence: each reason once, and none that only says that another gate failed."""
    return "; ".join(dict.fromkeys(why for why in problems.values() if not why.startswith(NOT_JUDGED)))


def way_out(problems: Mapping[str, str]) -> str:
    """What a person decides or fixes, in a clause, of the first gate that fails: later ones may fail because of it."""
    fix = next(gate.fix for gate in SET_GATES if gate.name in problems).partition(". ")[0].rstrip(".")
    return fix[0].lower() + fix[1:]


def item_problems(params: Mapping[str, Any], rules: Rules) -> list[str]:
    """Why an item's linked parameters may not be published; empty where they may.

    `params` holds a, b, a_se, b_se (None where not finite), n and flags; of a fit with statistics also rmsd and, under
    fit, rmsd_p, the share of sound items with so large an RMSD.
    """
    problems = [f"{Flag(f).value}: {Flag(f).explanation}" for f in params["flags"]]
    a, b, a_se, b_se = (params[name] for name in ("a", "b", "a_se", "b_se"))
    if problems:
        return problems
    if a is None or b is None:
        return ["it has no parameters"]
    if a_se is None or b_se is None:
        problems.append("its standard errors are not finite")
    elif b_se > rules.max_b_se:
        problems.append(f"SE(b) = {b_se:.2f} is above {rules.max_b_se:g}")
    if a <= 0:
        problems.append(f"a = {a:.2f} is not positive: check its key")
    if abs(b) > rules.max_abs_b:
        problems.append(f"|b| = {abs(b):.2f} is above {rules.max_abs_b:g}")
    if params["n"] < rules.min_responses:
        problems.append(f"{params['n']} responses are fewer than {rules.min_responses}")
    rmsd, by_chance = params.get("rmsd"), params.get("fit", {}).get("rmsd_p")
    if rmsd is not None and by_chance is not None and rmsd > rules.max_rmsd and by_chance < MISFIT_LEVEL:
        problems.append(
            f"its answers do not follow its curve: RMSD = {rmsd:.3f} is above {rules.max_rmsd:g}, and of sound items "
            f"with as many answers fewer than one in a thousand have one so large"
        )
    return problems


def _current_fit(evidence: Evidence) -> Calibration | Verdict:
    """The fit of the month's present snapshot, or why there is none."""
    staged = evidence.staged
    if staged is None:
        return Verdict(False, "the month has not been fitted: materialise item_calibration")
    if evidence.snapshot is None or staged.snapshot_hash != evidence.snapshot.snapshot_hash:
        return Verdict(False, "the fit is of an earlier snapshot of the month: materialise item_calibration")
    if other := made_otherwise(staged.spec, evidence.scale):
        return Verdict(False, f"{other}: materialise item_calibration")
    if evidence.calibration is None:
        return Verdict(False, staged.error or "the fit failed")
    return evidence.calibration


def _constants(evidence: Evidence) -> dict[str, Any]:
    if evidence.staged is None:
        return {}
    if evidence.linked is not None and evidence.linked.fit_id == evidence.staged.fit_id:
        return evidence.linked.constants
    return evidence.staged.spec.get("linking_constants") or {}
