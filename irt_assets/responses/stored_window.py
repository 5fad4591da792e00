"""The attempts of a window with their stored verdicts, and the minima of their scales applied.

What does not belong here: judging (see `verdicts`), and windows of a lake, whose attempts have no verdicts yet (see
`window`).
"""

from collections.abc import Mapping
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.eligibility.attempts import JudgedLearners, Judgement
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.answers import attempts_between, instant
from irt_assets.responses.columns import codes, max_scores, numbers
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.row_hash import query_of_sums, row_hash
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import JudgedWindow, digest_of, read_hashed, with_outcome
from resources.cluster.relational import Run, on_postgres
from resources.postgres.relations import VERDICT

OF_VERDICTS = "v3:"
"""Mark of the hash of a window's verdicts."""
HASHED = (
    KEY, "item_id", "scale_id", "form_id", "position", "started_at", "completed_at", "correct", "response",
    "response_time_ms", "hints_used", "mode", *SCORES, "reason", "score",
)  # fmt: skip
"""Columns of which that hash is made, in this order. All of them are in a month's file, so that equal files have equal
hashes. The file's topics are the bank's, and its sessions are numbered, so both are left out."""
_OF_LOG = (
    "topic_id", "session_id", "form_id", "position", "started_at", "correct", "response", "response_time_ms",
    "hints_used", "mode",
)  # fmt: skip


def verdict_rows(start: datetime, end: datetime, verdicts: ir.Table = VERDICT) -> ir.Table:
    """Every attempt of [start, end) that has a verdict: attempt_id, session_id, topic_id and the columns `HASHED`."""
    verdicts = verdicts.filter(verdicts.completed_at >= instant(start), verdicts.completed_at < instant(end))
    log = attempts_between(start, end).select(*_OF_LOG, id="id", answered_at="completed_at", given="score")
    rows = verdicts.join(log, [verdicts.attempt_id == log.id, verdicts.completed_at == log.answered_at])
    given = ibis.ifelse(rows.max_score.notnull(), rows.given, ibis.null("int16"))
    return rows.mutate(given_score=given).select("attempt_id", "session_id", "topic_id", *HASHED)


def verdict_hash(run: Run, start: datetime, end: datetime) -> str:
    """Hash of the verdicts of [start, end), whatever holds them."""
    sums = query_of_sums(verdict_rows(start, end).select(*HASHED), run.backend)
    # As text, because numbers as large as the sums are read as floats.
    found = run.read(f"SELECT concat(a, ' ', b, ' ', c) AS sums FROM ({sums}) t(a, b, c)")
    return digest_of(found["sums"][0].as_py().split(), OF_VERDICTS)


def stored_window(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    scales: Mapping[str, Scale],
    verdicts: ir.Table = VERDICT,
) -> JudgedWindow:
    """The attempts of [start, end) by their verdicts, with the minima of `scales`; its table has no user ids and no
    facts.

    An attempt that has no verdict is not among them: judge the window first. `verdicts`: another relation of verdicts.
    """
    rows = verdict_rows(start, end, verdicts)
    hashed = rows.mutate(h=row_hash(rows, HASHED)).order_by(KEY, "completed_at", "attempt_id")
    found, digest = read_hashed(on_postgres(connection), on_postgres.sql(hashed), OF_VERDICTS)
    reasons = pa.array([str(reason.value) for reason in Judgement.REASONS])
    code = numbers(pc.index_in(found["reason"].cast(pa.string()), reasons), -1).astype(np.int8)
    score = numbers(found["score"], -1).astype(np.int8)
    found = found.drop_columns(["reason", "score", *(SCORES if max_scores(found) is None else ())])
    learner = np.unique(found[KEY].to_numpy(), return_inverse=True)[1].astype(np.int32)
    (item, items), (scale, present) = codes(found["item_id"]), codes(found["scale_id"])
    rows_of = {scale_id: np.flatnonzero(scale == one) for one, scale_id in enumerate(present.tolist())}
    judgements, left_out = {}, {}
    for scale_id in sorted({*rows_of, *scales}):
        own = rows_of.get(scale_id, np.empty(0, np.intp))
        rules = scales[scale_id].rules.eligibility if scale_id in scales else Rules().eligibility
        part = JudgedLearners(learner[own], item[own], code[own], score[own], rules.min_learner_responses)
        judgement = judgements[scale_id] = part.with_minimum(rules.min_fitted_responses)
        left_out[scale_id] = {items[one]: few for one, few in judgement.few_items.items()}
        code[own], score[own] = judgement.code, judgement.score
    return JudgedWindow(with_outcome(found, code, score), judgements, left_out, digest)
