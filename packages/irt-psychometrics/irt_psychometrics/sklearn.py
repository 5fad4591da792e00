"""Item response models as scikit-learn estimators, for pipelines, searches and cross-validation.

This module needs scikit-learn. The rest of the library works without it.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import models_by_max_score
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import DEFAULT_MODEL, MAX_SCORE, MODELS, Model
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.scoring import estimate_abilities

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data
except ImportError as error:
    raise ImportError("irt_psychometrics.sklearn needs scikit-learn 1.6 or later: pip install scikit-learn") from error

__all__ = ["ItemResponseModel"]

METHODS = ("eap", "map", "wle", "ml")
MIN_PERSONS = 10
MIN_ITEMS = 2


class ItemResponseModel(TransformerMixin, BaseEstimator):
    """Estimator of item parameters by marginal maximum likelihood (Bock & Aitkin 1981). `transform` returns abilities.

    X has shape (n_persons, n_items). Each cell is a score from 0 to the item's maximum score, or NaN if the person has
    not seen the item. Missing scores are left out of the likelihood and never imputed. This is valid if missingness
    depends only on the observed scores.

    Parameters
    ----------
    model
        "rasch", "1pl", "2pl" or "3pl" for scores of 0 and 1; "pcm", "rsm", "gpcm", "grm" or "nominal" for higher
        scores. Items with a maximum score of 1 then have a Rasch or 2PL curve.
    max_score
        Maximum score of all items, or of each item, from 1 to 20. It is not inferred from X, because perhaps nobody in
        X has reached it.
    method
        Estimator of ability: "eap", "map", "wle" or "ml". Under "ml" a person with all items right has θ = ∞. Under
        "ml" and "wle" a person without any score has NaN.
    with_se
        Whether `transform` returns the standard error of θ as a second column.

    Attributes
    ----------
    difficulty_, discrimination_, guessing_
        Shape (n_items,), b, a and c of each item. NaN if they could not be estimated, for example because everyone or
        no one had the item right. b of an item with more than two scores is the mean difficulty of its steps.
    calibration_
        The whole fit, with errors and flags of items.
    n_iter_
        Iterations of the optimiser.
    n_features_in_, feature_names_in_
        The number of items, and their names if X was a data frame.

    Notes
    -----
    Under "rasch" the population of θ has mean 0 and an estimated SD; under all other models θ ~ N(0, 1).

    References
    ----------
    Bock, R. D. & Aitkin, M. (1981). Marginal maximum likelihood estimation of item parameters: application of an EM
    algorithm. Psychometrika, 46, 443-459.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.sklearn import ItemResponseModel
    >>> rng = np.random.default_rng(1)
    >>> X = (rng.normal(size=(300, 1)) > np.array([-1.0, -0.3, 0.3, 1.0]) + rng.normal(size=(300, 4))).astype(float)
    >>> model = ItemResponseModel("rasch").fit(X)
    >>> bool((np.diff(model.difficulty_) > 0).all()), model.transform(X).shape
    (True, (300, 1))
    """

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        *,
        max_score: int | Sequence[int] = 1,
        method: Literal["eap", "map", "wle", "ml"] = "eap",
        with_se: bool = False,
    ) -> None:
        self.model = model
        self.max_score = max_score
        self.method = method
        self.with_se = with_se

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Estimate the item parameters.

        Parameters
        ----------
        X
            Scores, shape (n_persons, n_items).
        y
            Ignored.

        Returns
        -------
        ItemResponseModel
            This estimator.

        Warns
        -----
        ConvergenceWarning
            If the fit has not converged.

        Raises
        ------
        ValueError
            If a score is not a whole number from 0 to its item's maximum; the message names the item.
        PsychometricsError
            If the scores determine no parameters. This error is also a ValueError.

        Examples
        --------
        >>> rng = np.random.default_rng(1)
        >>> X = (rng.normal(size=(300, 1)) > rng.normal(size=(300, 4))).astype(float)
        >>> ItemResponseModel("rasch").fit(X).n_features_in_
        4
        """
        for name, value, known in (("model", self.model, MODELS), ("method", self.method, METHODS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        matrix = self._matrix(X, reset=True, ensure_min_samples=MIN_PERSONS, ensure_min_features=MIN_ITEMS)
        responses = self._responses(matrix)
        models = models_by_max_score(self.model, responses.n_categories - 1)
        fitted: Calibration = fit_em(responses, model=models)
        if not fitted.convergence.converged:
            warnings.warn(fitted.convergence.reason, ConvergenceWarning, stacklevel=2)
        self.calibration_ = fitted
        self.difficulty_, self.discrimination_, self.guessing_ = fitted.b, fitted.a, fitted.c
        self.n_iter_ = fitted.convergence.iterations
        return self

    def transform(self, X: npt.ArrayLike) -> Floats:
        """Estimate the ability of each person. Items without parameters do not count.

        Parameters
        ----------
        X
            Scores, shape (n_persons, n_items).

        Returns
        -------
        ndarray
            θ, shape (n_persons, 1), or θ and its standard error, shape (n_persons, 2), if `with_se` is set. Under "eap"
            and "map" a person without any score has the mean of the population.

        Raises
        ------
        ValueError
            If a score is not a whole number from 0 to its item's maximum; the message names the item.

        Examples
        --------
        >>> rng = np.random.default_rng(1)
        >>> X = (rng.normal(size=(300, 1)) > rng.normal(size=(300, 4))).astype(float)
        >>> ItemResponseModel("rasch", with_se=True).fit_transform(X).shape
        (300, 2)
        """
        check_is_fitted(self)
        fitted = self.calibration_
        items, population = fitted.curves, fitted.latent[0]
        found = estimate_abilities(
            self._responses(self._matrix(X, reset=False)),
            items.a,
            items.d,
            items.c,
            others=items.others,
            method=self.method,
            mean=population.mean,
            sd=population.sd,
        )
        return np.column_stack([found.theta, found.se] if self.with_se else [found.theta])

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """Compute the marginal log-likelihood of each person's scores.

        Parameters
        ----------
        X
            Scores, shape (n_persons, n_items).

        Returns
        -------
        ndarray
            Shape (n_persons,); 0 for a person without any score.

        Raises
        ------
        ValueError
            If a score is not a whole number from 0 to its item's maximum; the message names the item.

        Examples
        --------
        >>> rng = np.random.default_rng(1)
        >>> X = (rng.normal(size=(300, 1)) > rng.normal(size=(300, 4))).astype(float)
        >>> bool((ItemResponseModel("rasch").fit(X).score_samples(X) < 0).all())
        True
        """
        check_is_fitted(self)
        fitted = self.calibration_
        responses = self._responses(self._matrix(X, reset=False))
        population = fitted.latent[0]
        grid = Grid.symmetric()
        above, lowest = fitted.curves.score_tables(population.mean + population.sd * grid.nodes)
        n_above = fitted.n_categories - 1
        first = np.cumsum(n_above) - n_above
        loglik = np.zeros((responses.n_persons, len(grid.nodes)))
        for j in range(responses.n_items):
            table = np.vstack([lowest[first[j]], above[first[j] : first[j] + n_above[j]]])
            here = responses.item == j
            loglik[responses.person[here]] += table[responses.score[here]]
        return logsumexp(loglik + grid.log_weights(), axis=1)

    def score(self, X: npt.ArrayLike, y: object = None) -> float:  # noqa: ARG002
        """Compute the mean of `score_samples`. Higher is better, so searches can choose a model by it.

        Parameters
        ----------
        X
            Scores, shape (n_persons, n_items).
        y
            Ignored.

        Returns
        -------
        float
            The mean marginal log-likelihood of a person.

        Raises
        ------
        ValueError
            If a score is not a whole number from 0 to its item's maximum; the message names the item.

        Examples
        --------
        >>> rng = np.random.default_rng(1)
        >>> X = (rng.normal(size=(300, 1)) > rng.normal(size=(300, 4))).astype(float)
        >>> model = ItemResponseModel("rasch").fit(X)
        >>> model.score(X) == float(np.mean(model.score_samples(X)))
        True
        """
        return float(np.mean(self.score_samples(X)))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:  # noqa: ARG002
        """Return the names of the columns of `transform`.

        Parameters
        ----------
        input_features
            Ignored.

        Returns
        -------
        ndarray
            "theta", and "se" if `with_se` is set.

        Examples
        --------
        >>> rng = np.random.default_rng(1)
        >>> X = (rng.normal(size=(300, 1)) > rng.normal(size=(300, 4))).astype(float)
        >>> ItemResponseModel("rasch").fit(X).get_feature_names_out().tolist()
        ['theta']
        """
        check_is_fitted(self)
        return np.array(["theta", "se"] if self.with_se else ["theta"], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.positive_only = True
        tags.requires_fit = True
        return tags

    def _matrix(self, X: npt.ArrayLike, **options: Any) -> Floats:
        matrix: Floats = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", **options)
        check_non_negative(matrix, type(self).__name__)
        return matrix

    def _responses(self, matrix: Floats) -> Responses:
        """The scores as `Responses`.

        Raises ValueError, which names the first item and row, if a score is not a whole number in its range.
        """
        n_items = matrix.shape[1]
        try:
            highest = np.broadcast_to(np.asarray(self.max_score, dtype=np.int64), n_items)
        except (TypeError, ValueError):
            raise ValueError(f"max_score must be a number, or one for each of {n_items} items") from None
        if np.any((highest < 1) | (highest > MAX_SCORE)):
            raise ValueError(f"max_score must be from 1 to {MAX_SCORE}, got {self.max_score}")
        names = [str(name) for name in getattr(self, "feature_names_in_", [f"x{j}" for j in range(n_items)])]
        wrong = np.argwhere((matrix < 0) | (matrix > highest) | (matrix != np.floor(matrix)) & ~np.isnan(matrix))
        if wrong.size:
            row, j = wrong[0]
            raise ValueError(
                f"item {names[j]}: score {matrix[row, j]:g} in row {row}, and its scores are 0 … {highest[j]}, or NaN"
                " if the item was not seen. Set max_score, or leave out columns that are not items"
            )
        if len(set(names)) < n_items:
            raise PsychometricsError("names of items must be unique")
        return Responses.from_wide(matrix, names, highest + 1 if (highest > 1).any() else None)
