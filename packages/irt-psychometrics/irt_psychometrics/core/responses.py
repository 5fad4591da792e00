"""Scored responses in sparse form, the input of every engine, and answers to items of several categories as rows.

`score_tables` interprets the cells of a table.
"""

import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.choices import Choices
from irt_psychometrics.core.derived_columns import FIRST_ROWS, derived_columns
from irt_psychometrics.core.design import Component, components
from irt_psychometrics.core.errors import ItemWarning, PsychometricsError
from irt_psychometrics.core.frames import Frame, label_of, read_frame, sort_rows
from irt_psychometrics.core.results import Result
from irt_psychometrics.core.score_tables import Key, Scoring, number_persons
from irt_psychometrics.core.testlets import share_testlets
from irt_psychometrics.core.wording import some_of

DAY = 86_400_000_000
"""A day in microseconds, the unit of `Responses.at`."""


@dataclass(frozen=True, eq=False, repr=False)
class Responses(Result):
    """Scored responses in sparse form, sorted by person: one entry per person-item pair that was seen.

    Attributes:
        person: shape (R,), int32, index of the person, non-decreasing.
        item: shape (R,), int32, index into `item_ids`.
        score: shape (R,), int8, 0 or 1, or with `categories` from 0 to the item's number of categories − 1.
        n_persons: number of persons (indices run from 0 to n_persons − 1).
        item_ids: J item ids; an item may have no responses.
        categories: shape (J,), the number of categories of each item; None: 2 for all.
        key: shape (n_persons,), a hash of each person's id, by which sums over persons are divided into parts; None:
            they are divided by the persons' numbers.
        at: shape (R,), int64, the time of each response in microseconds since 1970 (UTC); None: not known.
        person_ids: n_persons labels, whole numbers or texts; None: persons have no labels, only numbers.
        choices: the chosen options, if the responses were read with a key; None: no options are known.
        frame_kind: the kind of data frame from which the responses were made, such as "pandas"; results give frames of
            this kind. None: they were not made from a frame. It is ignored when responses are compared.
        frame_index: the index of the pandas frame with a row for each person; None: no such frame. Results per person
            give pandas frames with this index. It is ignored when responses are compared, and not part of the JSON.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.Responses.from_wide({"q1": [1, 0, 1], "q2": [0, None, 1]})
    >>> x
    Responses(3 persons, 2 items, 5 responses)
    >>> irt.Responses.from_json(x.to_json()) == x
    True
    """

    person: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    n_persons: int
    item_ids: tuple[str, ...]
    categories: Ints | None = None
    key: npt.NDArray[np.uint32] | None = None
    at: Ints | None = None
    person_ids: tuple[str | int, ...] | None = None
    choices: Choices | None = None
    frame_kind: str | None = None
    frame_index: Any = None

    def __repr__(self) -> str:
        return f"Responses({self.n_persons:,} persons, {self.n_items:,} items, {self.n_responses:,} responses)"

    def __post_init__(self) -> None:
        if self.key is not None and self.key.shape != (self.n_persons,):
            raise PsychometricsError(f"key must be {self.n_persons} numbers, one per person; got {self.key.shape}")
        if not (self.person.shape == self.item.shape == self.score.shape):
            raise PsychometricsError("person, item and score must have one length")
        if self.at is not None and self.at.shape != self.person.shape:
            raise PsychometricsError(f"at must be {self.n_responses} times, one per response; got {self.at.shape}")
        if self.person_ids is not None and len(self.person_ids) != self.n_persons:
            raise PsychometricsError(
                f"person_ids must be {self.n_persons} labels, one per person; got {len(self.person_ids)}"
            )
        if (own := self.choices) is not None and (len(own.option), len(own.labels)) != (self.item.size, self.n_items):
            raise PsychometricsError(
                f"choices must have {self.n_responses} options, one per response, and labels of {self.n_items} items; "
                f"got {len(own.option)} and {len(own.labels)}"
            )
        if self.categories is None and not (binary := (self.score == 0) | (self.score == 1)).all():
            raise PsychometricsError(f"scores must be 0 or 1, found {self.score[~binary][0]}")
        for name, index, size in (("person", self.person, self.n_persons), ("item", self.item, self.n_items)):
            if index.size and not (index.min() >= 0 and index.max() < size):
                raise PsychometricsError(
                    f"{name} indices must lie in 0 … {size - 1}, found {index.min()} … {index.max()}"
                )
        if self.categories is not None:
            self._require_categories(self.categories)
        if np.any(self.person[1:] < self.person[:-1]):
            raise PsychometricsError("responses must be sorted by person")
        # compiled kernels check no bounds and are compiled again for every other type, order and read-only buffer
        for name, dtype in (("person", np.int32), ("item", np.int32), ("score", np.int8)):
            object.__setattr__(self, name, np.require(getattr(self, name), dtype, ["C", "W"]))

    def _require_categories(self, categories: Ints) -> None:
        if categories.shape != (self.n_items,) or np.any(categories < 2):
            raise PsychometricsError(
                f"categories must be {self.n_items} numbers of at least 2, one per item; got shape {categories.shape}"
                f"{f', the least {categories.min()}' if categories.size else ''}"
            )
        beyond = np.flatnonzero((self.score < 0) | (self.score >= categories[self.item]))
        if beyond.size:
            j = self.item[beyond[0]]
            raise PsychometricsError(
                f"item {self.item_ids[j]} has {categories[j]} categories, scored 0 … {categories[j] - 1}; found a "
                f"score of {self.score[beyond[0]]}"
            )

    @classmethod
    def from_wide(
        cls,
        data: Any,
        item_ids: Sequence[str | int] | None = None,
        categories: npt.ArrayLike | None = None,
        *,
        person: str | int | None = None,
        key: Key | None = None,
        max_score: int | Mapping[Any, int] | None = None,
    ) -> Self:
        """Build from a table with a row for each person and a column for each item.

        Parameters
        ----------
        data
            A data frame of any kind, a mapping column → cells, or a persons × items matrix. None, NaN and empty text
            mean that the person did not see the item. Names of columns are used as text.
        item_ids
            For a frame, the columns that are items, in this order; None: all but `person` and, with a warning, columns
            that cannot be items: the sum or the mean of others, a constant, a number of rows, persons or attempts. For
            a matrix, the items' names; None: i1, i2, …
        categories
            Shape (J,), the number of scores of each item; only for a matrix. `max_score` is an alternative.
        person
            The column with the persons' labels. None: the index of a pandas frame if the index has a name or does not
            count the rows from 0; otherwise persons have their row number, counted from 0.
        key
            Item → right option. Cells of these items are choices, which are kept in `choices`, and any other choice is
            wrong. 3, 3.0 and "3" are the same option. A list contains alternatives: ["A", "B"] means that A is right,
            and that B is right, too. A set contains the options that must all be chosen, in any order, and no others:
            {"A", "C"} means that "A;C" and "C;A" are right. The options of a cell are a list or a text with ; , or |
            between the options. A list may contain sets.
        max_score
            The highest score of all items, or item → highest score (1 if an item is not named). It is never inferred
            from the data, because perhaps nobody reached it.

        Returns
        -------
        Responses
            The responses, with the persons in the order of the rows.

        Raises
        ------
        PsychometricsError
            For a cell that is not a score, a person without a label or in two rows, a missing column, and data that
            are not a table. The message names row, item and value.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> answers = {"who": ["ann", "bo"], "q1": ["A", "C"], "q2": ["B", ""]}
        >>> x = irt.Responses.from_wide(answers, person="who", key={"q1": "A", "q2": ["B", "D"]})
        >>> x.person_ids, x.score.tolist()
        (('ann', 'bo'), [1, 1, 0])
        >>> irt.Responses.from_wide({"q": ["A;C", "C;A", "A"]}, key={"q": {"A", "C"}}).score.tolist()
        [1, 1, 0]
        """
        frame = read_frame(data)
        if frame is None:
            matrix = _matrix(data, as_numbers=categories is not None)
            ids = _matrix_ids(item_ids, matrix.shape[1])
            if matrix.dtype.kind in "biuf" and not key:
                if max_score is not None:
                    categories = Scoring.from_key_or_maximum(ids, None, max_score).categories(ids)
                return cls._from_matrix(matrix.astype(float), ids, categories)
            frame = Frame.from_matrix(matrix, ids)
        if categories is not None:
            raise PsychometricsError("categories is for a matrix of scores; use max_score= for a data frame")
        columns = [c for c in frame.columns if person is None or c != str(person)]
        ids = tuple(map(str, columns if item_ids is None else item_ids))
        if not ids:
            raise PsychometricsError("the table has no column with answers to an item")
        if item_ids is None:
            ids = _without_derived(frame, ids, key or {}, max_score if isinstance(max_score, Mapping) else ())
        scoring = Scoring.from_key_or_maximum(ids, key, max_score)
        labels = _row_labels(frame, person)

        def location(row: int) -> str:
            return f"row {row}" + ("" if labels is None else f" (person {labels[row]})")

        scores, options = [], []
        for name in ids:
            column = frame.column(name, "an item")
            item = np.zeros(len(column.missing), dtype=np.int64)
            score, choices = scoring.read(column, (name,), item, location, is_column=True)
            scores.append(score)
            options.append(choices or Choices.unknown(len(score), 1))
        matrix = np.stack(scores, axis=1)
        return cls._from_scores(
            matrix,
            ids,
            scoring.categories(ids),
            person_ids=labels,
            choices=Choices.join_columns(options, matrix >= 0) if scoring.right else None,
            frame_kind=frame.kind,
            frame_index=frame.index,
        )

    @classmethod
    def _from_matrix(cls, x: Floats, item_ids: tuple[str, ...], categories: npt.ArrayLike | None) -> Self:
        most = 1 if categories is None else np.max(categories, initial=2) - 1
        wrong = ~((x >= 0) & (x <= most) & (x == np.floor(x))) & ~np.isnan(x)
        if wrong.any():
            person, item = np.argwhere(wrong)[0]
            raise PsychometricsError(
                f"scores must be 0, {'1' if categories is None else '1, …'} or NaN, found {x[person, item]} in row "
                f"{person}, column {item}"
            )
        sizes = None if categories is None else np.asarray(categories, dtype=np.int64)
        return cls._from_scores(np.where(np.isnan(x), -1, x).astype(np.int8), item_ids, sizes)

    @classmethod
    def _from_scores(
        cls, x: npt.NDArray[np.int8], item_ids: tuple[str, ...], categories: Ints | None, **others: Any
    ) -> Self:
        """Make the responses of a persons × items matrix; −1 means a missing score."""
        N, J = x.shape
        person = np.repeat(np.arange(N, dtype=np.int32), J)
        item = np.tile(np.arange(J, dtype=np.int32), N)
        score = x.ravel()
        if (score < 0).any():
            seen = score >= 0
            person, item, score = person[seen], item[seen], score[seen]
        return cls(person, item, score, N, item_ids, categories, **others)

    @classmethod
    def from_long(
        cls,
        data: Any,
        *,
        person: str | int = "person",
        item: str | int = "item",
        score: str | int = "score",
        item_ids: Sequence[str | int] | None = None,
        key: Key | None = None,
        max_score: int | Mapping[Any, int] | None = None,
    ) -> Self:
        """Build from a table with a row for each answer.

        Parameters
        ----------
        data
            A data frame of any kind, or a mapping column → cells.
        person, item, score
            The columns with the person's label, the item, and the score (or, with `key`, the choice). A row without a
            score is an item that the person did not see.
        item_ids
            The items in their order, of which some may have no answer; None: in the order in which they first occur.
        key, max_score
            As in `from_wide`.

        Returns
        -------
        Responses
            The responses, with the persons in the order in which they first occur.

        Raises
        ------
        PsychometricsError
            For a cell that is not a score, a second answer of a person to an item, a row without person or item, and a
            missing column. The message names row, item and value.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> log = {"person": ["ann", "bo", "ann"], "item": ["q1", "q1", "q2"], "score": [1, 0, 1]}
        >>> irt.Responses.from_long(log)
        Responses(2 persons, 2 items, 3 responses)
        """
        frame = read_frame(data)
        if frame is None:
            raise PsychometricsError("from_long needs a data frame or a mapping column → cells")
        person_cells, item_cells, cells = (
            frame.column(c, use) for c, use in ((person, "persons"), (item, "items"), (score, "scores"))
        )
        code, labels = number_persons(person_cells, f"column {person!r}")
        if item_cells.missing.any():
            raise PsychometricsError(f"row {int(np.flatnonzero(item_cells.missing)[0])} has no item in column {item!r}")
        values, places = item_cells.distinct()
        names = [str(label_of(value)) for value in values]
        ids = tuple(dict.fromkeys(names)) if item_ids is None else tuple(map(str, item_ids))
        number = {name: j for j, name in enumerate(ids)}
        column = np.array([number.get(name, -1) for name in names], dtype=np.int64)[places]
        if (column < 0).any():
            row = int(np.flatnonzero(column < 0)[0])
            raise PsychometricsError(
                f"row {row} has item {names[places[row]]!r}, which is not among item_ids; add it, or drop its rows"
            )
        scoring = Scoring.from_key_or_maximum(ids, key, max_score)
        scores, choices = scoring.read(cells, ids, column, lambda row: f"row {row} (person {labels[code[row]]})")
        rows = np.flatnonzero(scores >= 0)
        order, pair = sort_rows((code * len(ids) + column)[rows])
        rows = rows[order]
        twice = np.flatnonzero(pair[1:] == pair[:-1])
        if twice.size:
            first, second = sorted(rows[twice[0] : twice[0] + 2].tolist())
            raise PsychometricsError(
                f"person {labels[code[first]]} answered item {ids[column[first]]} in rows {first} and {second}, with "
                f"{cells.cell(first)} and {cells.cell(second)}; keep one of them, such as the first answer"
            )
        persons = pair // max(len(ids), 1)
        return cls(
            persons.astype(np.int32),
            (pair - persons * len(ids)).astype(np.int32),
            scores[rows],
            len(labels),
            ids,
            scoring.categories(ids),
            person_ids=labels,
            choices=None if choices is None else choices.of_rows(rows),
            frame_kind=frame.kind,
        )

    def _title(self) -> str:
        return f"{self.n_persons:,} persons × {self.n_items:,} items"

    def _facts(self) -> dict[str, str]:
        missing = self.n_persons * self.n_items - self.n_responses
        return {"answers": f"{self.n_responses:,}", "missing": f"{missing:,}"}

    def _columns(self) -> dict[str, Any]:
        """The table with a row for each answer; a person without a label has a number."""
        labels = range(self.n_persons) if self.person_ids is None else self.person_ids
        return {
            "person": [labels[k] for k in self.person.tolist()],
            "item": [self.item_ids[j] for j in self.item.tolist()],
            "score": self.score.astype(np.int64),  # sums and products of int8 overflow
        }

    def _html_columns(self) -> dict[str, Any]:
        """The table with a row for each item; `facility` is the mean as a share of the maximum score."""
        answers = np.bincount(self.item, minlength=self.n_items)
        points = np.bincount(self.item, self.score, minlength=self.n_items)
        mean = np.divide(points, answers, out=np.full(self.n_items, np.nan), where=answers > 0)
        most = self.n_categories - 1
        columns = {"item": self.item_ids, "answers": answers, "missing": self.n_persons - answers}
        if self.categories is not None:
            columns |= {"mean": mean, "max_score": most}
        return columns | {"facility": mean / most}

    @property
    def days_since_first(self) -> Floats:
        """Days since the person's first response, shape (R,).

        Raises
        ------
        PsychometricsError
            If the times are not known.
        """
        at = self.known_times / DAY
        first = np.full(self.n_persons, np.inf)
        np.minimum.at(first, self.person, at)
        return at - first[self.person]

    def of_items(self, keep: npt.ArrayLike) -> Self:
        """Select the responses to some items.

        Parameters
        ----------
        keep
            The items: a mask (J,), or indices in any order.

        Returns
        -------
        Responses
            The responses to these items, in this order. Persons keep their numbers.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.Responses.from_wide({"q1": [1, 0], "q2": [0, 1], "q3": [1, 1]}).of_items([2, 0]).item_ids
        ('q3', 'q1')
        """
        kept = np.arange(self.n_items)[np.asarray(keep)]
        place = np.full(self.n_items, -1, dtype=np.int32)
        place[kept] = np.arange(len(kept))
        rows = place[self.item] >= 0
        ids = tuple(self.item_ids[j] for j in kept)
        sizes, some = None if self.categories is None else self.categories[kept], self.of_rows(rows)
        choices = None if some.choices is None else some.choices.of_items(kept.tolist())
        return replace(some, item=place[some.item], item_ids=ids, categories=sizes, choices=choices)

    def of_persons(self, persons: npt.NDArray[np.integer[Any]]) -> Self:
        """Select the responses of some persons.

        Parameters
        ----------
        persons
            Ascending indices of the persons.

        Returns
        -------
        Responses
            The responses of these persons, who get new numbers, in this order, and no `key`.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> x = irt.Responses.from_wide({"who": ["ann", "bo", "cy"], "q": [1, 0, 1]}, person="who")
        >>> x.of_persons(np.array([0, 2])).person_ids
        ('ann', 'cy')
        """
        place = np.full(self.n_persons, -1, dtype=np.int32)
        place[persons] = np.arange(len(persons))
        some, labels = self.of_rows(place[self.person] >= 0), self.person_ids
        labels = None if labels is None else tuple(labels[k] for k in persons.tolist())
        index = None if self.frame_index is None else self.frame_index[persons]
        return replace(
            some,
            person=place[some.person],
            n_persons=len(persons),
            key=None,
            person_ids=labels,
            frame_index=index,
        )

    def renumber_persons(self, number: npt.NDArray[np.int32], n_persons: int) -> Self:
        """Give persons new numbers, for example to count several persons as one.

        Parameters
        ----------
        number
            Shape (current number of persons,), each person's new number, from 0 to `n_persons` − 1, in any order.
        n_persons
            The new number of persons.

        Returns
        -------
        Responses
            The same responses, sorted by the new numbers, without `key`, `person_ids` and `frame_index`.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> x = irt.Responses.from_wide({"q1": [1, 0], "q2": [0, 1]})
        >>> x.renumber_persons(np.array([1, 0], dtype=np.int32), 2).score.tolist()
        [0, 1, 1, 0]
        """
        person = number[self.person]
        order = np.argsort(person, kind="stable")
        changes = self._each_response(order) | {"person": person[order], "n_persons": n_persons}
        return replace(self, **changes, key=None, person_ids=None, frame_index=None)

    def of_rows(self, rows: Mask) -> Self:
        """Select responses.

        Parameters
        ----------
        rows
            Shape (R,), mask of the responses.

        Returns
        -------
        Responses
            These responses. Persons and items keep their numbers.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> x = irt.Responses.from_wide({"q1": [1, 0], "q2": [0, 1]})
        >>> x.of_rows(x.score == 1)
        Responses(2 persons, 2 items, 2 responses)
        """
        return replace(self, **self._each_response(rows))

    def _each_response(self, rows: Any) -> dict[str, Any]:
        """Return the fields with an entry for each response, for some of the responses or in another order."""
        found = {"person": self.person[rows], "item": self.item[rows], "score": self.score[rows]}
        found["at"] = None if self.at is None else self.at[rows]
        return found | {"choices": None if self.choices is None else self.choices.of_rows(rows)}

    def among(self, item_ids: Sequence[str], categories: Ints | None = None) -> Self:
        """Place the responses among more items, or give the items another order.

        Parameters
        ----------
        item_ids
            The new items, of which some may have no response.
        categories
            Shape (number of new items,), numbers of categories of items without responses; None: two.

        Returns
        -------
        Responses
            The same responses with `item_ids` as the items.

        Raises
        ------
        PsychometricsError
            If an item of these responses is not in `item_ids`.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.Responses.from_wide({"q2": [1, 0]}).among(["q1", "q2"]).item.tolist()
        [1, 1]
        """
        place = {item: j for j, item in enumerate(item_ids)}
        if missing := [item for item in self.item_ids if item not in place]:
            raise PsychometricsError(f"item {missing[0]} has responses and is not among the items")
        code = np.array([place[item] for item in self.item_ids], dtype=np.int32)
        sizes = None
        if self.categories is not None or categories is not None:
            sizes = np.full(len(item_ids), 2) if categories is None else categories.copy()
            sizes[code] = self.n_categories
        choices = self.choices
        if choices is not None:
            own = {item: j for j, item in enumerate(self.item_ids)}
            choices = choices.of_items([own.get(item, -1) for item in item_ids])
        return replace(self, item=code[self.item], item_ids=tuple(item_ids), categories=sizes, choices=choices)

    def share_testlets(self, testlets: Mapping[str, str]) -> bool:
        """Check whether two of the items are in one testlet.

        Parameters
        ----------
        testlets
            Item → testlet.

        Returns
        -------
        bool
            True if a testlet contains two of the items.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.Responses.from_wide({"q1": [1], "q2": [0]}).share_testlets({"q1": "text", "q2": "text"})
        True
        """
        return share_testlets(self.item_ids, testlets)

    def components(self) -> list[Component]:
        """Find the groups of items that no person connects. Each group would have a scale of its own.

        Returns
        -------
        list[Component]
            The groups, largest first; a single group if persons connect all items.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> apart = irt.Responses.from_wide({"q1": [1, None], "q2": [0, None], "q3": [None, 1]})
        >>> len(apart.components())
        2
        """
        return components(self)

    @property
    def n_categories(self) -> Ints:
        """The number of categories of each item, shape (J,)."""
        return np.full(self.n_items, 2) if self.categories is None else self.categories

    @property
    def n_items(self) -> int:
        """The number of items J."""
        return len(self.item_ids)

    @property
    def n_responses(self) -> int:
        """The number of responses R."""
        return int(self.person.size)

    @property
    def known_times(self) -> Ints:
        """The times `at`, shape (R,).

        Raises
        ------
        PsychometricsError
            If the times are not known.
        """
        if self.at is None:
            raise PsychometricsError("these responses have no times: give `at`")
        return self.at

    @property
    def last_at(self) -> Ints:
        """The time of each person's last response in the unit of `at`, shape (n_persons,).

        Every person must have a response.

        Raises
        ------
        PsychometricsError
            If the times are not known.
        """
        at = self.known_times
        if not self.n_responses:
            return np.empty(0, dtype=np.int64)
        return np.maximum.reduceat(at, np.searchsorted(self.person, np.arange(self.n_persons)))


