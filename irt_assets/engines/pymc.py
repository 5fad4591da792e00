"""Adapter of the Bayesian engine: PyMC, with θ integrated out. What may be fitted, how the draws are judged, and the
`Calibration` they make. PyMC is imported when something is sampled, because importing it takes seconds.

The model and the likelihood are in `pymc_model` and `pymc_likelihood`, the sampler and its diagnostics in
`pymc_sampling`.
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

from irt_assets.psychometrics.data import Data
from irt_assets.psychometrics.em import engine_version, fit_em
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.linking import AnchorSet, Linking, link, transform
from irt_assets.psychometrics.models import Calibration, Convergence, Flag, Floats, Model, Responses
from irt_assets.psychometrics.priors import LogNormal, Normal, Priors
from irt_assets.psychometrics.quadrature import Grid

if TYPE_CHECKING:
    from irt_assets.engines.pymc_model import ModelPriors
    from irt_assets.engines.pymc_sampling import Diagnostics, Draws, Plan

ENGINE = "pymc"
MODELS: tuple[Model, ...] = ("rasch", "1pl", "2pl")
ITEM_PRIORS = Priors(a=LogNormal(0.0, 0.5), b=Normal(0.0, 1.0))
MAX_RHAT = 1.01
MIN_ESS = 1000.0
"""Both as Vehtari et al. (2021) and DESIGN ask; ESS for means (bulk) and for the ends of intervals (tail)."""
PRIOR_SHARE = 0.9
"""An item whose posterior SD is more than this share of its prior SD owes at least four fifths of its precision to the
prior: 0.9² = 0.81."""
DRAWS_PER_PARAMETER = 10
"""Below, the covariance of all items from the draws is too noisy to invert, and only the items' own blocks are kept."""
NODES = (31, 41, 61)
"""A short test leaves θ so open that fewer nodes than the em engine's give the same likelihood, in less time."""
_SAME_LOGLIK = 1e-3
_LEAST_ANCHOR_SD = 1e-3


