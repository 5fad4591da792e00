"""Invariants of publications: the ledger, the fits behind it, the anchors, and the coverage of scales and topics."""

from math import inf

from pydantic import ValidationError

from irt_assets.decision_kinds import KINDS
from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from irt_assets.ledger.anchors import hash_of_anchors
from irt_assets.ledger.audit import (
    anchors_in_the_bank,
    changes,
    flagged_estimates,
    frozen_versions,
    linkings,
    sources_of_publications,
    values_now,
    versions_of_a_new_model,
)
from irt_assets.ledger.decision_rows import ids_in_decisions, read_decisions
from irt_assets.ledger.decisions import decided_anchors
from irt_assets.ledger.fitted_items import topics_without_items
from irt_psychometrics.items import ItemRow
from resources.postgres.distinctive_ids import is_distinctive


@invariant(
    kind="items",
    protects="Every published number can be traced to a converged fit on the scale, its answers and its code.",
    fix="Run `irt lineage ITEM`; materialise the month again, and propose the item again from the fit that converged.",
)
def published_parameters_come_from_sound_fits(context: InvariantContext) -> Findings:
    sources = sources_of_publications(context.connection)
    if not sources:
        yield NotTested("nothing is published yet")
    for source in sources:
        if source.fit_id is None:
            without_fit = source.rule in ("origin", "undo", "pipeline")
            faults = {f"published by the rule '{source.rule}' without a fit": not without_fit}
        elif not source.fit_is_there:
            faults = {f"fit {source.fit_id} does not exist": True}
        else:
            faults = {
                f"fit {source.fit_id} did not converge": not source.converged,
                f"fit {source.fit_id} is not linked": source.slope is None,
                "no hash of the answers": not source.data_hash,
                "its answers differ from the answers of the fit": bool(source.data_hash)
                and source.data_hash != source.fitted_hash,
            }
        faults["no version of the code"] = not source.code_version
        if problems := [fault for fault, is_there in faults.items() if is_there]:
            yield Violation(
                source.item_id, "; ".join(problems), "a converged, linked fit, its answers and its code", source.month
            )


@invariant(
    kind="items",
    protects="Scores are computed with usable parameters: a > 0, b within the limits, errors finite and small.",
    fix="Look at the item's fits with `irt lineage ITEM`, check its key, and decide on another value for it.",
)
def published_items_can_be_scored_with(context: InvariantContext) -> Findings:
    values = values_now(context.connection)
    if not values:
        yield NotTested("nothing is published yet")
    for (scale_id, item), now in values.items():
        rules = context.scales[scale_id].rules.publication
        sound = {
            f"a = {now.a:.3g}": 0 < now.a < inf,
            f"b = {now.b:.3g}": abs(now.b) <= rules.max_abs_b,
            f"SE(a) = {now.a_se}": now.a_se is not None and now.a_se < inf,
            f"SE(b) = {now.b_se if now.b_se is None else format(now.b_se, '.3g')}": now.b_se is not None
            and now.b_se <= rules.max_b_se,
        }
        if problems := [value for value, is_sound in sound.items() if not is_sound]:
            limits = f"a > 0, |b| ≤ {rules.max_abs_b:g}, SE(b) ≤ {rules.max_b_se:g}, finite errors"
            yield Violation(item, ", ".join(problems), limits)


@invariant(
    kind="items",
    protects="At every time one set of parameters is in force, and no value changes without a person's decision.",
    fix="Find who wrote to item_parameter_publication; append a publication with the decision that justifies it.",
)
def one_set_is_in_force_and_changes_are_decided(context: InvariantContext) -> Findings:
    publications = changes(context.connection)
    if not publications:
        yield NotTested("nothing is published yet")
    values_of: dict[str, list[list[float]]] = {}
    for change in publications:
        item, month, since, undone = change.item_id, change.month, change.effective_from, change.rule == "undo"
        history = values_of.setdefault(item, [])
        if undone:
            del history[-1:]
        else:
            history.append(change.values)
        if change.earlier is None:
            if change.rule in ("decision", "undo", "pipeline") and not change.decided:
                yield Violation(item, "published by a decision that is not recorded", "an accepted decision", month)
        elif change.rule not in ("decision", "undo"):
            yield Violation(item, f"published again by the rule '{change.rule}'", "a decision for every change", month)
        elif not change.decided:
            yield Violation(item, "changed without a recorded decision", "a decision of that date", month)
        elif change.replaces is None or not change.replaced:
            yield Violation(
                item, "does not name the publication that it replaces", f"publication {change.earlier}", month
            )
        elif undone and history[-1:] != [change.values]:
            yield Violation(item, "an undo published other values than those before", "the values before", month)
        elif since == change.earlier_since and "undo" not in (change.rule, change.earlier_rule):
            yield Violation(item, f"two values in force from {since:%Y-%m-%d} on", "one value at every time", month)