def _matrix(data: Any, *, as_numbers: bool) -> npt.NDArray[Any]:
    """Return data that are not a data frame as a matrix. Raises PsychometricsError if they are not one."""
    try:
        matrix = np.asarray(data, dtype=float if as_numbers else None)
        if matrix.dtype.kind == "U" and not isinstance(data, np.ndarray):
            matrix = np.array(data, dtype=object)  # NaN beside texts would become the text "nan"
    except ValueError:
        matrix = np.empty(0)
    if matrix.ndim != 2:
        raise PsychometricsError(
            "responses are read from a data frame, a mapping column → cells or a persons × items matrix; got "
            f"{type(data).__name__}"
        )
    return matrix


def _matrix_ids(item_ids: Sequence[str | int] | None, n_items: int) -> tuple[str, ...]:
    return tuple(map(str, item_ids)) if item_ids is not None else tuple(f"i{j + 1}" for j in range(n_items))


def _without_derived(frame: Frame, ids: tuple[str, ...], key: Container[Any], named: Container[Any]) -> tuple[str, ...]:
    """Return the columns without those that cannot be items, of which an ItemWarning tells.

    `key`, `named`: items with a right option, and items with a maximum score.
    """
    scored = [name for name in ids if name not in key]
    first = [frame.column(name, "an item").numbers()[:FIRST_ROWS] for name in scored]
    derived = derived_columns(scored, np.array(first).T, named)
    if not derived or len(derived) == len(ids):
        return ids
    columns = some_of([f"{name} ({why})" for name, why in derived.items()])
    warnings.warn(
        f"left out, because they are not items: {columns}. Name all items in item_ids= if they are items, and the"
        " column of persons in person=",
        ItemWarning,
        stacklevel=3,
    )
    return tuple(name for name in ids if name not in derived)


