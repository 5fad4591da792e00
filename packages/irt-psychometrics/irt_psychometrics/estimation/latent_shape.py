"""Choose the distribution of ability of a fit, and find out whether learners guess if the model has no guessing.

The score tests are in `normality_test` and `guessing`, estimation in `em`.

Skewness and guessing look alike: a 3PL can imitate a skewed θ, and a histogram can imitate guessing. Each is therefore
tested with the other free, on fits with and without both.

Two tests for guessing are used, because neither finds all of it. The tests of single items find a few guessed items
among many. The likelihood of a 3PL finds guessing on all items. Its prior on c, with a mode around .2 for every item,
may cost more than a few guessed items gain.

With enough learners, items whose curve is not logistic also look guessed: items with a normal ogive, and even more so
items with a curve that rises slowly and ends steeply. So guessing is not reported if a complementary log-log curve,
which has no asymptote, explains the answers as well as a 3PL does, and better than the 2PL.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.model_families import CLOGLOG, ONE_PL, THREE_PL, TWO_PL
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Latent, LatentRule, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.guessing import LEVEL as GUESSING_LEVEL, guessed_items
from irt_psychometrics.estimation.normality_test import Normality, normality

LEVEL = 0.01
"""Level of the score test. If p is smaller, fits are compared."""
MIN_LEARNERS = 1000
"""Minimum number of learners for a histogram. With fewer, the sampling error of a histogram's slopes exceeds the bias
of the slopes under a normal distribution."""
MIN_LEARNERS_FOR_GUESSING = 300
"""Minimum number of learners for the tests of guessing."""
MAX_LEARNERS = 10_000
"""Maximum number of learners in the comparison, drawn at random. They are enough to show any skewness or guessing that
matters."""
HISTOGRAM_GAIN = 20.0
"""A histogram is used if it raises 2 log L by more than this."""
UNDER_GUESSING = (
    "θ is taken as a histogram: with a normal θ, c would absorb the skewness of θ and bias the slopes of linking"
)
"""Reason why a model with guessing has a histogram without a test. The model's score test misses a skew large enough to
change the slope of a month's linking by .04."""
GUESSING_GAIN, GUESSING_GAIN_OF_ITEM, CANDIDATE_LEVEL = 20.0, 0.7, 0.05
"""The likelihood of a 3PL shows guessing if it raises 2 log L by more than `GUESSING_GAIN`, both with histograms. In
addition it must gain more than `GUESSING_GAIN_OF_ITEM` per item, or some item must be guessed at the false discovery
rate `CANDIDATE_LEVEL`. A 3PL can imitate the part of a skewed θ that a histogram smooths away, but not in a single
item."""


class Fit(Protocol):
    """Function that fits responses by `em.fit_em`, with its options `start` and `likelihood_only`."""

    def __call__(
        self,
        responses: Responses,
        model: Model,
        latent: Latent,
        /,
        *,
        start: Calibration | None = None,
        likelihood_only: bool = False,
    ) -> Calibration: ...


@dataclass(frozen=True)
class ComparedFit:
    """Summary of one of the compared fits.

    Attributes
    ----------
    model
        The item model, as in `Calibration.model`; several models are joined by +.
    latent
        The distribution of θ.
    loglik
        Marginal log-likelihood, without the density of priors.
    n_parameters, aic, bic
        Number of parameters and information criteria.
    converged
        Whether the fit converged. For fits with `likelihood_only`: whether the ascent ended at a maximum.
    """

    model: str
    latent: Latent
    loglik: float
    n_parameters: int
    aic: float
    bic: float
    converged: bool

    @classmethod
    def from_fit(cls, fit: Calibration, latent: Latent) -> Self:
        found = fit.convergence
        return cls(fit.model, latent, found.loglik, found.n_parameters, fit.aic, fit.bic, found.converged)


