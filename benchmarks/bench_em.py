"""How fast and how big the em engine is, against a plain dense NumPy EM in the same run.

    python benchmarks/bench_em.py
    python benchmarks/bench_em.py --models    # the time of each model as a multiple of the 2PL's, CPU of one thread

Every measurement runs in a process of its own, so that peak memory is that of one fit; compiled kernels come from the
cache, as in any second run. Ours includes standard errors and the full covariance; the peer has none. The peer is
textbook EM (Bock & Aitkin 1981) on matrix products, stopped when no parameter moves by more than 1e-4, mirt's default.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES = ((2_000, 50), (50_000, 200))
NODES = 61


def simulate(n_persons: int, n_items: int) -> np.ndarray:
    """Persons × items, int8: θ ~ N(0, 1), a ~ LogNormal(0, 0.3), b ~ N(0, 1)."""
    rng = np.random.default_rng(2026)
    a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
    theta = rng.normal(size=(n_persons, 1))
    return (rng.random((n_persons, n_items), dtype=np.float32) < 1 / (1 + np.exp(-a * (theta - b)))).astype(np.int8)


def plain_em(x: np.ndarray) -> tuple[float, int]:
    """Dense EM; returns the log-likelihood and the number of cycles."""
    n_items = x.shape[1]
    right = x.astype(float)
    theta = np.linspace(-6, 6, NODES)
    weight = np.exp(-0.5 * theta**2)
    weight /= weight.sum()
    a, d = np.ones(n_items), np.log(right.mean(0) / (1 - right.mean(0)))
    cycles = 0
    while cycles < 500:
        cycles += 1
        eta = theta[:, None] * a + d
        like = right @ eta.T - np.logaddexp(0, eta).sum(1) + np.log(weight)
        top = like.max(1, keepdims=True)
        post = np.exp(like - top)
        total = post.sum(1, keepdims=True)
        loglik = float((np.log(total) + top).sum())
        post /= total
        expected_right, expected = right.T @ post, post.sum(0)
        before = np.concatenate([a, d])
        for _ in range(5):
            p = 1 / (1 + np.exp(-(theta * a[:, None] + d[:, None])))
            residual, w = expected_right - expected * p, expected * p * (1 - p)
            g_a, g_d = residual @ theta, residual.sum(1)
            h_aa, h_ad, h_dd = w @ theta**2, w @ theta, w.sum(1)
            det = h_aa * h_dd - h_ad**2
            a, d = a + (h_dd * g_a - h_ad * g_d) / det, d + (h_aa * g_d - h_ad * g_a) / det
        if np.abs(np.concatenate([a, d]) - before).max() < 1e-4:
            break
    return loglik, cycles


def child(who: str, n_persons: int, n_items: int) -> None:
    """One measurement, printed as JSON."""
    x = simulate(n_persons, n_items)
    if who == "plain":
        importing = 0.0
        before = _reset_peak()
        start = time.perf_counter()
        loglik, cycles = plain_em(x)
        seconds = [time.perf_counter() - start]
    else:
        start = time.perf_counter()
        from irt_assets.psychometrics.em import fit_em
        from irt_assets.psychometrics.models import Responses

        importing = time.perf_counter() - start
        person = np.repeat(np.arange(n_persons, dtype=np.int32), n_items)
        item = np.tile(np.arange(n_items, dtype=np.int32), n_persons)
        responses = Responses(person, item, x.ravel(), n_persons, tuple(f"i{j}" for j in range(n_items)))
        seconds = []
        before = _reset_peak()
        for _ in range(6):
            start = time.perf_counter()
            fit = fit_em(responses)
            seconds.append(time.perf_counter() - start)
        loglik, cycles = fit.convergence.loglik, fit.convergence.iterations
        if not (fit.convergence.converged and np.isfinite(fit.a_se).all()):
            raise SystemExit(f"not a result: {fit.convergence}")
    peak = _status("VmHWM")
    result = {"loglik": loglik, "cycles": cycles, "import": importing, "first": seconds[0]}
    result |= {"seconds": statistics.median(seconds[1:] or seconds), "fit_mb": peak - before, "peak_mb": peak}
    print(json.dumps(result))


def _reset_peak() -> float:
    """Forgets the peak so far (Linux: proc(5), clear_refs) and returns the memory in use now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def measure(who: str, n_persons: int, n_items: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", who, str(n_persons), str(n_items)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def models() -> None:
    """CPU seconds of the models on the same answers, with guessing in them; medians of 5 after one warm-up."""
    from irt_assets.psychometrics.em import fit_em
    from irt_assets.psychometrics.models import Responses

    rng = np.random.default_rng(2027)
    for n_persons, n_items, share in ((2_000, 50, 1.0), (10_000, 100, 1.0), (10_000, 200, 0.2)):
        x = simulate(n_persons, n_items).astype(float)
        guessed = (rng.random(x.shape) < 0.2) & (x == 0)
        x = np.where(guessed, 1.0, x)
        x[rng.random(x.shape) > share] = np.nan
        responses = Responses.from_wide(x)
        print(f"{n_persons} learners x {n_items} items, {share:.0%} of them seen by each learner, with errors")
        two = 0.0
        for name, options in (
            ("2PL", {}),
            ("Rasch", {"model": "rasch"}),
            ("3PL", {"model": "3pl"}),
            ("2PL, 5 groups", {"groups": [str(k % 5) for k in range(n_persons)]}),
            ("2PL, histogram", {"latent": "histogram"}),
        ):
            seconds = []
            for _ in range(6):
                start = time.process_time()
                fit = fit_em(responses, threads=1, **options)
                seconds.append(time.process_time() - start)
            median = statistics.median(seconds[1:])
            two = two or median
            print(
                f"  {name:15} {median:7.3f} s  {median / two:5.2f} x  {fit.convergence.iterations:4} iterations  "
                f"converged {fit.convergence.converged}"
            )


def main() -> None:
    measure("ours", *SIZES[0])  # fills the kernel cache on a fresh machine
    for n_persons, n_items in SIZES:
        ours, plain = (measure(who, n_persons, n_items) for who in ("ours", "plain"))
        dense = n_persons * n_items * NODES * 8 / 2**20
        print(f"{n_persons} learners x {n_items} items, complete, 2PL, {NODES} nodes; median of 5")
        for name, m in (("em with errors  ", ours), ("plain, no errors", plain)):
            print(f"  {name} {m['seconds']:8.3f} s {m['cycles']:4.0f} iterations, loglik {m['loglik']:.4f}")
            print(f"    memory, peak   {m['peak_mb']:8.0f} MB, of which the fit and its code {m['fit_mb']:.0f} MB")
        print(f"  ratio            {plain['seconds'] / ours['seconds']:8.1f} x")
        print(f"  persons x items x nodes would be {dense:.0f} MB")
        print(f"  new process, warm cache: {ours['import']:.2f} s to import, {ours['first']:.2f} s for the first fit")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["--models"]:
        models()
    else:
        main()