def _row_labels(frame: Frame, person: str | int | None) -> tuple[str | int, ...] | None:
    """Return the persons of the rows, by a column or by the frame's index. Raises PsychometricsError if they repeat."""
    column = frame.labels if person is None else frame.column(person, "persons")
    if column is None:
        return None
    place = f"the index {frame.index_name!r}" if person is None else f"column {person!r}"
    code, labels = number_persons(column, place)
    if len(labels) < len(code):
        twice = int(np.flatnonzero(np.bincount(code) > 1)[0])
        first, second = np.flatnonzero(code == twice)[:2].tolist()
        remedy = "call reset_index(drop=True)" if person is None else "leave person= out"
        raise PsychometricsError(
            f"person {labels[twice]} is in rows {first} and {second}; keep one of the rows, or {remedy} if rows are "
            "persons"
        )
    return labels


def category_rows(categories: Ints) -> tuple[Ints, Ints]:
    """Item and category of rows, shape (M,) each; an item has a row for each category above 0."""
    item = np.repeat(np.arange(len(categories)), categories - 1)
    return item, np.arange(len(item)) - (np.cumsum(categories - 1) - categories + 1)[item] + 1


def answered_rows(responses: Responses) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Answers to items of several categories as right and wrong answers to rows, shape (R,) each.

    An answer in a category above 0 is a right answer to the row of this category. An answer in category 0 is a wrong
    answer to the item's first row.
    """
    rows = responses.n_categories - 1
    chosen = (np.cumsum(rows) - rows)[responses.item] + np.maximum(responses.score, 1) - 1
    return chosen.astype(np.int32), (responses.score > 0).astype(np.int8)
