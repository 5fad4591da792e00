"""The Bayesian engine, with PyMC and θ integrated out: its checks, its priors and the steps of a fit.

PyMC is imported when something is sampled, because importing it takes seconds. The model and the likelihood are in
`pymc_model` and `pymc_likelihood`, the sampler and its diagnostics in `pymc_sampling`. `pymc_summary` turns draws into
a `Calibration` and decides whether it has converged.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from irt_assets.engines.screening import ITEM_PRIORS, number_scores, screen_items
from irt_assets.engines.spec import DEFAULT_MODEL, PYMC_MODELS, one_model
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.items import Model, Priors, item_model
from irt_psychometrics.linking import AnchorSet, Linking, link_to_anchors

if TYPE_CHECKING:
    import pymc as pm

    from irt_assets.engines.pymc_likelihood import Likelihood
    from irt_assets.engines.pymc_model import ModelPriors
    from irt_assets.engines.pymc_sampling import Diagnostics, Draws
    from irt_assets.engines.pymc_summary import Quantities

ENGINE = "pymc"
NODES = (31, 41, 61)
"""Numbers of quadrature nodes to try. In a short test the posterior of θ is so wide that fewer nodes than in the em
engine give the same likelihood, in less time."""
_LOGLIK_TOLERANCE = 1e-3
_MIN_ANCHOR_SD = 1e-3


@dataclass(frozen=True)
class Posterior:
    """A calibration with the draws it summarises.

    Attributes:
        item_ids: the K items that were sampled. The calibration also has the other items, with NaN and a flag.
        quantities: a, b, c, d and w, and the latent mean and SD.
        model: the PyMC model. `draws` contains its variables, by name.
        linking: the used anchors, and the dropped ones with reasons, or None without anchors.
    """

    calibration: Calibration
    item_ids: tuple[str, ...]
    quantities: Quantities
    diagnostics: Diagnostics
    model: pm.Model
    draws: Draws
    linking: Linking | None = None

    def to_parquet(self) -> bytes:
        """The draws as a Parquet file with a row per chain, draw and item, and the columns `chain, draw, item_id, a, b,
        c, latent_mean, latent_sd`, and `w1`, `w2`, … of scores if items are graded."""
        q = self.quantities
        chain, draw, item = (index.ravel() for index in np.indices(q.a.shape))
        inner = q.inner
        of_scores = np.full((*q.a.shape, inner.shape[1]), np.nan)
        of_scores[:, :, inner] = q.w
        table = pa.table(
            {
                "chain": chain.astype(np.int16),
                "draw": draw.astype(np.int32),
                "item_id": pa.DictionaryArray.from_arrays(item.astype(np.int32), list(self.item_ids)),
                "a": q.a.ravel(),
                "b": q.b.ravel(),
                "c": q.c.ravel(),
                "latent_mean": np.repeat(q.latent_mean.ravel(), len(self.item_ids)),
                "latent_sd": np.repeat(q.latent_sd.ravel(), len(self.item_ids)),
            }
            | {f"w{k}": of_scores[..., k].ravel() for k in np.flatnonzero(inner.any(axis=0)).tolist()}
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()


@dataclass
class PymcEngine:
    """Posterior means by NUTS, for Rasch, 1PL, 2PL, 3PL and graded items.

    Without anchors the scale is the same as in the em engine: θ ~ N(0, 1); for Rasch, slopes of 1 and a free latent SD.
    With anchors it is the anchors' scale. (log a, b) of the anchors that the linking keeps have a bivariate normal
    prior around their values, whose covariance follows from the anchors' errors by the delta method. Their c is fixed
    at its value, and the latent mean and SD are free. Graded items cannot be combined with anchors.

    Attributes:
        priors: priors of items that are not anchors: LogNormal of a, Normal of b and, in a 3PL, LogitNormal or Beta of
            c (None: the model's default).
        latent_mean, latent_log_sd: (mean, SD) of the normal priors of the latent mean and the log of the latent SD, if
            these are free.
        nodes: number of quadrature nodes for θ, on [−6, 6] latent SDs. None: the fewest of `NODES` that are enough.
        draws, tune, chains, seed: see `pymc_sampling.Plan`.
    """

    priors: Priors = field(default_factory=lambda: ITEM_PRIORS)
    anchors: AnchorSet | None = None
    latent_mean: tuple[float, float] = (0.0, 1.0)
    latent_log_sd: tuple[float, float] = (0.0, 0.5)
    nodes: int | None = None
    draws: int = 1000
    tune: int = 300
    chains: int = 4
    seed: int = 61
    name: str = ENGINE

    def calibrate(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """Fit as described in `Calibrator.calibrate`. `anchors` replace the engine's own anchors."""
        engine = self if anchors is None else replace(self, anchors=anchors)
        return engine.sample(responses, model=model, data_hash=data_hash).calibration

    def sample(
        self, responses: Responses, *, model: Model | Sequence[Model] = DEFAULT_MODEL, data_hash: str = ""
    ) -> Posterior:
        """Sample the posterior. Returns the calibration with its draws.

        The em engine fits the responses first, and its PsychometricsErrors are raised here, too. Items that it cannot
        estimate are not sampled, nor are items with a negative slope, which the prior of `a` excludes; both are NaN and
        flagged. If the em engine finds that the responses do not form a scale, this fit has not converged, either.

        Raises LinkingError if the anchors determine no line.
        """
        from irt_assets.engines import pymc_model, pymc_sampling, pymc_summary  # import PyMC

        items, model = model, one_model(ENGINE, PYMC_MODELS, model)
        if model == "grm" and self.anchors is not None:
            raise PsychometricsError("the pymc engine does not support anchors for graded items: use engine em")
        stated = self._complete_priors(model)
        em, kept = screen_items(responses, items, Priors(c=stated.c), data_hash)
        linking = None if self.anchors is None else link_to_anchors(em, self.anchors)
        fitted, present = number_scores(responses.of_items(kept))
        start = (em if linking is None else linking.transform(em)).select(kept)
        priors = self.model_priors(fitted.item_ids, model, linking)
        begin: dict[str, Any] = {
            "a": np.clip(start.a, 0.2, 4.0),
            "b": np.clip(-start.d / np.clip(start.a, 0.2, 4.0), -4.0, 4.0),
            "c": np.clip(start.c, 0.01, 0.6),
            "latent_mean": start.latent_mean,
            "latent_sd": start.latent_sd,
        }
        if model == "grm":
            assert start.further is not None
            begin["w"] = np.clip(start.further[start.places_of_parameters[:, 2:] >= 0], -4.0, 4.0)
        likelihood = self._likelihood(fitted, priors, begin)
        begin["c"] = begin["c"][np.isnan(priors.c_given)]
        if item_model(model).common_slope:
            begin["a"] = np.exp(np.log(begin["a"]).mean())
        written = pymc_model.build(fitted, model, priors, likelihood)
        density = pymc_model.Density(written)
        plan = pymc_sampling.Plan(self.draws, self.tune, self.chains, self.seed)
        mode = pymc_model.find_mode(density, density.flatten(begin))
        draws = pymc_sampling.sample(density, mode, plan)
        quantities = pymc_summary.Quantities(draws, priors, present)
        diagnostics = quantities.diagnose(fitted.item_ids, draws.divergences)
        calibration = pymc_summary.calibration_of(
            em,
            kept,
            draws=draws,
            found=quantities,
            diagnostics=diagnostics,
            priors=priors,
            anchors_used=() if linking is None else linking.anchors_used,
            likelihood=likelihood,
            n_persons=len(np.unique(fitted.person)),
        )
        calibration = replace(calibration, priors=stated.as_dict())
        return Posterior(calibration, fitted.item_ids, quantities, diagnostics, written, draws, linking)

    def _complete_priors(self, model: Model) -> Priors:
        """The priors, with a prior of c if the model has guessing. Raises PsychometricsError if they do not fit the
        model."""
        if self.priors.a is None or self.priors.b is None:
            raise PsychometricsError("the pymc engine needs a prior on a and one on b, as in ITEM_PRIORS")
        if not item_model(model).guesses and self.priors.c is not None:
            raise PsychometricsError(f"a {model} model has no guessing for the prior on c; leave it out or fit a 3pl")
        if item_model(model).guesses and self.priors.c is None:
            return replace(self.priors, c=item_model(model).default_priors.c)
        return self.priors

    def model_priors(self, item_ids: Sequence[str], model: Model, linking: Linking | None = None) -> ModelPriors:
        """Priors of the PyMC model of these J items. The anchors are the ones that `linking` used."""
        from irt_assets.engines.pymc_model import ModelPriors

        stated, J = self._complete_priors(model), len(item_ids)
        assert stated.a is not None
        assert stated.b is not None
        found = ModelPriors(
            log_a_mean=np.full(J, stated.a.mean),
            log_a_sd=np.full(J, stated.a.sd),
            b_mean=np.full(J, stated.b.mean),
            b_sd=np.full(J, stated.b.sd),
            b_by_log_a=np.zeros(J),
            c=stated.c,
            c_given=np.full(J, np.nan if item_model(model).guesses else 0.0),
            latent_mean=None if linking is None else self.latent_mean,
            latent_log_sd=None if linking is None and not item_model(model).fixed_slopes else self.latent_log_sd,
        )
        if linking is not None:
            assert self.anchors is not None
            row = {item: k for k, item in enumerate(self.anchors.item_ids) if item in set(linking.anchors_used)}
            at = np.array([j for j, item in enumerate(item_ids) if item in row])
            own_slopes = item_model(model).own_slopes
            _hold_anchors(found, at, self.anchors, np.array([row[item_ids[j]] for j in at]), slopes=own_slopes)
        return found

    def _likelihood(self, responses: Responses, priors: ModelPriors, at: dict[str, Any]) -> Likelihood:
        """The likelihood with the fewest nodes that give, at the starting point, the same value as the most nodes."""
        from irt_assets.engines.pymc_likelihood import Likelihood

        mean, sd = at["latent_mean"], at["latent_sd"]
        c = np.where(np.isnan(priors.c_given), at["c"], priors.c_given)
        parameters = [
            at["a"] * sd,
            at["a"] * (mean - at["b"]),
            *([c] if priors.guessing else [at["w"]] if "w" in at else []),
        ]
        numbers = NODES if self.nodes is None else (self.nodes,)
        tried = [Likelihood.from_responses(responses, nodes, guessing=priors.guessing) for nodes in numbers]
        values = [likelihood.value(*parameters) for likelihood in tried]
        return tried[int(np.argmax(np.abs(np.subtract(values, values[-1])) < _LOGLIK_TOLERANCE))]


def _hold_anchors(
    priors: ModelPriors, at: npt.NDArray[np.intp], anchors: AnchorSet, rows: npt.NDArray[np.intp], *, slopes: bool
) -> None:
    """Replace the priors of the items `at` by priors from the anchors' `rows`, in place.

    (log a, b) is bivariate normal with cov(log a, b) = cov(a, b)/a, written as a normal log a and a normal b given
    log a. Without `slopes`, only b is normal.
    """
    correlation = np.zeros(len(at))
    b_sd = np.maximum(anchors.b_se[rows], _MIN_ANCHOR_SD)
    if slopes:
        log_a_sd = np.maximum(anchors.a_se[rows] / anchors.a[rows], _MIN_ANCHOR_SD)
        correlation = anchors.cov_ab[rows] / anchors.a[rows] / (log_a_sd * b_sd)
        priors.log_a_mean[at], priors.log_a_sd[at] = np.log(anchors.a[rows]), log_a_sd
        priors.b_by_log_a[at] = correlation * b_sd / log_a_sd
    priors.b_mean[at], priors.b_sd[at] = anchors.b[rows], b_sd * np.sqrt(1 - correlation**2)
    priors.c_given[at] = anchors.c[rows]
