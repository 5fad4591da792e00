"""Whether a subscore says more about its topic than the total score does.

Needs no model; reliabilities of scores are in `item_analysis`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.classical.form_statistics import covariance_of, cronbach_alpha
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.results import Result


@dataclass(frozen=True, eq=False, repr=False)
class Subscores(Result):
    """Proportional reduction of mean squared error (PRMSE) of true subscores, by subscore and by total (Haberman 2008).

    Attributes
    ----------
    topics
        The S topics.
    n_items
        Shape (S,), items of each topic.
    by_subscore
        Shape (S,), PRMSE by the topic's own score, which is Cronbach's α.
    by_total
        Shape (S,), PRMSE by the total score.
    adds_value
        Shape (S,), whether the subscore predicts better than the total.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> irt.classical.Subscores(("algebra",), np.array([12]), np.array([0.8]), np.array([0.7])).adds_value.tolist()
    [True]
    """

    topics: tuple[str, ...]
    n_items: Ints
    by_subscore: Floats
    by_total: Floats
    frame_kind: str | None = None

    @property
    def adds_value(self) -> Mask:
        """Whether each subscore predicts better than the total, shape (S,)."""
        return self.by_subscore > self.by_total

    def _title(self) -> str:
        return f"{int(self.adds_value.sum())} of {len(self.topics)} subscores add value"

    def _columns(self) -> dict[str, Any]:
        return {
            "topic": self.topics,
            "items": self.n_items,
            "by_subscore": self.by_subscore,
            "by_total": self.by_total,
            "adds_value": self.adds_value,
        }


def subscores(points: npt.ArrayLike, topics: Sequence[str]) -> Subscores:
    """Compare subscores with the total score as predictors of true subscores.

    Parameters
    ----------
    points
        Shape (n, J), the points of n persons who answered all J items.
    topics
        The topic of each item; a topic needs two items or more.

    Returns
    -------
    Subscores
        The topics in the order of their first items.

    Raises
    ------
    PsychometricsError
        For missing points, a topic with one item, and a topic whose scores do not vary.

    References
    ----------
    Haberman, S. J. (2008). When can subscores have value? Journal of Educational and Behavioral Statistics, 33,
    204-229.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> points = [[1, 1, 0, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0]]
    >>> irt.classical.subscores(points, ["algebra", "algebra", "geometry", "geometry"]).n_items.tolist()
    [2, 2]
    """
    x, of = np.asarray(points, float), np.asarray(topics)
    if x.ndim != 2 or x.shape[1] != of.size or len(x) < 3 or not np.isfinite(x).all():
        raise PsychometricsError("points need three persons or more with all items, and a topic for each item")
    names = tuple(dict.fromkeys(of.tolist()))
    scores = np.column_stack([x[:, of == name].sum(axis=1) for name in names])
    sizes = np.array([(of == name).sum() for name in names])
    cov = np.cov(np.column_stack([scores, x.sum(axis=1)]).T)
    variance, total_variance = cov.diagonal()[:-1], cov[-1, -1]
    for name, size, own in zip(names, sizes, variance, strict=True):
        if size < 2 or not own > 0:
            raise PsychometricsError(f"topic {name} has {size} items and variance {own:g}: it has no reliability")
    alpha = np.array([cronbach_alpha(covariance_of(x[:, of == name])) for name in names])
    with_total = cov[:-1, -1] - variance * (1 - alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_total = with_total**2 / (alpha * variance * total_variance)
    return Subscores(names, sizes, alpha, np.where(alpha > 0, by_total, 1.0), None)
