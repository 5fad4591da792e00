"""Turn columns of attempts into arrays: codes, numbers, and the `Attempts` to which the rules are applied.

All code that judges attempts builds its `Attempts` here, so that a new fact is added in one place. `facts` selects the
attempts.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Floats, Ints
from irt_assets.responses.eligibility.attempts import NO_SCORE, Attempts
from irt_assets.responses.facts import FACTS


def attempts_of(
    found: pa.Table,
    user: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    median_ms: Floats,
    n_timed: npt.NDArray[np.int64],
    timed: Ints | None = None,
) -> Attempts:
    """`Attempts` of the rows of `found`, which has the columns `facts.JUDGED`.

    `user` and `item` are the codes of each row. `median_ms` and `n_timed` (usual time and number of times) have an
    element for each code of an item; if `timed` is given, its elements are each row's index in them instead.
    """
    return Attempts(
        user=user,
        item=item,
        live=numbers(pc.equal(found["mode"], "live"), False).astype(bool),
        exam=numbers(pc.is_valid(found["form_id"]), False).astype(bool),
        correct=numbers(pc.cast(found["correct"], pa.int8()), -1).astype(np.int8),
        hints=numbers(found["hints_used"], -1).astype(np.int32),
        time_ms=numbers(pc.cast(found["response_time_ms"], pa.float64()), np.nan),
        item_median_ms=median_ms,
        item_n_timed=n_timed,
        item_timed=timed,
        score=numbers(found["given_score"], NO_SCORE).astype(np.int16) if "given_score" in found.column_names else None,
        max_score=max_scores(found),
        **{name: numbers(found[name], False).astype(bool) for name in FACTS},
    )


def max_scores(found: pa.Table) -> npt.NDArray[np.int16] | None:
    """The maximum score of each row's item. Returns None if no row is of an item with a maximum above 1."""
    if "max_score" not in found.column_names or found["max_score"].null_count == found.num_rows:
        return None
    return numbers(found["max_score"], 1).astype(np.int16)


def numbers(column: pa.ChunkedArray, missing: Any) -> npt.NDArray[Any]:
    """The values of a column, with `missing` instead of nulls."""
    return pc.fill_null(column, missing).to_numpy()


def instants(column: pa.ChunkedArray) -> Ints:
    """Times as microseconds since 1970."""
    return pc.cast(pc.cast(column, pa.timestamp("us", "UTC")), pa.int64()).to_numpy()


def codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.object_]]:
    """Code each value by its rank among the sorted labels that occur. Returns the codes and these labels."""
    if len(column) == 0:
        return np.array([], dtype=np.int32), np.array([], dtype=object)
    encoded = column.combine_chunks().dictionary_encode()
    labels, index = (of.to_numpy(zero_copy_only=False) for of in (encoded.dictionary, encoded.indices))
    occurs = np.zeros(labels.size, dtype=bool)
    occurs[index] = True
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    order = order[occurs[order]]
    rank = np.empty(labels.size, dtype=np.int32)
    rank[order] = np.arange(order.size, dtype=np.int32)
    return rank[index], labels[order]
