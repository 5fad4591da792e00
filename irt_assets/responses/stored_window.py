"""Read the attempts of a window with their stored verdicts, and apply the minima of their scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.responses.answers import attempts_between, attempts_with_verdicts
from irt_assets.responses.columns import codes, max_scores, numbers
from irt_assets.responses.eligibility.attempts import JudgedLearners, Judgement
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.row_hash import digest_of, md5, query_of_sums, row_hash, sums_of
from irt_assets.responses.window import with_outcome
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from resources.cluster.relational import Run, on_postgres
from resources.postgres.relations import VERDICT
from resources.postgres.warehouse import read_parts

HASHED = (
    KEY, "item_id", "scale_id", "form_id", "position", "started_at", "completed_at", "correct", "response",
    "response_time_ms", "hints_used", "mode", *SCORES, "reason", "score",
)  # fmt: skip
"""Columns from which a window's hash is made, in this order. All are in a month's file, so that equal files have equal
hashes. Topics are left out because they come from the bank, and sessions because the file numbers them."""


@dataclass(frozen=True)
class JudgedWindow:
    """A window's attempts with their outcome.

    Attributes:
        table: the attempts in order of learner and time, with texts as dictionaries, `learner_key`, `reason` (null:
            scored) and `score` (null: not scored); with `SCORES` only if an attempt is on a scored item.
        judgements: by scale.
        left_out: by scale, the items with too few responses and their numbers of responses.
        data_hash: hash of the rows.
    """

    table: pa.Table
    judgements: dict[str, Judgement]
    left_out: dict[str, dict[str, int]]
    data_hash: str

    @property
    def totals(self) -> WindowTotals:
        counts = {
            scale: {str(k): int(n) for k, n in judgement.counts.items()} for scale, judgement in self.judgements.items()
        }
        return WindowTotals(self.table.num_rows, counts, self.left_out, self.data_hash)


@dataclass(frozen=True)
class WindowTotals:
    """Totals of a judged window without its attempts, which may be on a cluster.

    `counts`: number of attempts by scale and reason ("scored": scored attempts). `left_out`: as in `JudgedWindow`.
    """

    n_attempts: int
    counts: dict[str, dict[str, int]]
    left_out: dict[str, dict[str, int]]
    data_hash: str


def verdict_rows(start: datetime, end: datetime, verdicts: ir.Table = VERDICT, *, in_lake: bool = False) -> ir.Table:
    """Relation of the attempts of [start, end) with a verdict: attempt_id, session_id, topic_id and `HASHED`."""
    rows = attempts_with_verdicts(start, end, in_lake=in_lake, verdicts=verdicts).rename(attempt_id="id")
    rows = rows.filter(rows[KEY].notnull())
    given = ibis.ifelse(rows.max_score.notnull(), rows.score, ibis.null("int16"))
    rows = rows.mutate(given_score=given, score=rows.verdict_score)
    return rows.select("attempt_id", "session_id", "topic_id", *HASHED)


def verdict_hash(run: Run, start: datetime, end: datetime) -> str:
    """Hash of the verdicts of [start, end), the same in PostgreSQL and in a lake."""
    rows = verdict_rows(start, end, in_lake=run.backend is not on_postgres)
    sums = query_of_sums(rows.select(*HASHED), run.backend)
    # As text, because numbers as large as the sums would be read as floats.
    found = run.read(f"SELECT concat(a, ' ', b, ' ', c) AS sums FROM ({sums}) t(a, b, c)")
    return digest_of(found["sums"][0].as_py().split())


@dataclass(frozen=True)
class ScaleVerdicts:
    """The verdicts of a scale.

    Attributes:
        rows: indices of its rows in the table.
        items: ids of its items; the codes of `judged` are their indices.
        judged: the attempts, with the minimum of responses per learner applied.
    """

    scale_id: str
    rows: npt.NDArray[np.intp]
    items: npt.NDArray[np.object_]
    judged: JudgedLearners


def verdicts_by_scale(found: pa.Table, rules: Mapping[str, Rules]) -> Iterator[ScaleVerdicts]:
    """Yield the verdicts of each scale that occurs in `found`, which has all verdicts of its learners."""
    reasons = pa.array([str(reason.value) for reason in Judgement.REASONS])
    code = numbers(pc.index_in(found["reason"].cast(pa.string()), reasons), -1).astype(np.int8)
    score = numbers(found["score"], -1).astype(np.int8)
    learner = np.unique(found[KEY].to_numpy(), return_inverse=True)[1].astype(np.int32)
    (item, items), (scale, present) = codes(found["item_id"]), codes(found["scale_id"])
    for code_of_scale, scale_id in enumerate(present.tolist()):
        rows = np.flatnonzero(scale == code_of_scale)
        occurs = np.bincount(item[rows], minlength=items.size) > 0
        own = (np.cumsum(occurs, dtype=np.int32) - 1)[item[rows]]
        least = rules.get(scale_id, Rules()).eligibility.min_learner_responses
        judged = JudgedLearners(learner[rows], own, code[rows], score[rows], least)
        yield ScaleVerdicts(scale_id, rows, items[occurs], judged)


def n_attempts(run: Run, start: datetime, end: datetime) -> int:
    """Number of attempts in [start, end)."""
    return int(run(attempts_between(start, end).aggregate(n=lambda t: t.count()))["n"][0].as_py())


def share_for_run(run: Run, most: int | None, start: datetime, end: datetime) -> float:
    """The share of learners whose attempts of [start, end) a run reads, for about `most` attempts (None: all)."""
    if most is None:
        return 1.0
    n = n_attempts(run, start, end)
    return min(1.0, most / n) if n else 1.0


def stored_window(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    scales: Mapping[str, Scale],
    verdicts: ir.Table = VERDICT,
    share: float = 1.0,
) -> JudgedWindow:
    """The attempts of [start, end) by their verdicts, with the minima of `scales` applied.

    Attempts without a verdict are left out, so judge the window first. The table has no user ids and no facts.
    `verdicts`: relation to read instead of the stored verdicts. `share`: if less than 1, only the attempts of this
    share of learners are read, namely the learners with the smallest md5 of their keys.
    """
    rows = verdict_rows(start, end, verdicts)
    if share < 1:
        rows = rows.filter(md5(rows[KEY].cast("string"))[:8] < f"{int(share * 16**8):08x}")
    hashed = rows.mutate(h=row_hash(rows, HASHED)).order_by(KEY, "completed_at", "attempt_id")
    found, digest = _read_hashed(connection, on_postgres.sql(hashed))
    if max_scores(found) is None:
        found = found.drop_columns([*SCORES])
    code, score = (np.full(found.num_rows, -1, dtype=np.int8) for _ in range(2))
    rules = {scale_id: scale.rules for scale_id, scale in scales.items()}
    nothing = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int8)
    judgements = {scale_id: JudgedLearners(*nothing, 0).with_minimum(0) for scale_id in scales}
    left_out: dict[str, dict[str, int]] = {scale_id: {} for scale_id in scales}
    for part in verdicts_by_scale(found, rules):
        least = rules.get(part.scale_id, Rules()).eligibility.min_fitted_responses
        judgement = judgements[part.scale_id] = part.judged.with_minimum(least)
        left_out[part.scale_id] = {part.items[item]: few for item, few in judgement.few_items.items()}
        code[part.rows], score[part.rows] = judgement.code, judgement.score
    found = found.drop_columns(["reason", "score"])
    in_order = {scale_id: judgements[scale_id] for scale_id in sorted(judgements)}
    return JudgedWindow(with_outcome(found, code, score), in_order, left_out, digest)


def _read_hashed(connection: psycopg.Connection, query: str) -> tuple[pa.Table, str]:
    """Read a query's rows with texts as dictionaries, and the hash of the rows from their column `h`."""
    parts, sums = [], [0, 0]
    for part in read_parts(connection, query):
        sums = [total + added for total, added in zip(sums, sums_of(part["h"]), strict=True)]
        parts.append(_encode_texts(part.drop_columns(["h"])))
    found = pa.concat_tables(parts).unify_dictionaries()
    return found, digest_of((found.num_rows, *sums))


def _encode_texts(rows: pa.Table) -> pa.Table:
    """The rows with texts as dictionaries: each distinct text once, and a code of four bytes per row."""
    for index, name in enumerate(rows.column_names):
        if rows[name].type == pa.string() and name != "attempt_id":
            rows = rows.set_column(index, name, rows[name].dictionary_encode())
    return rows
