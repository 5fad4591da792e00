"""Which distribution of ability a fit takes, and whether learners guess where the model has no guessing.

Belongs here: the comparison of fits and its limits. Does not belong here: the score test (see `normality`), estimation
(see `em`), and what a month does about guessing (see `calibration.gates`).

Skewness and guessing look alike: a 3PL can stand in for a skewed θ, and a histogram for guessing. Each is therefore
judged with the other free, on fits with and without both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import ONE_PL, THREE_PL, TWO_PL, item_model
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.core.options import Latent, LatentRule, Model
from irt_assets.psychometrics.estimation.normality import Normality, normality

LEVEL = 0.01
"""Level of the score test: with a smaller p, other fits are made and compared."""
FEWEST_LEARNERS = 1000
"""Fewer learners do not determine the shape of their distribution: a histogram's slopes vary more than a normal's are
biased."""
MOST_LEARNERS = 10_000
"""Learners drawn at random from a larger month for the comparison: enough to show any skewness or guessing that
matters."""
HISTOGRAM_GAIN = 20.0
"""A histogram is used if it raises 2 log L by more than this."""
GUESSING_GAIN = 20.0
"""Learners are taken to guess if a 3PL raises 2 log L by more than this, both with histograms."""


class Fit(Protocol):
    """Fits responses by `em.fit_em`, whose `start` and `likelihood_only` it takes."""

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
class Compared:
    """One of the fits that were compared. `loglik` is the marginal one, without the density of priors. `converged` says
    of fits that were made for their likelihood alone that the ascent came to its end."""

    model: Model
    latent: Latent
    loglik: float
    n_parameters: int
    aic: float
    bic: float
    converged: bool

    @classmethod
    def of(cls, fit: Calibration, latent: Latent) -> Compared:
        found = fit.convergence
        return cls(fit.model, latent, found.loglik, found.n_parameters, fit.aic, fit.bic, found.converged)


@dataclass(frozen=True)
class Shape:
    """What was taken for the distribution of θ, and why.

    Attributes:
        latent: what the fit took.
        why: a sentence.
        normality: the score test; None where it was not asked for, or could not be made.
        histogram_gain: 2Δ log L of the histogram over the normal distribution, with guessing free where it was found;
            None where they were not compared.
        guessing_gain: 2Δ log L of the 3PL over the 2PL, both with histograms; None likewise.
        guessing: whether guessing was found that the model does not have.
        learners: that the fits were compared on; 0 where none were.
        compared: the fits.
    """

    latent: Latent
    why: str
    normality: Normality | None = None
    histogram_gain: float | None = None
    guessing_gain: float | None = None
    guessing: bool = False
    learners: int = 0
    compared: tuple[Compared, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_with_shape(fit: Fit, responses: Responses, model: Model, rule: LatentRule) -> tuple[Calibration, Shape]:
    """The calibration with the distribution of θ that the rule gives, and what that rests on.

    `auto` begins with a normal distribution, tests it, and only where the test rejects compares {2PL, 3PL} × {normal,
    histogram}. The histogram is taken where it gains enough under the model; guessing that is found where the model has
    none changes no model, and never makes a histogram: then the histogram's gain is that over a normal 3PL.
    """
    if rule != "auto":
        return fit(responses, model, rule), Shape(rule, _forced(rule, responses.n_persons))
    calibration = fit(responses, model, "normal")
    if not calibration.convergence.converged:
        return calibration, Shape("normal", "θ is taken as normal: the fit did not converge, so nothing was tested")
    made: dict[tuple[Model, Latent], Calibration] = {(model, "normal"): calibration}
    try:
        pinned = item_model(model).with_unit_sd.name
        if pinned != model:
            made[pinned, "normal"] = fit(responses, pinned, "normal")
        test = normality(responses, made[pinned, "normal"])
    except PsychometricsError as error:
        return calibration, Shape("normal", f"θ is taken as normal and was not tested: {error}")
    test_text = f"χ² = {test.statistic:.1f} on 2 df, p = {test.p:.2g}"
    if test.p >= LEVEL:
        return calibration, Shape("normal", f"a normal θ is not rejected ({test_text})", test)
    if responses.n_persons < FEWEST_LEARNERS:
        why = (
            f"θ is not normal under the {model.upper()} ({test_text}), and is taken as normal: {responses.n_persons:,} "
            f"learners do not determine its shape, {FEWEST_LEARNERS:,} are needed"
        )
        return calibration, Shape("normal", why, test)
    some = drawn(responses, MOST_LEARNERS)
    if some is responses:
        made[model, "histogram"] = fit(responses, model, "histogram", start=calibration)
    else:
        made = {(model, "normal"): fit(some, model, "normal", start=calibration, likelihood_only=True)}
    shape = _compare(fit, some, model, made, test, test_text)
    if shape.latent == "normal":
        return calibration, shape
    if some is responses:
        return made[model, "histogram"], shape
    return fit(responses, model, "histogram", start=calibration), shape


def fit_with_origins_shape(
    fit: Fit, responses: Responses, model: Model, origin: Latent | None
) -> tuple[Calibration, Shape, Calibration | None]:
    """Like `fit_with_shape` by the rule `auto`, but with the distribution of θ that the fit of the scale's origin took:
    under a 3PL a normal one and a histogram move the scale against each other.

    `origin`: None where it is not known; then the answers decide. The last of the three is the calibration with the
    histogram that the answers ask for where the origin's θ is normal, None elsewhere.
    """
    own, shape = fit_with_shape(fit, responses, model, "auto")
    if origin is None or origin == shape.latent or not own.convergence.converged:
        return own, shape, None
    taken = fit(responses, model, origin, start=own)
    if not taken.convergence.converged:
        why = f"{shape.why}; with the origin's {origin} the fit did not converge: {taken.convergence.reason}"
        return own, replace(shape, why=why), None
    why = f"{shape.why}; the scale's origin has a {origin} distribution, so the month takes it too"
    return taken, replace(shape, latent=origin, why=why), own if shape.latent == "histogram" else None


def _compare(
    fit: Fit,
    some: Responses,
    model: Model,
    made: dict[tuple[Model, Latent], Calibration],
    test: Normality,
    test_text: str,
) -> Shape:
    """`made`: fits of `some` by model and distribution, with one of `model` and a normal distribution. Those that are
    missing are added: each begins at the normal one of its model, and that at this one."""

    def made_or_added(of: Model, latent: Latent) -> Calibration:
        if (of, latent) not in made:
            start = made[model, "normal"] if latent == "normal" else made_or_added(of, "normal")
            made[of, latent] = fit(some, of, latent, start=start, likelihood_only=True)
        return made[of, latent]

    def loglik(of: Model, latent: Latent) -> float:
        return made_or_added(of, latent).convergence.loglik

    guessing_gain = 2 * (loglik(THREE_PL.name, "histogram") - loglik(TWO_PL.name, "histogram"))
    found = guessing_gain > GUESSING_GAIN
    chosen: Model = THREE_PL.name if found else model
    histogram_gain = 2 * (loglik(chosen, "histogram") - loglik(chosen, "normal"))
    loglik(model, "histogram")
    for shown in (ONE_PL, TWO_PL, THREE_PL):
        loglik(shown.name, "normal")
    taken: Latent = "histogram" if histogram_gain > HISTOGRAM_GAIN else "normal"
    usable = made[(model, "histogram")].convergence.converged
    reasons = [f"a normal θ is rejected under the {model.upper()} ({test_text})"]
    if found and not item_model(model).guesses:
        reasons.append(f"learners guess: a 3PL raises 2 log L by {guessing_gain:.0f}, both with histograms")
    under = " under the 3PL" if chosen != model else ""
    reasons.append(
        f"a histogram raises 2 log L by {histogram_gain:.0f}{under}, "
        f"{'more' if taken == 'histogram' else 'no more'} than {HISTOGRAM_GAIN:g}: θ is taken as "
        f"{'a histogram' if taken == 'histogram' and usable else 'normal'}"
    )
    if taken == "histogram" and not usable:
        reasons.append(f"its fit did not converge: {made[(model, 'histogram')].convergence.reason}")
        taken = "normal"
    return Shape(
        taken,
        "; ".join(reasons),
        test,
        histogram_gain,
        guessing_gain,
        found and not item_model(model).guesses,
        some.n_persons,
        tuple(Compared.of(made[key], key[1]) for key in sorted(made)),
    )


def drawn(responses: Responses, learners: int) -> Responses:
    """The responses of at most this many learners, drawn at random with a fixed seed."""
    if responses.n_persons <= learners:
        return responses
    kept = np.zeros(responses.n_persons, dtype=bool)
    kept[np.random.default_rng(0).choice(responses.n_persons, learners, replace=False)] = True
    rows = kept[responses.person]
    place = np.cumsum(kept) - 1
    return Responses(
        place[responses.person[rows]],
        responses.item[rows],
        responses.score[rows],
        learners,
        responses.item_ids,
        responses.categories,
    )


def _forced(rule: Latent, learners: int) -> str:
    if rule == "normal":
        return "θ is taken as normal, as asked"
    few = f"; {learners:,} learners do not determine its shape" if learners < FEWEST_LEARNERS else ""
    return f"θ is taken as a histogram, as asked{few}"
