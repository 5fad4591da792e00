"""Invariants of calibrations: the stored snapshots, and the fit statistics of a whole scale."""

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.partitions import Month
from irt_assets.gates.model_gates import FEW_TOGETHER, MISFIT_LEVEL, one_ability
from irt_assets.invariants.invariant import (
    Findings,
    InvariantContext,
    NotTested,
    Violation,
    invariant,
    no_finished_month,
)
from irt_assets.ledger.cited_fits import snapshots_of_other_answers, snapshots_of_other_files, snapshots_to_keep
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.ledger.fits import linked_fit
from irt_assets.responses.facts import KEY
from irt_assets.responses.snapshot import current_snapshots, read_parts, snapshot_problem, user_ids_of
from irt_psychometrics.itemfit import FitSummary


@invariant(
    kind="snapshots",
    protects="The answers of every fit are stored unchanged, so that every number can be computed again.",
    fix="Restore the file from the object store's backup, or materialise scored_responses of the month again.",
    reads_files=True,
)
def snapshots_match_their_hash(context: InvariantContext) -> Findings:
    kept = snapshots_to_keep(context.connection)
    if not kept:
        yield NotTested("no snapshot has been taken yet")
    for snapshot in kept:
        problem = snapshot_problem(context.store, snapshot)
        if problem:
            yield Violation(snapshot.uri, problem, f"the file with sha256 {snapshot.snapshot_hash}", snapshot.month)
    for row in snapshots_of_other_files(context.connection):
        yield Violation(
            row["uri"], "the address contains a different file", f"a file with sha256 {row['hash']}", row["month"]
        )
    for row in snapshots_of_other_answers(context.connection):
        found = f"answers {row['now'][:12]}…, but fit {row['fit_id']} used different ones"
        yield Violation(row["uri"], found, f"{row['seen'][:12]}…", row["month"])


@invariant(
    kind="learners",
    protects="No answer of a test account or a sandbox moves an item's parameters.",
    fix="Mark the accounts with `irt import learners` and materialise the month again.",
    reads_files=True,
)
def no_test_answer_was_scored(context: InvariantContext) -> Findings:
    tests = [*context.connection.execute("SELECT learner_key, user_id FROM learner WHERE is_test")]
    snapshots = current_snapshots(context.connection)
    if not snapshots:
        yield NotTested("no snapshot has been taken yet")
    for month, snapshot in snapshots.items():
        problem = snapshot_problem(context.store, snapshot)
        if problem:
            yield NotTested(problem, partition=month)
            continue
        found = []
        for table in read_parts(context.store, snapshot, [KEY, "mode", "reason"]):
            scored = table.filter(pc.is_null(table["reason"]))
            kind = scored[KEY].type
            known = pa.array([user if pa.types.is_string(kind) else key for key, user in tests], kind)
            of_test = pc.is_in(scored[KEY], known)
            found.append(scored.filter(pc.or_(of_test, pc.not_equal(scored["mode"], "live"))))
        counts = pa.concat_tables(found).group_by(KEY).aggregate([([], "count_all")])
        users = user_ids_of(context.connection, counts[KEY].to_numpy())
        for user, n in sorted(zip(users, counts["count_all"].to_pylist(), strict=True)):
            yield Violation(user, f"{n} answers were scored", "none", month)


@invariant(
    kind="pairs of items",
    protects="Given ability, answers to different items are independent, so that standard errors are right.",
    fix="Look at both items: if they share a stimulus, make a testlet; if one gives the other's answer away, remove "
    "it.",
)
def items_are_locally_independent(context: InvariantContext) -> Findings:
    for scale_id in context.scales:
        statistics = _statistics(context, scale_id)
        if isinstance(statistics, NotTested):
            yield statistics
            continue
        q3 = statistics.q3
        if not q3.pairs or q3.mean is None:
            yield _too_few_pairs(scale_id)
            continue
        above = FitSummary.Q3_ABOVE_MEAN
        limit = f"at most {q3.mean + above:.2f} (mean + {above:.2f})"
        for pair in q3.largest:
            yield Violation(f"{scale_id}: {' × '.join(pair.items)}", f"Q3 = {pair.q3:.2f}", limit)
        if q3.flagged > len(q3.largest):
            yield Violation(f"{scale_id}: further pairs", f"{q3.flagged - len(q3.largest)} more", limit)


@invariant(
    kind="scales",
    protects="One ability explains the answers of a scale, so that θ measures one thing.",
    fix="Look at which topics go together in the residuals. A second ability needs its own scale.",
)
def one_ability_explains_a_scale(context: InvariantContext) -> Findings:
    for scale_id in context.scales:
        statistics = _statistics(context, scale_id)
        if isinstance(statistics, NotTested):
            yield statistics
        elif statistics.parallel is None:
            yield _too_few_pairs(scale_id)
        elif not (verdict := one_ability(statistics.parallel)).passed:
            yield Violation(scale_id, verdict.why, f"p ≥ {MISFIT_LEVEL:g}")


def _too_few_pairs(scale_id: str) -> NotTested:
    return NotTested(f"{FEW_TOGETHER} of scale {scale_id}", subject=scale_id)


def _statistics(context: InvariantContext, scale_id: str) -> SetStatistics | NotTested:
    """Fit statistics of the whole set in the scale's last month whose publication step is done. Returns NotTested, with
    the reason, if there are none."""
    if not context.finished_months[scale_id]:
        return no_finished_month(scale_id, scale_id)
    month = context.finished_months[scale_id][-1]
    fit = linked_fit(context.connection, scale_id, "monthly", Month(month).start, context.scales[scale_id].engine)
    if fit is None or fit.model_spec.fit_statistics is None:
        why = f"{month} of scale {scale_id} is stored without fit statistics: `irt calibrate --month {month}`"
        return NotTested(why, subject=scale_id)
    return fit.model_spec.fit_statistics