@invariant(
    kind="scales",
    protects="The scale does not move: no anchor changes its value or leaves the set without a decision.",
    fix="Find who wrote to anchor_set and restore the frozen values. Drop anchors with `irt release drop-anchors`. "
    "A change of the model freezes them again: `irt scale set model=…`.",
)
def anchors_change_by_decision_alone(context: InvariantContext) -> Findings:
    versions = frozen_versions(context.connection)
    if not versions:
        yield NotTested("no scale has frozen anchors yet: `irt scale init`")
    frozen_again = versions_of_a_new_model(context.connection)
    dropped, restored = (
        decided_anchors(context.connection, decision) for decision in ("drop_anchor", "restore_anchor")
    )
    frozen_last: dict[tuple[str, str], ItemRow] = {}
    for (scale_id, version), frozen in versions.items():
        anchors = frozen.anchors
        if frozen.hashes != {hash_of_anchors(anchors)}:
            yield Violation(
                scale_id, f"version {version} has changed since it was frozen", "the hash of the frozen version"
            )
        last = {i: frozen_last.get((scale_id, i)) for i in anchors}
        frozen_last |= {(scale_id, i): values for i, values in anchors.items()}
        if (scale_id, version) in frozen_again:
            continue  # the decision on a new model froze the anchors again
        before = versions.get((scale_id, version - 1), frozen).anchors
        dropped_silently = sorted(i for i in before.keys() - anchors.keys() if (scale_id, i) not in dropped)
        again = {i: last[i] for i in anchors.keys() - before.keys() if (scale_id, i) in restored}
        known: dict[str, ItemRow | None] = {**before, **again}
        changed = sorted(i for i in anchors if known.get(i) != anchors[i])
        if dropped_silently or changed:
            observed = (
                f"version {version}: {', '.join([*dropped_silently, *changed][:5])} left or changed without a decision"
            )
            yield Violation(scale_id, observed, "anchors leave by decision and keep their values")


@invariant(
    kind="items",
    protects="Items at a bound, unidentified, or with negative discrimination or zero variance are listed and never "
    "published.",
    fix="Materialise the month again; an item published from such an estimate needs a decision on another value.",
)
def items_without_a_sound_estimate_are_held_back(context: InvariantContext) -> Findings:
    if not any(context.finished_months.values()):
        yield NotTested("no month has completed its publication step yet")
    for estimate in flagged_estimates(context.connection):
        item, flags = estimate["item_id"], estimate["flags"]
        if estimate["published"]:
            yield Violation(item, f"published although its estimate is {flags}", "held back", estimate["month"])
        elif not estimate["held"]:
            expected = "held back, with the reason"
            yield Violation(item, f"its estimate is {flags}, without a report", expected, estimate["month"])


@invariant(
    kind="scales",
    protects="The anchors keep their relation to each other, so that a month's scale is the bank's scale.",
    fix="Look at the plot of the anchors on linked_item_parameters; a drifted anchor needs a person's decision.",
    alerted_by_checks=True,
)
def anchors_agree(context: InvariantContext) -> Findings:
    tested = set()
    for (scale_id, month, engine), constants in linkings(context.connection).items():
        scale = context.scales.get(scale_id)
        if scale is None or engine != scale.engine:
            continue
        if not constants.tested:
            continue
        tested.add(scale_id)
        if problem := constants.disagreement(scale.rules.publication):
            dropped = ", ".join(sorted(constants.anchors_dropped)[:10]) or "none"
            observed = f"{problem} ({constants.variation}); dropped: {dropped}"
            yield Violation(scale_id, observed, "anchors that agree", month)
    for scale_id in sorted(set(context.scales) - tested):
        yield NotTested(f"no month of scale {scale_id} is linked by anchors yet", subject=scale_id)


@invariant(
    kind="items",
    protects="The frozen anchors are still in the bank, on the scale that they hold.",
    fix="Bring the item back with `irt import questions`, or freeze a new version of the anchor set.",
)
def anchors_are_still_in_the_bank(context: InvariantContext) -> Findings:
    anchors = anchors_in_the_bank(context.connection)
    if not anchors:
        yield NotTested("no scale has frozen anchors yet: `irt scale init`")
    for (scale_id, item), bank_scale in anchors.items():
        if bank_scale != scale_id:
            observed = "not in the bank" if bank_scale is None else f"on scale {bank_scale}"
            yield Violation(item, observed, f"on scale {scale_id}")


@invariant(
    kind="topics",
    protects="Every scale and every topic that is practised has published items, so that it is measured.",
    fix="Initialise the scale with `irt scale init`; add items to the topic, or wait until its items have enough "
    "answers.",
)
def every_scale_and_topic_is_covered(context: InvariantContext) -> Findings:
    if not context.scales:
        yield NotTested("the bank has no items: `irt import questions FILE`")
    for scale_id, scale in context.scales.items():
        if not scale.initialised:
            yield Violation(f"scale {scale_id}", "it has no origin", "an origin")
    for (scale_id, topic), n in topics_without_items(context.connection).items():
        if context.scales[scale_id].initialised:
            yield Violation(f"topic {topic} of scale {scale_id}", f"none of its {n} items is published", "at least one")


@invariant(
    kind="decisions",
    protects="Decisions can be read and undone years later, and erased learners are named in no decision.",
    fix="Find out who changed the row: decisions are only ever added. Restore it from a backup.",
    note="Values are read with the model of their kind. An id is found if it is not an ordinary word.",
)
def decisions_are_valid_and_name_no_learner(context: InvariantContext) -> Findings:
    for decision in read_decisions(context.connection):
        subject = f"decision {decision.decision_id}"
        if kind := KINDS.get(decision.kind):
            try:
                kind.value.model_validate(decision.value)
            except ValidationError as error:
                fields = ", ".join(".".join(map(str, fault["loc"])) or "value" for fault in error.errors())
                yield Violation(subject, f"invalid: {fields}", f"a value of the kind “{decision.kind}”")
        else:
            yield Violation(subject, f"unknown kind “{decision.kind}”", f"one of: {', '.join(KINDS)}")
    for number, user_id in ids_in_decisions(context.connection):
        if is_distinctive(context.connection, user_id):
            yield Violation(f"decision {number}", "the id of a learner", "no learner is named")
