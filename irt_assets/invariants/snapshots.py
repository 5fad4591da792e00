"""Invariants of what was calibrated: the stored snapshots, and how well one ability explains the answers."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.calibration.gates import gather
from irt_assets.invariants.invariant import Found, Look, NotTested, Violation, invariant
from irt_assets.psychometrics.dependence import SMALLEST_PAIR, LocalDependence, local_dependence, parallel_analysis
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.models import Calibration, Responses
from irt_assets.responses.snapshot import Snapshot, current_snapshot, read_snapshot, snapshot_problem
from irt_assets.responses.window import scored_responses_of

MOST_ITEMS = 2_000
"""Of a scale whose pairs are looked at every night: two million pairs."""
LARGER_THAN_CHANCE = 1.2
"""A second dimension must raise the largest eigenvalue by that factor above all replications: one of 39 passes the
largest of them by chance once in 40 months."""


@invariant(
    severity="error",
    kind="snapshots",
    protects="The answers behind every fit are kept as they were, so that every number can be computed again.",
    fix="Bring the file back from the object store's backup; else materialise scored_responses of the month again.",
)
def snapshots_match_their_hash(look: Look) -> Found:
    rows = look.connection.execute(
        """SELECT month, snapshot_hash, uri, data_hash, n_attempts, counts, rules FROM scored_snapshot s
           WHERE superseded_at IS NULL OR EXISTS (
             SELECT 1 FROM item_parameter_publication JOIN mirt_fit_meta m USING (fit_id)
             WHERE m.snapshot_hash = s.snapshot_hash)
           ORDER BY month"""
    ).fetchall()
    if not rows:
        yield NotTested("no snapshot has been taken yet")
    for row in rows:
        snapshot = Snapshot(*row)
        problem = snapshot_problem(look.store, snapshot)
        if problem:
            yield Violation(snapshot.uri, problem, f"the file with sha256 {snapshot.snapshot_hash}", snapshot.month)


@invariant(
    severity="error",
    kind="learners",
    protects="No answer of a test account or a sandbox moves an item's parameters.",
    fix="Mark the accounts with `irt import learners` and materialise the month again.",
)
def no_test_answer_was_scored(look: Look) -> Found:
    tests = {user for (user,) in look.connection.execute("SELECT user_id FROM learner WHERE is_test")}
    months = [
        month for (month,) in look.connection.execute("SELECT month FROM scored_snapshot WHERE superseded_at IS NULL")
    ]
    if not months:
        yield NotTested("no snapshot has been taken yet")
    for month in sorted(months):
        snapshot = current_snapshot(look.connection, month)
        assert snapshot is not None
        problem = snapshot_problem(look.store, snapshot)
        if problem:
            yield NotTested(problem, partition=month)
            continue
        table = pq.read_table(
            io.BytesIO(look.store.get(snapshot.uri)), columns=["user_id", "mode", "is_test", "reason"]
        )
        scored = table.filter(pc.is_null(table["reason"]))
        of_test = pc.or_(scored["is_test"], pc.is_in(scored["user_id"], pa.array(sorted(tests), pa.string())))
        wrong = scored.filter(pc.or_(of_test, pc.not_equal(scored["mode"], "live")))
        for row in wrong.group_by("user_id").aggregate([([], "count_all")]).sort_by("user_id").to_pylist():
            yield Violation(row["user_id"], f"{row['count_all']} answers were scored", "none", month)


@invariant(
    severity="warning",
    kind="pairs of items",
    protects="Answers to one item tell nothing about another beyond ability: standard errors are honest.",
    fix="Look at both items: a shared stimulus needs a testlet, one that gives the other's answer away must go.",
)
def items_are_locally_independent(look: Look) -> Found:
    for scale_id in look.scales:
        sample = _latest_sample(look, scale_id)
        if isinstance(sample, NotTested):
            yield sample
            continue
        responses, calibration = sample
        try:
            found = local_dependence(responses, calibration)
        except PsychometricsError as error:
            yield NotTested(str(error), subject=f"{scale_id}: ")
            continue
        if not _pairs(found):
            yield _too_few_pairs(scale_id)
        for i, j in found.flagged:
            pair = f"{scale_id}: {calibration.item_ids[i]} × {calibration.item_ids[j]}"
            yield Violation(pair, f"Q3 = {found.q3[i, j]:.2f}", f"at most {found.mean + 0.20:.2f} (mean + 0.20)")


@invariant(
    severity="warning",
    kind="scales",
    protects="One ability explains the answers of a scale, which is what its θ claims.",
    fix="Look at which topics go together in the residuals; a second ability wants a scale of its own.",
)
def one_ability_explains_a_scale(look: Look) -> Found:
    for scale_id in look.scales:
        sample = _latest_sample(look, scale_id)
        if isinstance(sample, NotTested):
            yield sample
            continue
        try:
            if not _pairs(local_dependence(*sample)):
                yield _too_few_pairs(scale_id)
                continue
            found = parallel_analysis(*sample)
        except PsychometricsError as error:
            yield NotTested(str(error), subject=scale_id)
            continue
        limit = LARGER_THAN_CHANCE * float(found.under_model.max())
        if found.eigenvalue > limit:
            yield Violation(scale_id, f"largest residual eigenvalue {found.eigenvalue:.2f}", f"at most {limit:.2f}")


def _pairs(found: LocalDependence) -> bool:
    """Whether enough learners saw any two items together."""
    return bool((np.triu(found.n, 1) >= SMALLEST_PAIR).any())


def _too_few_pairs(scale_id: str) -> NotTested:
    return NotTested(f"no two items of scale {scale_id} were seen by {SMALLEST_PAIR} learners", subject=scale_id)


def _latest_sample(look: Look, scale_id: str) -> tuple[Responses, Calibration] | NotTested:
    """The scored answers and the fit of the last month of a scale that was taken to the ledger."""
    settled = look.settled[scale_id]
    if not settled:
        return NotTested(f"no month of scale {scale_id} has been taken to the ledger yet", subject=scale_id)
    evidence = gather(look.connection, look.store, settled[-1], look.scales[scale_id])
    if evidence.snapshot is None or evidence.snapshot_problem or evidence.calibration is None:
        why = evidence.snapshot_problem or f"{settled[-1]} of scale {scale_id} was fitted again without success"
        return NotTested(why, subject=scale_id)
    if evidence.calibration.n_items > MOST_ITEMS:
        why = f"scale {scale_id} has {evidence.calibration.n_items:,} items; up to {MOST_ITEMS:,} are looked at nightly"
        return NotTested(why, subject=scale_id)
    return scored_responses_of(read_snapshot(look.store, evidence.snapshot), scale_id)[0], evidence.calibration