@dataclass(frozen=True)
class Shape:
    """The distribution of θ that a fit used, and the reason.

    Attributes
    ----------
    latent
        The distribution that the fit used.
    why
        The reason, a sentence. It names the items on which learners guess.
    normality
        The score test. None if it was not requested or could not be computed.
    histogram_gain
        2Δ log L of the histogram over the normal distribution, with guessing free if guessing was found. None if they
        were not compared.
    guessing_gain
        2Δ log L of the 3PL over the 2PL, both with histograms. None if they were not compared.
    guessing
        Whether the learners guess although the model has no guessing. False if a curve without an asymptote explains
        the answers as well; `why` then states that the curve does not fit.
    learners
        Number of learners in the compared fits; 0 if no fits were compared.
    compared
        The compared fits.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> irt.fit(x, "rasch").shape.why
    'θ is taken as normal, as requested'
    """

    latent: Latent
    why: str
    normality: Normality | None = None
    histogram_gain: float | None = None
    guessing_gain: float | None = None
    guessing: bool = False
    learners: int = 0
    compared: tuple[ComparedFit, ...] = ()

    @staticmethod
    def fit(fit: Fit, responses: Responses, model: Model, rule: LatentRule) -> "tuple[Calibration, Shape]":
        """Fit responses with the distribution of θ that the rule selects.

        Parameters
        ----------
        fit
            Function that makes the fits, like `fit_em`.
        responses
            The responses to fit.
        model
            The item model.
        rule
            "normal", "histogram" or "auto".

        Returns
        -------
        Calibration, Shape
            The fit, and the distribution with the reason.

        Notes
        -----
        "auto" uses a histogram under a model with guessing. Under other models it begins with a normal distribution and
        tests it. If the test rejects, {2PL, 3PL} × {normal, histogram} are compared, and the histogram is used if it
        gains enough under the model and there are enough learners for it. The items of the 2PL are tested for guessing,
        also by the 3PL's likelihood if a normal distribution is rejected. Guessing changes no model and never selects a
        histogram. If it was found, the histogram's gain is its gain over a normal 3PL.

        If items have scores besides 0 and 1, only the other items are tested for guessing. Distributions are then
        compared only under the model.

        Raises
        ------
        PsychometricsError
            If `fit` raises it for the first fit.
        """
        if rule != "auto":
            return fit(responses, model, rule), Shape(rule, _reason_of_request(rule, responses.n_persons))
        if model_of(model).has_parameter("c"):
            return fit(responses, model, "histogram"), Shape("histogram", UNDER_GUESSING)
        calibration = fit(responses, model, "normal")
        if not calibration.convergence.converged:
            return calibration, Shape("normal", "θ is taken as normal: the fit did not converge, so nothing was tested")
        made: dict[tuple[Model, Latent], Calibration] = {(model, "normal"): calibration}
        try:
            unit_sd = model_of(model).with_unit_sd.name
            if unit_sd != model:
                made[unit_sd, "normal"] = fit(responses, unit_sd, "normal")
            test = normality(responses, made[unit_sd, "normal"])
        except PsychometricsError as error:
            return calibration, Shape(
                "normal", f"θ is taken as normal; neither normality nor guessing was tested: {error}"
            )
        n, test_text = responses.n_persons, f"χ² = {test.statistic:.1f} on 2 df, p = {test.p:.2g}"
        rejected, why = test.p < LEVEL, f"a normal θ is not rejected ({test_text})"
        if rejected and n < MIN_LEARNERS:
            why = (
                f"θ is not normal under the {model.upper()} ({test_text}), and is taken as normal: {n:,} "
                f"learners do not determine its shape, {MIN_LEARNERS:,} are needed"
            )
        if n < MIN_LEARNERS_FOR_GUESSING:
            why += f"; guessing was not tested: {MIN_LEARNERS_FOR_GUESSING} learners are needed, there are {n:,}"
            return calibration, Shape("normal", why, test)
        some = draw_learners(responses, MAX_LEARNERS)
        if rejected and n >= MIN_LEARNERS:
            if some is responses:
                made[model, "histogram"] = fit(responses, model, "histogram", start=calibration)
            else:
                made = {(model, "normal"): fit(some, model, "normal", start=calibration, likelihood_only=True)}
        fits = _Fits(fit, some, model, made)
        if not rejected or n < MIN_LEARNERS:
            guessing = _test_guessing(fits.guessable, rejected)
            why = f"{why}; {guessing.why}" if guessing.why else why
            return calibration, Shape("normal", why, test, guessing_gain=guessing.gain, guessing=guessing.found)
        shape = _compare(fits, test, test_text)
        if shape.latent == "normal":
            return calibration, shape
        if some is responses:
            return made[model, "histogram"], shape
        return fit(responses, model, "histogram", start=calibration), shape


@dataclass(frozen=True)
class _Fits:
    """Fits of `responses` by model and distribution. `made` contains at least `model` with a normal distribution.

    Missing fits are added to `made`. A histogram starts at the normal fit of its model, and a normal fit starts at the
    fit of `model`.
    """

    fit: Fit
    responses: Responses
    model: Model
    made: dict[tuple[Model, Latent], Calibration]

    def get(self, model: Model, latent: Latent) -> Calibration:
        if (model, latent) not in self.made:
            start = self.made[self.model, "normal"] if latent == "normal" else self.get(model, "normal")
            self.made[model, latent] = self.fit(self.responses, model, latent, start=start, likelihood_only=True)
        return self.made[model, latent]

    def loglik(self, model: Model, latent: Latent) -> float:
        return self.get(model, latent).convergence.loglik

    def gain(self, model: Model) -> float:
        """2Δ log L of the model over the 2PL, both with histograms."""
        return 2 * (self.loglik(model, "histogram") - self.loglik(TWO_PL.name, "histogram"))

    @property
    def scored(self) -> bool:
        """Whether items have scores besides 0 and 1."""
        return self.responses.categories is not None

    @property
    def guessable(self) -> "_Fits | None":
        """Fits of the items scored 0 and 1, on which learners may guess. None if there are too few such items."""
        if not self.scored:
            return self
        binary = self.responses.n_categories == 2
        if binary.sum() < THREE_PL.min_items:
            return None
        some = replace(self.responses.of_items(binary), categories=None)
        try:
            normal = self.fit(some, TWO_PL.name, "normal", likelihood_only=True)
        except PsychometricsError:
            return None
        return _Fits(self.fit, some, TWO_PL.name, {(TWO_PL.name, "normal"): normal})

    def guessed_items(self, latent: Latent, level: float = GUESSING_LEVEL) -> dict[str, float]:
        return guessed_items(self.responses, self.get(TWO_PL.name, latent), level)


