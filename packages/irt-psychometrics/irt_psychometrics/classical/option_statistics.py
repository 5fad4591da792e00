"""Statistics of the options of items, or of the scores of items without options, by rest score.

Does not belong here: statistics of items and forms (`item_analysis`, `form_statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.choices import Choices
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result

ABILITY_GROUPS, TRACE_GROUPS = 3, 8
"""Groups of equal size by rest score in which the options' shares are given, and in which they are traced."""


@dataclass(frozen=True, eq=False, repr=False)
class OptionStatistics(Result):
    """Statistics of the M options, or scores, of all items; a row for each.

    Attributes
    ----------
    item_ids, options
        The item and the option of each row.
    is_choice
        Shape (M,), whether the row is an option that persons can choose; otherwise it is a score or an omission.
    is_key
        Shape (M,), whether the option is right; of scored items, whether the score is the maximum.
    n, share
        Shape (M,), number of persons who chose the option, and the share of the item's persons who did.
    mean_rest
        Shape (M,), mean rest score of these persons.
    rest_correlation
        Shape (M,), correlation of choosing the option with the rest score, in [−1, 1].
    group_shares
        Shape (M, 3), share of the option in the lower, middle and upper third of the item's persons by rest score.
    trace_n, trace_rest, trace
        Shape (M, 8), groups of (nearly) equal size of the item's persons by rest score: number, mean rest score and the
        share of the option. Equal rest scores are in one group, so groups may be empty (NaN).
    flags
        The flags of each row by the usual limits, as in `ItemAnalysis.flags`.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> table = {"q1": ["A", "B", "A", "C"], "q2": [1, 0, 1, 0], "q3": [1, 1, 0, 0]}
    >>> options = irt.classical.analyse_items(irt.Responses.from_wide(table, key={"q1": "A"})).options
    >>> options.to_frame("pandas")[["item", "option", "key", "n"]].head(3).to_dict("list")
    {'item': ['q1', 'q1', 'q1'], 'option': ['A', 'B', 'C'], 'key': [True, False, False], 'n': [2, 1, 1]}
    """

    item_ids: tuple[str, ...]
    options: tuple[str, ...]
    is_choice: Mask
    is_key: Mask
    n: Ints
    share: Floats
    mean_rest: Floats
    rest_correlation: Floats
    group_shares: Floats
    trace_n: Ints
    trace_rest: Floats
    trace: Floats
    flags: tuple[tuple[str, ...], ...]
    frame_kind: str | None = None

    @classmethod
    def join(cls, parts: Sequence[OptionStatistics], frame_kind: str | None) -> OptionStatistics:
        """Join the rows of parts with different items.

        Parameters
        ----------
        parts
            Statistics of the options of different items.
        frame_kind
            The kind of data frame that the result gives.

        Returns
        -------
        OptionStatistics
            The rows of all parts, in their order.
        """
        columns: dict[str, Any] = {own.name: [getattr(part, own.name) for part in parts] for own in fields(cls)}
        columns = {
            name: sum(values, ()) if isinstance(values[0], tuple) else np.concatenate(values)
            for name, values in columns.items()
            if name != "frame_kind"
        }
        return cls(**columns, frame_kind=frame_kind)

    def _title(self) -> str:
        return f"{len(self.options):,} options of {len(set(self.item_ids)):,} items"

    def _columns(self) -> dict[str, Any]:
        groups = dict(zip(("lower", "middle", "upper"), self.group_shares.T, strict=True))
        return {
            "item": self.item_ids,
            "option": self.options,
            "key": self.is_key,
            "n": self.n,
            "share": self.share,
            "mean_rest": self.mean_rest,
            "rest_correlation": self.rest_correlation,
            **groups,
            "flags": [", ".join(flags) for flags in self.flags],
        }


def option_statistics(x: Responses, choices: Choices | None, rest: Floats) -> OptionStatistics:
    """Compute the rows of all items' options or, for an item without options, of its scores; they have no flags yet.

    `rest` (R,) is the rest score of each response; NaN if it is not known.
    """
    chosen = choices or Choices(x.score.astype(np.int64), ((),) * x.n_items, (frozenset(),) * x.n_items)
    scores = [tuple(map(str, range(size))) for size in x.n_categories.tolist()]
    labels = [options or own for options, own in zip(chosen.labels, scores, strict=True)]
    keys = [key if found else {own[-1]} for key, found, own in zip(chosen.keys, chosen.labels, scores, strict=True)]
    has_options = np.array([bool(options) for options in chosen.labels])
    code = np.where(has_options[x.item], chosen.option, x.score)
    lengths = np.array([len(options) for options in labels])
    start, M = np.cumsum(lengths) - lengths, int(lengths.sum())
    known = (code >= 0) & ~np.isnan(rest)
    row, item, rest = (start[x.item] + code)[known], x.item[known].astype(np.int64), rest[known]
    n, of_item = np.bincount(row, minlength=M), np.bincount(item, minlength=x.n_items)
    owner = np.repeat(np.arange(x.n_items), lengths)
    share, mean_rest = n / of_item[owner], np.bincount(row, rest, M) / n
    mean, square = np.bincount(item, rest, x.n_items) / of_item, np.bincount(item, rest**2, x.n_items) / of_item
    spread = np.sqrt(square - mean**2)[owner]
    correlation = np.where(n > 0, (mean_rest - mean[owner]) / spread * np.sqrt(share / (1 - share)), np.nan)

    middle_rank = _middle_ranks(item, rest)

    def by_group(groups: int) -> tuple[Ints, Floats, Floats]:
        """Compute number of persons, mean rest score and share of the option in groups by rest, shape (M, G) each."""
        group = np.minimum((middle_rank * groups / of_item[item]).astype(np.int64), groups - 1)
        by_item, of_row = item * groups + group, row * groups + group
        cells = np.bincount(of_row, minlength=M * groups).reshape(M, groups)
        sums = np.bincount(by_item, minlength=x.n_items * groups).reshape(-1, groups)
        rests = np.bincount(by_item, rest, x.n_items * groups).reshape(-1, groups)
        return sums[owner], (rests / sums)[owner], cells / sums[owner]

    names = tuple(option for options in labels for option in options)
    return OptionStatistics(
        tuple(x.item_ids[j] for j in owner.tolist()),
        names,
        has_options[owner] & (np.array(names) != ""),
        np.array([option in key for options, key in zip(labels, keys, strict=True) for option in options], dtype=bool),
        n,
        share,
        mean_rest,
        correlation,
        by_group(ABILITY_GROUPS)[2],
        *by_group(TRACE_GROUPS),
        ((),) * M,
        x.frame_kind,
    )


def _middle_ranks(item: Ints, rest: Floats) -> Floats:
    """Compute the rank of each response by rest score among its item's persons; equal scores share a rank."""
    pairs = item + 1j * rest  # complex numbers are sorted by item, then by rest score
    _, pair, ties = np.unique(pairs, return_inverse=True, return_counts=True)
    sizes = np.bincount(item)
    return (np.cumsum(ties) - (ties + 1) / 2)[pair] - (np.cumsum(sizes) - sizes)[item]
