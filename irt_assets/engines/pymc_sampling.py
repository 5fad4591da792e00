"""NUTS in whitened coordinates, by nutpie, and convergence diagnostics of the draws."""

import os
from dataclasses import dataclass
from typing import Any

import arviz as az
import numba
import numpy as np
import nutpie
from numba.np.numpy_support import carray
from nutpie.compile_pymc import CompiledPyMCModel

from irt_assets.common.arrays import Floats
from irt_assets.engines.pymc_model import Density, Mode


@dataclass(frozen=True)
class Draws:
    """Posterior draws.

    Attributes:
        values: variables by name, each of shape (chains, draws, …).
        divergences: number of divergent transitions among the draws.
        transitions: number of all transitions, including tuning.
        sampler: name and version of the sampler.
    """

    values: dict[str, Floats]
    divergences: int
    transitions: int
    sampler: str


@dataclass(frozen=True)
class Plan:
    """The amount of sampling.

    Attributes:
        draws: draws per chain that are kept.
        tune: draws per chain that find the step size and are discarded.
        chains: number of chains.
        seed: seed of all random numbers.
    """

    draws: int = 1000
    tune: int = 300
    chains: int = 4
    seed: int = 61

    @property
    def transitions(self) -> int:
        return self.chains * (self.draws + self.tune)


def sample(density: Density, mode: Mode, plan: Plan) -> Draws:
    """Sample `density`, which is whitened here. Chains start at independent draws from the normal approximation at the
    mode."""
    density.whiten(mode)
    trace = nutpie.sample(
        _for_nutpie(density, plan.seed),
        draws=plan.draws,
        tune=plan.tune,
        chains=plan.chains,
        cores=min(plan.chains, _processors()),
        seed=plan.seed,
        progress_bar=False,
        save_warmup=False,
    )
    x = mode.at + trace.posterior["z"].to_numpy() @ mode.factor.T
    return Draws(
        density.expand(x), int(trace.sample_stats["diverging"].sum()), plan.transitions, f"nutpie {nutpie.__version__}"
    )


def _processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _for_nutpie(density: Density, seed: int) -> Any:
    """A nutpie model that calls the C function, like the models that nutpie compiles itself. The documented way is a
    Python function, which costs 60 µs per call, more than the density."""
    P = density.size
    double = numba.types.CPointer(numba.types.double)

    @numba.cfunc(numba.types.int64(numba.types.uint64, numba.types.uint64, double, double, numba.types.voidptr))
    def same(_size, _expanded, z, out, _data):  # type: ignore[no-untyped-def]
        carray(out, (P,))[:] = carray(z, (P,))
        return 0

    def start(chain_seed: int) -> Floats:
        return np.random.default_rng([seed, chain_seed]).normal(size=P)

    return CompiledPyMCModel(
        dims={},
        compiled_logp_func=density.c_function,
        compiled_expand_func=same,
        initial_point_func=start,
        shared_data={},
        user_data=np.zeros(1),
        n_expanded=P,
        shape_info=(["z"], [slice(0, P)], [(P,)]),
        logp_func=density,
        expand_func=None,
        _n_dim=P,
        _shapes={"z": (P,)},
        _coords={},
    )


@dataclass(frozen=True)
class Diagnostics:
    """The worst R-hat, bulk ESS and tail ESS, rank-normalised (Vehtari et al. 2021), with the names of their
    quantities."""

    max_rhat: float
    worst_rhat: str
    min_bulk_ess: float
    worst_bulk_ess: str
    min_tail_ess: float
    worst_tail_ess: str
    divergences: int


def diagnose(quantities: dict[str, Floats], divergences: int) -> Diagnostics:
    """Diagnose the draws. `quantities`: arrays (chains, draws), by the name that reports use."""
    names = list(quantities)
    trace = az.convert_to_dataset({"x": np.stack([quantities[name] for name in names], axis=2)})
    rhat, bulk, tail = (
        measure["x"].to_numpy() for measure in (az.rhat(trace), az.ess(trace), az.ess(trace, method="tail"))
    )
    r, k, t = int(rhat.argmax()), int(bulk.argmin()), int(tail.argmin())
    return Diagnostics(float(rhat[r]), names[r], float(bulk[k]), names[k], float(tail[t]), names[t], divergences)