class _Guessing(NamedTuple):
    """Whether learners guess, the evidence as a clause (None if there is none), and the gain of a 3PL if one was
    fitted."""

    found: bool
    why: str | None
    gain: float | None


def _test_guessing(fits: _Fits | None, rejected: bool) -> _Guessing:
    """Test whether learners guess. `rejected` is whether a normal θ is rejected.

    Items found with a normal θ count only if they are also found with a histogram. Otherwise the shape of θ was the
    cause.
    """
    if fits is None or not (rejected or fits.guessed_items("normal")):
        return _Guessing(False, None, None)
    candidates, signs = fits.guessed_items("histogram", CANDIDATE_LEVEL), list[str]()
    items = [item for item, q in candidates.items() if q < GUESSING_LEVEL]
    if not (rejected or items):
        return _Guessing(False, None, None)
    gain = fits.gain(THREE_PL.name)
    if rejected and gain > GUESSING_GAIN and (candidates or gain > GUESSING_GAIN_OF_ITEM * fits.responses.n_items):
        signs.append(f"a 3PL raises 2 log L by {gain:.0f}, both with histograms")
    if items:
        of_items = f"{len(items)} item{'' if len(items) == 1 else 's'}: {some_of(items)}"
        signs.append(f"score tests find c > 0 (q < {GUESSING_LEVEL:g}) in {of_items}")
    if not signs:
        return _Guessing(False, None, gain)
    try:
        without_asymptote = fits.gain(CLOGLOG.name)
    except PsychometricsError:
        without_asymptote = -np.inf
    if without_asymptote < max(gain, 0.0):
        return _Guessing(True, f"learners guess: {'; '.join(signs)}", gain)
    why = (
        f"the items' curve does not fit: {'; '.join(signs)}; but a {CLOGLOG.spoken}, which has no asymptote, raises "
        f"2 log L by {without_asymptote:.0f}, and a 3PL by {gain:.0f}, so guessing is not established"
    )
    return _Guessing(False, why, gain)


def _compare(fits: _Fits, test: Normality, test_text: str) -> Shape:
    model = fits.model
    guessing = _test_guessing(fits.guessable, rejected=True)
    chosen: Model = THREE_PL.name if guessing.found and not fits.scored else model
    histogram_gain = 2 * (fits.loglik(chosen, "histogram") - fits.loglik(chosen, "normal"))
    fits.get(model, "histogram")
    for shown in () if fits.scored else (ONE_PL, TWO_PL, THREE_PL):
        fits.get(shown.name, "normal")
    taken: Latent = "histogram" if histogram_gain > HISTOGRAM_GAIN else "normal"
    convergence = fits.get(model, "histogram").convergence
    reasons = [f"a normal θ is rejected under the {model.upper()} ({test_text})"]
    if guessing.why:
        reasons.append(guessing.why)
    under = " under the 3PL" if chosen != model else ""
    reasons.append(
        f"a histogram raises 2 log L by {histogram_gain:.0f}{under}, "
        f"{'more' if taken == 'histogram' else 'no more'} than {HISTOGRAM_GAIN:g}: θ is taken as "
        f"{'a histogram' if taken == 'histogram' and convergence.converged else 'normal'}"
    )
    if taken == "histogram" and not convergence.converged:
        reasons.append(f"its fit did not converge: {convergence.reason}")
        taken = "normal"
    return Shape(
        taken,
        "; ".join(reasons),
        test,
        histogram_gain,
        guessing.gain,
        guessing.found,
        fits.responses.n_persons,
        tuple(ComparedFit.from_fit(fits.made[key], key[1]) for key in sorted(fits.made) if key[0] != CLOGLOG.name),
    )


def draw_learners(responses: Responses, learners: int) -> Responses:
    """The responses of at most this many learners, drawn at random with a fixed seed."""
    if responses.n_persons <= learners:
        return responses
    return responses.of_persons(np.sort(np.random.default_rng(0).choice(responses.n_persons, learners, replace=False)))


def _reason_of_request(rule: Latent, learners: int) -> str:
    if rule == "normal":
        return "θ is taken as normal, as requested"
    few = f"; {learners:,} learners do not determine its shape" if learners < MIN_LEARNERS else ""
    return f"θ is taken as a histogram, as requested{few}"
