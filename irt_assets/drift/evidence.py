"""Read the month's answers and the earlier months from which drift is judged, for `irt_psychometrics.drift`.

ledger/values_with_errors.py reads the fits and published values.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.ledger.linked_windows import months_before
from irt_assets.ledger.values_with_errors import LinkedWindow, linked_window
from irt_assets.responses.columns import codes, max_scores, numbers
from irt_assets.responses.eligibility.attempts import Reason
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.snapshot import read_for_run, sample_for_run, snapshot_for_scale
from irt_assets.responses.window import categories_of, given_points
from irt_assets.scales.scale import Scale
from irt_psychometrics.drift import TimedAnswers
from resources.files.object_store import ObjectStore
from resources.postgres.database import database_settings

COLUMNS = (
    *(KEY, "item_id", "scale_id", "completed_at", "correct", "response", "response_time_ms", "hints_used"),
    *("reason", "score", *SCORES),
)
"""The columns of a snapshot that drift reads."""
MONTHS_LOOKED_BACK, MONTHS_OF_TIMES = 12, 3
"""An item's usual response time comes from its first three months among the last twelve."""


def answers_of(
    connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, months_before: Sequence[str]
) -> TimedAnswers | None:
    """The month's answers on the scale, with the items' usual response times in earlier months.

    Answers are left out only if their reason shows that they carry no information on drift. Returns None if the month
    has no snapshot.
    """
    table = attempts_of(connection, store, month, scale)
    if table is None:
        return None
    reason = table["reason"]
    uninformative = [str(r) for r in Reason if not (r.meaning.is_answer and r.meaning.shows_drift)]
    kept = pc.invert(pc.fill_null(pc.is_in(reason, value_set=pa.array(uninformative)), False))
    table = table.filter(pc.and_(kept, pc.is_valid(table["correct"])))
    table = table.filter(pa.array(given_points(table) >= 0))
    person, _ = codes(table[KEY])
    item, items = codes(table["item_id"])
    keys: dict[str, str | None] = dict(
        connection.execute(
            "SELECT item_id, meta->>'key' FROM question WHERE scale_id = %s AND jsonb_typeof(meta->'key') = 'string'",
            (scale.scale_id,),
        ).fetchall()
    )
    chosen = [text or None for text in table["response"].to_pylist()]
    names = {name: k for k, name in enumerate(sorted({*chosen, *keys.values()} - {None}, key=str))}
    most, ids = max_scores(table), tuple(items.tolist())
    usual = _usual_times(connection, store, months_before[-MONTHS_LOOKED_BACK:], scale)
    days = table["completed_at"].to_numpy().astype("datetime64[D]").astype(np.int64)
    return TimedAnswers(
        person=person.astype(np.int64),
        item=item.astype(np.int64),
        score=given_points(table),
        log_time=_log_times(table),
        day=days,
        option=np.array([-1 if text is None else names[text] for text in chosen], dtype=np.int64),
        item_ids=ids,
        key=np.array([names.get(keys.get(i), -1) for i in items.tolist()], dtype=np.int64),
        usual_log_time=np.array([usual[i][0] if i in usual else np.nan for i in items.tolist()]),
        usual_log_time_se=np.array([usual[i][1] if i in usual else np.nan for i in items.tolist()]),
        categories=None if most is None else categories_of(item, most, ids),
    )


def _usual_times(
    connection: psycopg.Connection, store: ObjectStore, months: Sequence[str], scale: Scale
) -> dict[str, tuple[float, float]]:
    """Mean log time of correct scored answers and its standard error, by item.

    Only the first MONTHS_OF_TIMES months with such answers are used, because the item may have leaked later.
    """
    of_items: dict[str, list[npt.NDArray[np.float64]]] = {}
    for month in months:
        table = attempts_of(connection, store, month, scale)
        if table is None:
            continue
        most = max_scores(table)
        table = table.filter(pc.equal(table["score"], 1 if most is None else pa.array(most)))
        log_time, (item, items) = _log_times(table), codes(table["item_id"])
        log_time, item = log_time[np.isfinite(log_time)], item[np.isfinite(log_time)]
        order = np.argsort(item, kind="stable")
        present, starts = np.unique(item[order], return_index=True)
        for name, times in zip(items[present].tolist(), np.split(log_time[order], starts[1:]), strict=False):
            if len(parts := of_items.setdefault(name, [])) < MONTHS_OF_TIMES:
                parts.append(times)
    whole = {name: np.concatenate(parts) for name, parts in of_items.items()}
    return {
        name: (float(times.mean()), float(times.std(ddof=1) / np.sqrt(times.size)))
        for name, times in whole.items()
        if times.size > 1
    }


def attempts_of(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> pa.Table | None:
    """The attempts on the scale in the month's snapshot, with the columns that drift reads.

    If the month is large, only the attempts of a sample of learners. Returns None if there is no snapshot.
    """
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    if snapshot is None:
        return None
    table = read_for_run(store, snapshot, database_settings(connection).most_for_run, COLUMNS, (scale.scale_id,))
    return table.filter(pc.equal(table["scale_id"], scale.scale_id))


def sample_in_words(connection: psycopg.Connection, month: str, scale: Scale) -> str:
    """The sample of learners that `attempts_of` returns, in words. Returns "" if it returns all learners."""
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    return sample_for_run(snapshot, database_settings(connection).most_for_run, scale.scale_id) if snapshot else ""


def _log_times(table: pa.Table) -> npt.NDArray[np.float64]:
    ms = numbers(pc.cast(table["response_time_ms"], pa.float64()), np.nan)
    return np.log(np.where(ms > 0, ms, np.nan))


def read_earlier_windows(connection: psycopg.Connection, scale: Scale, month: str, n: int) -> dict[str, LinkedWindow]:
    """The last `n` months before `month` that have a linked fit, oldest first."""
    found = {m: linked_window(connection, scale, m) for m in months_before(connection, scale, month, n)}
    return {m: window for m, window in found.items() if window is not None}


def population_of(window: LinkedWindow) -> tuple[float, float]:
    """Mean and SD of the window's learners on the bank's scale."""
    moved = replace(window.raw, joint_cov=None).rescaled(window.linking.slope, window.linking.intercept)
    return moved.latent_mean, moved.latent_sd
