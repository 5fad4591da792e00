"""Simulate the data sets. The same seed gives the same responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.items import ItemParameters, ItemRow
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.simulation.from_items import simulate_responses

OPTIONS = "ABCD"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Responses of N persons to J items, as a table and as `Responses`, and the truth from which they were simulated.

    Attributes
    ----------
    responses
        Scored responses, as `Responses.from_wide` reads them from the table.
    columns
        Table by column: "person", then one column per item.
    truth
        True parameters of the items.
    theta
        Shape (N,), true abilities.
    key
        Item → right option, with which `responses` are scored; empty if the table contains scores.
    true_key
        Item → truly right option; empty if the table contains scores.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> data = irt.datasets.rating_scale()
    >>> data
    <Dataset: 600 persons, 10 items>
    >>> f = irt.fit(data.responses, "gpcm")
    >>> bool(abs(f.items.b - data.truth.b).mean() < 0.2)
    True
    """

    responses: Responses
    columns: Mapping[str, Sequence[Any]]
    truth: ItemParameters
    theta: Floats
    key: Mapping[str, str]
    true_key: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Dataset: {self.responses.n_persons:,} persons, {self.responses.n_items:,} items>"

    def to_frame(self, kind: str | None = None) -> Any:
        """Return the table as a data frame, a row per person.

        Parameters
        ----------
        kind
            "pandas", "polars" or "pyarrow". None: the first of these that is installed.

        Returns
        -------
        data frame
            The columns "person" and the items.

        Raises
        ------
        PsychometricsError
            If no data frame of this kind can be made.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.datasets.rating_scale().to_frame("pandas").shape
        (600, 11)
        """
        return make(self.columns, kind)


def wrong_key(*, random_state: int = 1) -> Dataset:
    """Simulate options A to D of 800 persons on 20 items. The key of item q07 is wrong.

    The right option follows a 2PL. The other options attract persons in the ratio 4 : 2 : 1, and the key of q07 names
    the most attractive one of them.

    Parameters
    ----------
    random_state
        Seed of the random numbers.

    Returns
    -------
    Dataset
        Chosen options, with `key` (one wrong entry) and `true_key`.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> data = irt.datasets.wrong_key()
    >>> [item for item in data.key if data.key[item] != data.true_key[item]]
    ['q07']
    """
    rng = np.random.default_rng(random_state)
    truth, theta = _logistic_items(rng, 20), rng.normal(size=800)
    right = simulate_responses(truth, theta, random_state=rng).score.reshape(800, 20) == 1
    ranks = np.array([rng.permutation(4) for _ in truth.item_ids])  # options from right to least attractive
    wrong = rng.choice([1, 2, 3], size=right.shape, p=[4 / 7, 2 / 7, 1 / 7])
    chosen = np.take_along_axis(ranks.T, np.where(right, 0, wrong), axis=0)
    true_key = {item: OPTIONS[option] for item, option in zip(truth.item_ids, ranks[:, 0], strict=True)}
    key = true_key | {"q07": OPTIONS[ranks[truth.item_ids.index("q07"), 1]]}
    return _dataset(np.array(list(OPTIONS))[chosen], truth, theta, key, true_key)


def rating_scale(*, random_state: int = 2) -> Dataset:
    """Simulate scores 0 to 3 of 600 persons on 10 items by a generalised partial credit model.

    Parameters
    ----------
    random_state
        Seed of the random numbers.

    Returns
    -------
    Dataset
        Scores.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> data = irt.datasets.rating_scale()
    >>> irt.fit(data.responses, "gpcm").converged
    True
    """
    rng = np.random.default_rng(random_state)
    slopes, middles = rng.lognormal(0.0, 0.25, 10), np.linspace(-1, 1, 10)
    rows = []
    for a, b in zip(slopes.tolist(), middles.tolist(), strict=True):
        steps = np.sort(rng.normal([-1.0, 0.0, 1.0], 0.2))
        t = -a * np.cumsum(steps - steps.mean())  # the steps' mean is b
        further = {"max_score": 3.0, "t0": 0.0, "t1": float(t[0]), "t2": float(t[1]), "t3": 0.0}
        rows.append(ItemRow(a, b, further=further))
    truth, theta = ItemParameters.from_rows(_names(10), rows), rng.normal(size=600)
    return _scores(truth, theta, rng)