@dataclass(frozen=True)
class Posterior:
    """A calibration with the draws it summarises.

    Attributes:
        item_ids: the K items that were sampled; the calibration has the others, too, with NaN and a flag.
        a, b: shape (chains, draws, K).
        latent_mean, latent_sd: shape (chains, draws).
        linking: which anchors were used, and which were dropped and why; None without anchors.
    """

    calibration: Calibration
    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    latent_mean: Floats
    latent_sd: Floats
    diagnostics: Diagnostics
    linking: Linking | None = None

    def to_parquet(self) -> bytes:
        """A row per chain, draw and item: `chain, draw, item_id, a, b, latent_mean, latent_sd`."""
        chain, draw, item = (index.ravel() for index in np.indices(self.a.shape))
        table = pa.table(
            {
                "chain": chain.astype(np.int16),
                "draw": draw.astype(np.int32),
                "item_id": pa.DictionaryArray.from_arrays(item.astype(np.int32), list(self.item_ids)),
                "a": self.a.ravel(),
                "b": self.b.ravel(),
                "latent_mean": np.repeat(self.latent_mean.ravel(), len(self.item_ids)),
                "latent_sd": np.repeat(self.latent_sd.ravel(), len(self.item_ids)),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()


@dataclass
class PymcEngine:
    """Posterior means by NUTS, for Rasch, 1PL and 2PL.

    Without anchors the scale is that of the em engine: θ ~ N(0, 1), for Rasch slopes of 1 and a free latent SD. With
    anchors it is theirs: those that survive the purification of `linking` get normal priors on log a and b around
    their values, as wide as their errors, and the latent mean and SD are free.

    Attributes:
        priors: of a (LogNormal) and b (Normal) of items that are no anchors.
        latent_mean, latent_log_sd: (mean, SD) of the normal priors of the latent mean and the log of the latent SD,
            where these are free.
        nodes: of the quadrature over θ, on [−6, 6] latent SDs. None for the fewest of `NODES` that are enough.
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
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """`anchors`: in place of the engine's own."""
        engine = self if anchors is None else replace(self, anchors=anchors)
        return engine.sample(responses, model=model, data_hash=data_hash).calibration

    def sample(self, responses: Responses, *, model: Model = "2pl", data_hash: str = "") -> Posterior:
        """The calibration and its draws.

        The em engine goes first. What it refuses is refused here with the same PsychometricsError; items it cannot
        estimate, and items with a negative slope, which the prior of `a` rules out, are left out, NaN and flagged; and
        where it says that the responses do not make a scale, the fit here has not converged either.

        Raises LinkingError where too few anchors agree with the responses.
        """
        if model not in MODELS:
            raise PsychometricsError(f"the pymc engine fits {', '.join(MODELS)}; got model {model!r}")
        if self.priors.a is None or self.priors.b is None:
            raise PsychometricsError("the pymc engine needs a prior on a and one on b, as in ITEM_PRIORS")
        em = fit_em(responses, model=model, data_hash=data_hash)
        linking = None if self.anchors is None else link(em, self.anchors)
        start = em if linking is None else transform(em, linking)
        kept = np.flatnonzero(em.estimated & (np.nan_to_num(em.a) > 0))
        if len(kept) < 3:
            raise PsychometricsError(
                f"only {len(kept)} items have a positive slope, too few for a scale; with a negative one: "
                f"{_some([i for i, a in zip(em.item_ids, em.a, strict=True) if a < 0])}. Check their keys"
            )
        asked = responses.of_items(kept)
        priors = self._priors(asked.item_ids, model, linking)
        draws, log_likelihood, n_persons = self._draw(asked, model, priors, start.select(kept))
        return self._posterior(em, kept, draws, priors, linking, log_likelihood, n_persons)

    def _priors(self, item_ids: Sequence[str], model: Model, linking: Linking | None) -> ModelPriors:
        from irt_assets.engines.pymc_model import ModelPriors

        assert self.priors.a is not None
        assert self.priors.b is not None
        J = len(item_ids)
        found = ModelPriors(
            log_a_mean=np.full(J, self.priors.a.mean),
            log_a_sd=np.full(J, self.priors.a.sd),
            b_mean=np.full(J, self.priors.b.mean),
            b_sd=np.full(J, self.priors.b.sd),
            latent_mean=None if linking is None else self.latent_mean,
            latent_log_sd=None if linking is None and model != "rasch" else self.latent_log_sd,
        )
        if linking is not None:
            assert self.anchors is not None
            row = {item: k for k, item in enumerate(self.anchors.item_ids) if item in set(linking.anchors_used)}
            at = np.array([j for j, item in enumerate(item_ids) if item in row])
            k = np.array([row[item_ids[j]] for j in at])
            if model == "2pl":
                found.log_a_mean[at] = np.log(self.anchors.a[k])
                found.log_a_sd[at] = np.maximum(self.anchors.a_se[k] / self.anchors.a[k], _LEAST_ANCHOR_SD)
            found.b_mean[at] = self.anchors.b[k]
            found.b_sd[at] = np.maximum(self.anchors.b_se[k], _LEAST_ANCHOR_SD)
        return found

    def _draw(
        self, responses: Responses, model: Model, priors: ModelPriors, start: Calibration
    ) -> tuple[Draws, Any, int]:
        from irt_assets.engines.pymc_likelihood import Likelihood
        from irt_assets.engines.pymc_model import Density, build, find_mode
        from irt_assets.engines.pymc_sampling import sample

        data = Data.of(responses)
        a = np.clip(start.a, 0.2, 4.0)
        likelihoods = [Likelihood.of(data, Grid.spanning(n)) for n in (NODES if self.nodes is None else (self.nodes,))]
        values = [one.value(a * start.latent_sd, start.d + a * start.latent_mean) for one in likelihoods]
        likelihood = likelihoods[int(np.argmax(np.abs(np.subtract(values, values[-1])) < _SAME_LOGLIK))]
        written = build(responses, model, priors, likelihood)
        density = Density(written)
        begin = {
            "a": a if model == "2pl" else np.exp(np.log(a).mean()),
            "b": np.clip(-start.d / a, -4.0, 4.0),
            "latent_mean": start.latent_mean,
            "latent_sd": start.latent_sd,
        }
        mode = find_mode(density, density.flatten(begin))
        return sample(written, density, mode, self._plan), likelihood, data.n_persons

    @property
    def _plan(self) -> Plan:
        from irt_assets.engines.pymc_sampling import Plan

        return Plan(self.draws, self.tune, self.chains, self.seed)

    def _posterior(
        self,
        em: Calibration,
        kept: npt.NDArray[np.intp],
        draws: Draws,
        priors: ModelPriors,
        linking: Linking | None,
        likelihood: Any,
        n_persons: int,
    ) -> Posterior:
        from pymc import __version__ as pymc_version

        from irt_assets.engines.pymc_sampling import diagnose

        J, K = em.n_items, len(kept)
        b = draws.values["b"]
        a = draws.values.get("a", np.ones(b.shape))
        a = np.broadcast_to(a if a.ndim == 3 else a[..., None], b.shape)
        d = -a * b
        mean = draws.values.get("latent_mean", np.zeros(b.shape[:2]))
        sd = draws.values.get("latent_sd", np.ones(b.shape[:2]))
        names = [em.item_ids[j] for j in kept]
        quantities = {f"{v} of item {names[k]}": x[..., k] for v, x in (("a", a), ("b", b), ("d", d)) for k in range(K)}
        quantities |= {"the latent mean": mean, "the latent SD": sd}
        diagnostics = diagnose({n: x for n, x in quantities.items() if np.ptp(x) > 0}, draws.divergences)

        slope_owed, place_owed = _owed_to_priors(a, b, priors)
        unidentified = place_owed | (slope_owed & (em.model == "2pl"))
        unidentified &= ~np.isin(names, () if linking is None else linking.anchors_used)
        unidentified |= np.array([Flag.UNIDENTIFIED in em.flags[j] for j in kept])
        joint = _covariance(a, d)
        own = 2 * np.arange(K)[:, None] + np.arange(2)
        cov = joint[own[:, :, None], own[:, None, :]]
        cov[unidentified] = np.nan
        full_a, full_d, full_cov = np.full(J, np.nan), np.full(J, np.nan), np.full((J, 2, 2), np.nan)
        full_a[kept], full_d[kept], full_cov[kept] = a.mean((0, 1)), d.mean((0, 1)), cov
        full_joint = None
        n_parameters = sum(int(np.prod(x.shape[2:])) for x in draws.values.values())
        if b.shape[0] * b.shape[1] >= DRAWS_PER_PARAMETER * n_parameters:
            full_joint = np.full((2 * J, 2 * J), np.nan)
            both = (2 * kept[~unidentified, None] + np.arange(2)).ravel()
            full_joint[np.ix_(both, both)] = joint[np.ix_(own[~unidentified].ravel(), own[~unidentified].ravel())]
        flags = [list(found) for found in em.flags]
        for k in np.flatnonzero(unidentified):
            flags[kept[k]] = list(dict.fromkeys([*flags[kept[k]], Flag.UNIDENTIFIED]))
        reasons = [em.convergence.reason] if em.convergence.reason else []
        reasons += _reasons(diagnostics, [names[k] for k in np.flatnonzero(unidentified)])
        mu, sigma = float(mean.mean()), float(sd.mean())
        slope, intercept = full_a[kept], full_d[kept]
        calibration = Calibration(
            item_ids=em.item_ids,
            model=em.model,
            engine=ENGINE,
            engine_version=f"{engine_version()} (PyMC {pymc_version}, {draws.sampler})",
            a=full_a,
            d=full_d,
            c=np.where(np.isfinite(full_a), 0.0, np.nan),
            cov=full_cov,
            joint_cov=full_joint,
            n=em.n,
            n_correct=em.n_correct,
            flags=tuple(tuple(found) for found in flags),
            latent_mean=mu,
            latent_sd=sigma,
            n_persons=n_persons,
            convergence=Convergence(
                converged=not reasons,
                iterations=self.chains * (self.draws + self.tune),
                max_change=np.nan,
                max_gradient=np.nan,
                loglik=likelihood.value(slope * sigma, intercept + slope * mu),
                n_parameters=n_parameters,
                reason="; ".join(reasons),
            ),
            data_hash=em.data_hash,
            priors=self.priors.as_dict(),
        )
        return Posterior(calibration, tuple(names), a, b, mean, sd, diagnostics, linking)


def _covariance(a: Floats, d: Floats) -> Floats:
    """Shape (2K, 2K), of a_1, d_1, a_2, d_2, … over all draws."""
    both = np.stack([a, d], axis=3).reshape(a.shape[0] * a.shape[1], -1)
    return np.atleast_2d(np.cov(both, rowvar=False))


def _owed_to_priors(a: Floats, b: Floats, priors: ModelPriors) -> npt.NDArray[np.bool_]:
    """Shape (2, K): slopes and difficulties whose prior is hardly narrowed by the answers.

    Either is judged on the scale where it narrows more: log a or a, b or d = −a·b, since the b of a flat item and the a
    of a steep one stay wide however many answers there are.
    """
    variance = priors.log_a_sd**2
    mean_a = np.exp(priors.log_a_mean + variance / 2)
    square_a = mean_a**2 * np.exp(variance)
    a_sd = np.sqrt(square_a - mean_a**2)
    d_sd = np.sqrt(square_a * (priors.b_mean**2 + priors.b_sd**2) - (mean_a * priors.b_mean) ** 2)
    slope = np.minimum(np.log(a).std((0, 1)) / priors.log_a_sd, a.std((0, 1)) / a_sd)
    place = np.minimum(b.std((0, 1)) / priors.b_sd, (a * b).std((0, 1)) / d_sd)
    return np.stack([slope, place]) > PRIOR_SHARE


def _reasons(found: Diagnostics, unidentified: list[str]) -> list[str]:
    """Sentences that say why the draws are not a result; empty where they are one."""
    reasons = []
    if not found.max_rhat <= MAX_RHAT:
        reasons.append(
            f"the chains disagree, most on {found.worst_rhat}: R-hat {found.max_rhat:.3f}, wanted {MAX_RHAT} or less"
        )
    for kind, least, worst in (
        ("bulk", found.min_bulk_ess, found.worst_bulk_ess),
        ("tail", found.min_tail_ess, found.worst_tail_ess),
    ):
        if not least >= MIN_ESS:
            reasons.append(
                f"the draws are worth only {least:.0f} independent ones for {worst} ({kind} ESS), wanted {MIN_ESS:.0f}"
            )
    if reasons:
        reasons.append("sample more draws")
    if found.divergences:
        reasons.append(
            f"{found.divergences} transitions diverged: the sampler missed a part of the posterior. Look at "
            f"{found.worst_tail_ess} first, whose tails are the least known"
        )
    if unidentified:
        reasons.append(
            f"the responses do not determine the parameters of {len(unidentified)} items ({_some(unidentified)}): what "
            f"is given for them is their prior"
        )
    return reasons


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
