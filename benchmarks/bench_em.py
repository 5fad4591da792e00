"""Speed and memory of the em engine, compared with R's mirt, packages of PyPI, plain NumPy and an earlier version.

    python -m benchmarks.bench_em                         # ours and the plain peer, designs up to 50,000 learners
    python -m benchmarks.bench_em --designs million        # 50 million answers
    python -m benchmarks.bench_em --before ../earlier --peers /path/to/python --r-errors 2000x50
    python -m benchmarks.bench_em --models                 # the time of each model as a multiple of the 2PL's

Every measurement runs in its own process, so that peak memory is the memory of one program with its answers. Compiled
kernels come from the cache, as in any second run. `--before` is a checkout of an earlier version, `--peers` a Python
with `girth` or `mirt` installed; R's mirt is found by Rscript. Missing programs appear as "not installed", and the
table marks programs that take longer than `--limit` seconds. Ratios are of CPU seconds, which depend less on other load
than elapsed time.

All programs stop at their own default tolerance (mirt: no parameter moves by more than 1e-4) with 61 nodes on [-6, 6].
Log-likelihoods are computed by our function at each program's estimates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
NODES = 61
DESIGNS = {  # learners, items, random items that each learner sees
    "2000x50": (2_000, 50, 50),
    "10000x100": (10_000, 100, 100),
    "50000x200": (50_000, 200, 200),
    "sparse": (50_000, 500, 40),
    "million": (1_000_000, 1000, 50),
}


def simulate(
    n_persons: int, n_items: int, seen: int, guessing: float = 0.0, *, part: int | None = None
) -> tuple[np.ndarray, ...]:
    """Simulate columns person, item and score, with θ ~ N(0, 1), a ~ LogNormal(0, 0.3) and b ~ N(0, 1).

    Each `part` has different persons.
    """
    rng = np.random.default_rng(2026)
    a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
    if part is not None:
        rng = np.random.default_rng((2026, part))
    item = np.empty((n_persons, seen), dtype=np.int32)
    score = np.empty((n_persons, seen), dtype=np.int8)
    for first in range(0, n_persons, 20_000):
        n = min(20_000, n_persons - first)
        chosen = np.tile(np.arange(n_items), (n, 1))
        if seen < n_items:
            chosen = np.sort(rng.random((n, n_items), dtype=np.float32).argpartition(seen, axis=1)[:, :seen], axis=1)
        p = guessing + (1 - guessing) / (1 + np.exp(-a[chosen] * (rng.normal(size=(n, 1)) - b[chosen])))
        item[first : first + n], score[first : first + n] = chosen, rng.random((n, seen)) < p
    return np.repeat(np.arange(n_persons, dtype=np.int32), seen), item.ravel(), score.ravel()


def plain_em(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Textbook EM (Bock & Aitkin 1981) with matrix products, until no parameter moves by more than 1e-4. Returns a and
    d."""
    right, saw = (x == 1).astype(float), (x >= 0).astype(float)
    theta = np.linspace(-6, 6, NODES)
    weight = np.exp(-0.5 * theta**2)
    weight /= weight.sum()
    p = right.sum(0) / saw.sum(0)
    a, d = np.ones(x.shape[1]), np.log(p / (1 - p))
    for _ in range(500):
        eta = theta[:, None] * a + d
        like = right @ eta.T - saw @ np.logaddexp(0, eta).T + np.log(weight)
        post = np.exp(like - like.max(1, keepdims=True))
        post /= post.sum(1, keepdims=True)
        expected_right, expected = right.T @ post, saw.T @ post
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
    return a, d