def two_forms(*, random_state: int = 7) -> tuple[Dataset, Dataset]:
    """Simulate two forms of 30 items for 1,000 persons each, with 10 common items c01 to c10.

    Persons p0001 … of the first form have θ ~ N(0, 1), persons n0001 … of the second θ ~ N(0.3, 1.1²). The common
    items have the same parameters in both forms; the other items of the second form are harder by 0.2.

    Parameters
    ----------
    random_state
        Seed of the random numbers.

    Returns
    -------
    tuple of two Datasets
        The old and the new form. Both truths are on one scale.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> old, new = irt.datasets.two_forms()
    >>> len(set(old.truth.item_ids) & set(new.truth.item_ids))
    10
    >>> abs(irt.link(irt.fit(new.responses), irt.fit(old.responses)).slope - 1.1) < 0.2
    True
    """
    rng = np.random.default_rng(random_state)
    common = _logistic_items(rng, 10, prefix="c")
    forms = []
    for prefix, person, mean, sd, shift in (("x", "p", 0.0, 1.0, 0.0), ("y", "n", 0.3, 1.1, 0.2)):
        own = _logistic_items(rng, 20, prefix=prefix, shift=shift)
        rows = [*zip(common.a, common.b, strict=True), *zip(own.a, own.b, strict=True)]
        truth = ItemParameters.from_rows(common.item_ids + own.item_ids, [ItemRow(float(a), float(b)) for a, b in rows])
        forms.append(_scores(truth, rng.normal(mean, sd, 1000), rng, person))
    return forms[0], forms[1]


def guessing(*, random_state: int = 4) -> Dataset:
    """Simulate scores 0 and 1 of 2,000 persons on 30 items by a 3PL with lower asymptotes of 0.15 to 0.25.

    Parameters
    ----------
    random_state
        Seed of the random numbers.

    Returns
    -------
    Dataset
        Scores.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> data = irt.datasets.guessing()
    >>> data.truth.c.min().round(2).item(), data.truth.c.max().round(2).item()
    (0.16, 0.25)
    """
    rng = np.random.default_rng(random_state)
    truth = _logistic_items(rng, 30, shift=0.5, c=rng.uniform(0.15, 0.25, 30))
    return _scores(truth, rng.normal(size=2000), rng)


def _names(n: int, prefix: str = "q") -> tuple[str, ...]:
    return tuple(f"{prefix}{j:02d}" for j in range(1, n + 1))


def _logistic_items(
    rng: np.random.Generator, n: int, *, prefix: str = "q", shift: float = 0.0, c: Floats | float = 0.0
) -> ItemParameters:
    a, b = rng.lognormal(0.2, 0.25, n), np.sort(rng.normal(shift, 1.0, n))
    columns = zip(a.tolist(), b.tolist(), np.broadcast_to(c, n).tolist(), strict=True)
    return ItemParameters.from_rows(_names(n, prefix), [ItemRow(*row) for row in columns])


def _scores(truth: ItemParameters, theta: Floats, rng: np.random.Generator, person: str = "p") -> Dataset:
    drawn = simulate_responses(truth, theta, random_state=rng)
    return _dataset(drawn.score.reshape(theta.size, -1), truth, theta, {}, {}, person)


def _dataset(
    cells: Any,
    truth: ItemParameters,
    theta: Floats,
    key: Mapping[str, str],
    true_key: Mapping[str, str],
    person: str = "p",
) -> Dataset:
    columns = {"person": [f"{person}{i:04d}" for i in range(1, theta.size + 1)]}
    columns |= dict(zip(truth.item_ids, cells.T.tolist(), strict=True))
    most = None if key else int(cells.max())
    responses = Responses.from_wide(columns, person="person", key=key or None, max_score=most)
    return Dataset(responses, columns, truth, theta, key, true_key)
