"""Effective draws per second of the pymc engine, compared with the usual joint PyMC model in the same run.

    python -m benchmarks.bench_pymc [--sizes 1000x30 2000x40] [--joint-draws 300] [--joint-tune 300] [--chains 2]

The joint model has the same priors and samples a θ for every learner; nutpie samples both. The reported figure is the
minimum bulk ESS over all a and b (without the joint model's θ), per second of the sampler with and without tuning, in
elapsed and in processor time, which depends less on other load. Compilation and, for our engine, the search for the
mode and its Hessian are timed separately. The means of the two posteriors must agree within max(0.03, 3 Monte-Carlo
standard errors).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import arviz as az
import numpy as np
import nutpie
import pymc as pm

from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.engines.pymc_likelihood import Likelihood
from irt_assets.engines.pymc_model import Density, build, find_mode
from irt_assets.engines.pymc_sampling import Plan, sample
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em


@dataclass
class Result:
    """Draws of a and b (chains, draws, J), seconds of preparation and sampling (wall, processor), and the share of
    sampling after tuning."""

    name: str
    a: np.ndarray
    b: np.ndarray
    ready: float
    sampling: float
    processor: float
    after_tuning: float
    steps: float

    def measure(self, function: Callable[..., object], **options: str) -> np.ndarray:
        """Apply `function` to all a, then all b, shape (2J,)."""
        return function(az.convert_to_dataset({"x": self.both}), **options)["x"].to_numpy()  # type: ignore[index]

    @property
    def both(self) -> np.ndarray:
        return np.concatenate([self.a, self.b], axis=2)


def simulate(n_persons: int, n_items: int) -> Responses:
    """Simulate responses with θ ~ N(0, 1), a ~ LogNormal(0, 0.3), b ~ N(0, 1)."""
    rng = np.random.default_rng(2026)
    a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
    theta = rng.normal(size=(n_persons, 1))
    return Responses.from_wide((rng.random((n_persons, n_items)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float))


def ours(responses: Responses, nodes: int, plan: Plan) -> Result:
    start = time.perf_counter()
    em = fit_em(responses)
    priors = PymcEngine().model_priors(responses.item_ids, "2pl")
    model = build(responses, "2pl", priors, Likelihood.from_responses(responses, nodes, guessing=False))
    density = Density(model)
    at = density.flatten({"a": np.clip(em.a, 0.2, 4), "b": np.clip(em.b, -4, 4)})
    density(at)
    compiled = time.perf_counter() - start
    mode = find_mode(density, at)
    ready = time.perf_counter() - start
    alone = min(_seconds(lambda: density(at)) for _ in range(50))
    print(f"  compiled in {compiled:.1f} s, mode and Hessian {ready - compiled:.1f} s, gradient {alone * 1e3:.2f} ms")
    draws, *sampling = _time(lambda: sample(density, mode, plan))
    share = plan.draws / (plan.draws + plan.tune)
    return Result(
        f"ours, {nodes} nodes, {draws.sampler}", draws.values["a"], draws.values["b"], ready, *sampling, share, 7
    )


def _time(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, with seconds by the wall clock and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - processor


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def joint(responses: Responses, plan: Plan) -> Result:
    start = time.perf_counter()
    with pm.Model() as model:
        a = pm.LogNormal("a", 0, 0.5, shape=responses.n_items)
        b = pm.Normal("b", 0, 1, shape=responses.n_items)
        theta = pm.Normal("theta", 0, 1, shape=responses.n_persons)
        person, item = responses.person.astype(int), responses.item.astype(int)
        pm.Bernoulli("scores", logit_p=a[item] * (theta[person] - b[item]), observed=responses.score)
    compiled = nutpie.compile_pymc_model(model)
    name, ready = f"joint, nutpie {nutpie.__version__}", time.perf_counter() - start

    def run() -> az.InferenceData:
        return nutpie.sample(
            compiled, draws=plan.draws, tune=plan.tune, chains=plan.chains, cores=2, seed=1, progress_bar=False
        )

    trace, *sampling = _time(run)
    share = plan.draws / (plan.draws + plan.tune)
    if "warmup_sample_stats" in trace.groups():
        total, tuning = trace.sample_stats["n_steps"].sum(), trace.warmup_sample_stats["n_steps"].sum()
        share = float(total / (total + tuning))
    steps = float(trace.sample_stats["n_steps"].mean())
    return Result(
        name, trace.posterior["a"].to_numpy(), trace.posterior["b"].to_numpy(), ready, *sampling, share, steps
    )


def report(results: list[Result]) -> None:
    rates = []
    for r in results:
        bulk, tail, rhat = (r.measure(f, **o) for f, o in ((az.ess, {}), (az.ess, {"method": "tail"}), (az.rhat, {})))
        seconds = np.array([r.sampling, r.sampling * r.after_tuning, r.processor, r.processor * r.after_tuning])
        rates.append(bulk.min() / seconds)
        print(
            f"  {r.name}: {r.a.shape[0]} x {r.a.shape[1]} draws, {r.steps:.0f} steps each; ready {r.ready:.1f} s, "
            f"sampled {r.sampling:.1f} s ({r.processor:.1f} s of processor); min bulk ESS {bulk.min():.0f}, "
            f"tail {tail.min():.0f}, R-hat {rhat.max():.3f}"
        )
        print("    bulk ESS/s: {:.2f}, without tuning {:.2f}; per processor second {:.2f}, {:.2f}".format(*rates[-1]))
    for r, rate in zip(results[:-1], rates[:-1], strict=True):
        print(
            f"  ratio of {r.name}: "
            + "{:.0f} x, without tuning {:.0f} x; by processor time {:.0f} x, {:.0f} x".format(*(rate / rates[-1]))
        )
    first, last = results[0], results[-1]
    error = np.hypot(first.measure(az.mcse), last.measure(az.mcse))
    off = np.abs(first.both.mean((0, 1)) - last.both.mean((0, 1)))
    allowed = np.maximum(0.03, 3 * error)
    print(
        f"  means of {first.name} and {last.name}: largest difference {off.max():.4f}, "
        f"{(off > allowed).sum()} of {off.size} beyond max(0.03, 3 MCSE)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1000x30", "2000x40"])
    parser.add_argument("--nodes", nargs="+", type=int, default=[61, 31])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=300)
    parser.add_argument("--joint-draws", type=int, default=300)
    parser.add_argument("--joint-tune", type=int, default=300)
    parser.add_argument("--chains", type=int, default=2)
    options = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.WARNING)
    for size in options.sizes:
        n_persons, n_items = (int(n) for n in size.split("x"))
        print(f"{n_persons} learners x {n_items} items, complete, 2PL", flush=True)
        responses = simulate(n_persons, n_items)
        plan = Plan(options.draws, options.tune, options.chains)
        results = [ours(responses, nodes, plan) for nodes in options.nodes]
        results.append(joint(responses, Plan(options.joint_draws, options.joint_tune, options.chains)))
        report(results)


if __name__ == "__main__":
    main()