def ours(design: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    """Time fits of the version on the Python path, separately for estimates and standard errors. The first is a
    warm-up."""
    from irt_psychometrics.core.responses import Responses
    from irt_psychometrics.estimation import em

    answers = Responses(*simulate(*design), design[0], tuple(f"i{j}" for j in range(design[1])))
    clock, errors = Stopwatch(), em.errors
    laps: dict[str, list[tuple[float, float]]] = {"all": [], "errors": []}

    def timed(*values: Any, **options: Any) -> Any:
        inner = Stopwatch()
        result = errors(*values, **options)
        laps["errors"].append(inner.lap())
        return result

    em.errors = timed
    before = _reset_peak()
    for _ in range(repeats + (repeats > 1)):
        clock = Stopwatch()
        fit = em.fit_em(answers)
        laps["all"].append(clock.lap())
    if not (fit.convergence.converged and np.isfinite(fit.a_se).all()):
        raise SystemExit(f"not a result: {fit.convergence}")
    (seconds, cpu), (error_seconds, error_cpu) = (np.array(laps[k]).T[:, -repeats:] for k in ("all", "errors"))
    return {
        "seconds": (seconds - error_seconds).tolist(),
        "cpu": (cpu - error_cpu).tolist(),
        "seconds_with_errors": seconds.tolist(),
        "cpu_with_errors": cpu.tolist(),
        "a": fit.a.tolist(),
        "d": fit.d.tolist(),
        "peak_mb": _status("VmHWM"),
        "answers_mb": before,
        "iterations": fit.convergence.iterations,
    }


def plain(design: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    x, laps = matrix(design), []
    for _ in range(repeats):
        clock = Stopwatch()
        a, d = plain_em(x)
        laps.append(clock.lap())
    seconds, cpu = zip(*laps, strict=True)
    return {"seconds": seconds, "cpu": cpu, "a": a.tolist(), "d": d.tolist(), "peak_mb": _status("VmHWM")}


def matrix(design: tuple[int, int, int]) -> np.ndarray:
    """The answers as persons × items, int8, with −1 for items not seen."""
    person, item, score = simulate(*design)
    x = np.full(design[:2], -1, dtype=np.int8)
    x[person, item] = score
    return x


class Stopwatch:
    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def lap(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def _reset_peak() -> float:
    """Reset the memory peak (Linux: proc(5), clear_refs). Returns the memory in use now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def measure(command: list[str], limit: float, path: str | None = None) -> dict[str, Any] | str:
    """Run a child process. Returns the JSON it printed last, or the reason why it printed none."""
    environment = os.environ | ({"PYTHONPATH": path} if path else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except FileNotFoundError:
        return "not installed"
    except subprocess.TimeoutExpired:
        return f"over {limit:.0f} s"
    if done.returncode:
        missing = "ModuleNotFoundError" in done.stderr or "there is no package" in done.stderr
        return "not installed" if missing else f"failed: {done.stderr.strip().splitlines()[-1][:80]}"
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print a Markdown table of all programs for a design."""
    design = DESIGNS[name]
    child = [sys.executable, __file__, "--child"]
    repeats = str(arguments.repeats)
    rows: dict[str, dict[str, Any] | str] = {}
    rows["ours"] = measure([*child, "ours", name, repeats], arguments.limit)
    if arguments.before:
        rows["ours, earlier"] = measure([*child, "ours", name, repeats], arguments.limit, arguments.before)
    if name != "million":
        rows["plain NumPy"] = measure([*child, "plain", name, "1"], arguments.limit)
        with tempfile.NamedTemporaryFile(suffix=".int8") as file:
            matrix(design).tofile(file.name)
            size = [file.name, str(design[0]), str(design[1])]
            r = ["Rscript", str(HERE / "bench_em_peer.R"), *size, "2PL"]
            rows["R mirt"] = measure([*r, "0", str(arguments.peer_repeats)], arguments.limit)
            if name in arguments.r_errors:
                rows["R mirt, errors"] = measure([*r, "1", "1"], arguments.limit)
            for peer, label in (("mirt", "PyPI mirt"), ("mirt-errors", "PyPI mirt, errors"), ("girth", "girth")):
                command = [arguments.peers or "no-python", str(HERE / "bench_em_peer.py"), peer, *size]
                rows[label] = measure([*command, str(arguments.peer_repeats)], arguments.limit)
    table(name, design, rows)


def table(name: str, design: tuple[int, int, int], rows: dict[str, dict[str, Any] | str]) -> None:
    ours_ = rows["ours"]
    if isinstance(ours_, str):
        raise SystemExit(f"{name}: {ours_}")
    print(f"\n{design[0]:,} learners × {design[1]} items, {design[2]} seen by each (`{name}`), 2PL; medians\n")
    print("| program | seconds | CPU s | × ours (CPU) | peak MB | log-likelihood |")
    print("|---|---|---|---|---|---|")
    loglik = likelihood(design)
    for program, row in rows.items():
        if isinstance(row, str):
            print(f"| {program} | {row} | | | | |")
            continue
        base = ours_["cpu_with_errors" if program.endswith("errors") else "cpu"]
        where = f"{loglik(np.array(row['a']), np.array(row['d'])):.4f}"
        print(_line(program, row["seconds"], row["cpu"], base, row["peak_mb"], where))
        if "cpu_with_errors" in row:
            both = row["seconds_with_errors"], row["cpu_with_errors"], ours_["cpu_with_errors"]
            print(_line(f"{program}, with errors", *both, row["peak_mb"], where))
    print(f"\n{ours_['iterations']} iterations; answers and imported code: {ours_['answers_mb']:.0f} MB of our peak")


def _line(program: str, seconds: list[float], cpu: list[float], base: list[float], peak: float, loglik: str) -> str:
    wall, used, own = (statistics.median(values) for values in (seconds, cpu, base))
    return f"| {program} | {wall:.3f} | {used:.3f} | {used / own:.1f} | {peak:.0f} | {loglik} |"


def likelihood(design: tuple[int, int, int]) -> Any:
    """The marginal log-likelihood as a function of (a, d)."""
    from irt_psychometrics.core import kernels
    from irt_psychometrics.core.model_families import TWO_PL
    from irt_psychometrics.core.quadrature import Grid
    from irt_psychometrics.core.responses import Responses
    from irt_psychometrics.estimation.marginal import Problem
    from irt_psychometrics.estimation.parameter_layout import ParameterLayout
    from irt_psychometrics.estimation.response_layout import ResponseLayout

    answers = Responses(*simulate(*design), design[0], tuple(f"i{j}" for j in range(design[1])))
    data = ResponseLayout.from_responses(answers)

    def at(a: np.ndarray, d: np.ndarray) -> float:
        with kernels.runner(None) as run:
            problem = Problem(data, ParameterLayout.from_model(TWO_PL, design[1]), Grid.symmetric(NODES), run)
            return problem.evaluate(np.concatenate([a, d])).loglik

    return at


def models(repeats: int) -> None:
    """Print each model's CPU seconds (median after a warm-up) on the same answers, which include guessing."""
    from irt_psychometrics.core.responses import Responses
    from irt_psychometrics.estimation.em import fit_em

    for design in ((2_000, 50, 50), (10_000, 100, 100), (10_000, 200, 40)):
        n_persons, n_items, seen = design
        answers = Responses(*simulate(*design, guessing=0.2), n_persons, tuple(f"i{j}" for j in range(n_items)))
        print(f"\n{n_persons:,} learners × {n_items} items, {seen} seen by each, with errors; medians\n")
        print("| model | CPU s | × 2PL | iterations |\n|---|---|---|---|")
        two = 0.0
        for name, options in (
            ("2PL", {}),
            ("Rasch", {"model": "rasch"}),
            ("3PL", {"model": "3pl"}),
            ("2PL, 5 groups", {"groups": [str(k % 5) for k in range(n_persons)]}),
            ("2PL, histogram", {"latent": "histogram"}),
        ):
            seconds = []
            for _ in range(repeats + 1):
                start = time.process_time()
                fit = fit_em(answers, threads=1, **options)
                seconds.append(time.process_time() - start)
            median = statistics.median(seconds[1:])
            two = two or median
            if not fit.convergence.converged:
                raise SystemExit(f"not a result: {fit.convergence}")
            print(f"| {name} | {median:.3f} | {median / two:.2f} | {fit.convergence.iterations} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", nargs="*", choices=list(DESIGNS), default=[d for d in DESIGNS if d != "million"])
    parser.add_argument("--repeats", type=int, default=5, help="of our fits, after one that warms up")
    parser.add_argument("--peer-repeats", type=int, default=4, help="of which the first warms up")
    parser.add_argument("--before", help="a checkout of an earlier version")
    parser.add_argument("--peers", help="a Python that has girth or mirt")
    parser.add_argument("--r-errors", nargs="*", default=[], help="designs where R's mirt makes errors too (minutes)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a program may take on a design")
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        program, name, repeats = arguments.child
        print(json.dumps({"ours": ours, "plain": plain}[program](DESIGNS[name], int(repeats))))
    elif arguments.models:
        models(arguments.repeats)
    else:
        measure(
            [sys.executable, __file__, "--child", "ours", "2000x50", "1"], arguments.limit
        )  # this first fit fills the kernel cache
        for name in arguments.designs:
            compare(name, arguments)


if __name__ == "__main__":
    main()
