"""Compare the library with other programs for item response theory: on the same answers, each in its own process.

    python -m benchmarks.peers ENVIRONMENTS                     # all tables, in Markdown
    python -m benchmarks.peers ENVIRONMENTS --only r-mirt ours --data large lsat7

ENVIRONMENTS is a folder with a virtual environment for each peer (`mirt`, `girth`, `irtorch`, `py-irt`, `raschpy`,
`catsim`), `R/lib` with R's mirt, and `ours` with this library and what it needs; a peer without an environment is left
out. A runner in this folder reads the answers, estimates the parameters (with standard errors if its program has any),
and prints JSON. The whole process is timed: start, imports, reading and estimation. Programs take turns, so that other
load affects all equally. Figures are medians of three turns after one that fills caches, or of one turn if that took
over `--patience`.

Log-likelihoods of a 2PL are computed by the library with 61 nodes at each program's estimates; others are the program's
own. Real data sets are read from `IRT_SHARED`/data, and left out if it is not set.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TURNS = 3
NODES = 61
REFERENCE = "R mirt to 1e-7"
Floats = np.ndarray[Any, np.dtype[np.float64]]
Scores = np.ndarray[Any, np.dtype[np.int8]]


@dataclass(frozen=True)
class Peer:
    """A program: the name of its environment (empty for the platform's command) and of its runner.

    `chooses_nodes`: whether the caller chooses the number of nodes. `more`: further arguments of the runner.
    """

    name: str
    environment: str
    runner: str
    chooses_nodes: bool = True
    more: tuple[str, ...] = ()

    def command(self, environments: Path, model: str, answers: Path, nodes: int) -> list[str]:
        """Command that fits `answers`, a path without its suffix.

        Empty if the program is not installed or `irt fit` does not have the model.
        """
        if not self.environment:
            if model == "abilities":
                return []
            most = str(np.load(answers.with_suffix(".npy")).max())
            scores = ["--max-score", most] if model in ("gpcm", "graded") else []
            name, irt = "grm" if model == "graded" else model, Path(sys.executable).with_name("irt")
            return [str(irt), "fit", "--json", "--model", name, *scores, f"{answers}.csv"]
        home = environments / self.environment
        if not home.exists():
            return []
        if self.runner.endswith(".R"):
            program, answers = ["env", f"R_LIBS={home}", "Rscript"], answers.with_suffix(".raw")
        else:  # -P, because a runner has the same name as the package it imports
            program, answers = [str(home / "bin" / "python"), "-P"], answers.with_suffix(".npy")
        return [*program, str(HERE / self.runner), model, str(answers), str(nodes), *self.more]


PEERS = (
    Peer("ours", "ours", "ours.py"),
    Peer("irt fit", "", "", chooses_nodes=False),
    Peer("R mirt", "R/lib", "r_mirt.R"),
    Peer(REFERENCE, "R/lib", "r_mirt.R", chooses_nodes=False, more=("1e-7",)),
    Peer("PyPI mirt", "mirt", "pypi_mirt.py"),
    Peer("girth", "girth", "girth.py"),
    Peer("irtorch", "irtorch", "irtorch.py"),
    Peer("py-irt", "py-irt", "py_irt.py", chooses_nodes=False),
    Peer("raschpy", "raschpy", "raschpy.py", chooses_nodes=False),
    Peer("catsim", "catsim", "catsim.py", chooses_nodes=False),
)


@dataclass(frozen=True)
class Data:
    """Answers, with −1 for items that a person did not see, and the true b of simulated data."""

    title: str
    model: str
    answers: Scores
    b: Floats | None = None
    nodes: tuple[int, ...] = (NODES,)

    def write(self, path: Path) -> None:
        """Write the answers in the formats of the runners."""
        np.save(path.with_suffix(".npy"), self.answers)
        size = np.array(self.answers.shape, dtype=np.int32).tobytes()
        path.with_suffix(".raw").write_bytes(size + self.answers.tobytes())
        with path.with_suffix(".csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["person", *(f"i{j:03d}" for j in range(self.answers.shape[1]))])
            out.writerows([k, *("" if v < 0 else v for v in row)] for k, row in enumerate(self.answers.tolist()))


def simulate(n_persons: int, n_items: int, seen: int, seed: int) -> tuple[Scores, Floats, Floats]:
    """Simulate answers with a ~ LogNormal(0, 0.3), b ~ N(0, 1) and θ ~ N(0, 1).

    There are ten forms of `seen` items. Each starts a tenth of the items after the previous form, and the last forms
    wrap around to the first item.
    """
    rng = np.random.default_rng(seed)
    a, b, theta = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items), rng.normal(size=n_persons)
    p = 1 / (1 + np.exp(-a * (theta[:, None] - b)))
    answers = (rng.random((n_persons, n_items)) < p).astype(np.int8)
    first = np.arange(n_persons) % 10 * n_items // 10
    answers[(np.arange(n_items) - first[:, None]) % n_items >= seen] = -1
    return answers, a, b


def large() -> Data:
    answers, _, b = simulate(5_000, 50, 50, 20261129)
    return Data("5,000 × 50, simulated, 2PL", "2pl", answers, b, (NODES, 21))


def missing() -> Data:
    answers, _, b = simulate(5_000, 200, 60, 70)
    return Data("5,000 × 200, of which each person saw 60, simulated, 2PL", "2pl", answers, b)


def ordered() -> Data:
    """Answers scored 0 … 4 by a graded response model."""
    from benchmarks.bench_item_models import Items

    rng = np.random.default_rng(20261201)
    x = Items.draw(rng, "grm", (0, 40), 5).responses(rng, rng.normal(size=2_000))
    return Data("2,000 × 40 × 5 categories, simulated, graded", "graded", x.score.reshape(2_000, 40))


def real(title: str, model: str, name: str) -> Data:
    """A data set of `IRT_SHARED`, without the column of persons; the lowest score becomes 0."""
    with (Path(os.environ["IRT_SHARED"]) / "data" / f"{name}_wide.csv").open() as file:
        scores = np.array([row[1:] for row in csv.reader(file)][1:], dtype=np.int8)
    return Data(title, model, scores - scores.min())


SETS: dict[str, Callable[[], Data]] = {"large": large, "missing": missing, "ordered": ordered}
if "IRT_SHARED" in os.environ:
    SETS |= {
        "sat12": lambda: real("SAT12, 600 × 32, 2PL", "2pl", "sat12_scored"),
        "lsat7": lambda: real("LSAT7, 1,000 × 5, 2PL", "2pl", "lsat7"),
        "graded": lambda: real("Science, 392 × 4, graded", "graded", "science"),
        "gpcm": lambda: real("Science, 392 × 4, GPCM", "gpcm", "science"),
    }


@dataclass(frozen=True)
class Turn:
    """A run of a process: the resources it used, and its result or error."""

    cpu: float = 0.0
    wall: float = 0.0
    peak_mb: float = 0.0
    found: dict[str, Any] | None = None
    failure: str = ""

    @property
    def estimates(self) -> bool:
        """Whether the program has the model."""
        return bool(self.found) and not {"b", "theta"}.isdisjoint(self.found)


def run(command: list[str], limit: float) -> Turn:
    """Run a process from a helper process without other children, so that their resources are this process's."""
    watch = (
        "import json, resource, subprocess, sys, time; began = time.perf_counter();"
        "done = subprocess.run(sys.argv[2:], capture_output=True, text=True, timeout=float(sys.argv[1]));"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024,"
        " done.stdout, done.stderr[-400:]]))"
    )
    watched = subprocess.run([sys.executable, "-c", watch, str(limit), *command], stdout=subprocess.PIPE, check=False)
    if watched.returncode:
        return Turn(failure=f"over {limit:.0f} s")
    cpu, wall, peak, out, error = json.loads(watched.stdout)
    if "{" not in out:  # `irt fit` prints its result and exits with 1 if some items are doubtful
        output = error.strip().splitlines() or ["failed"]
        return Turn(
            cpu,
            wall,
            peak,
            failure=next((line for line in reversed(output) if "rror" in line), output[-1])[:120].replace("|", "/"),
        )
    return Turn(cpu, wall, peak, _of_irt(json.loads(out[out.index("{") :])))


def _of_irt(result: dict[str, Any]) -> dict[str, Any]:
    """Convert the JSON of `irt fit` to the runners' format. Other JSON is unchanged."""
    if "items" not in result:
        return result
    items = result["items"]
    steps = [name for name in items[0] if name[0] == "b" and name[1:].isdigit()]
    b = [[item[name] for name in steps] if steps else item["b"] for item in items]
    errors = [[item.get(f"{name}_se") for name in steps] if steps else item["b_se"] for item in items]
    return {"loglik": result["loglik"], "b": b, "b_se": errors} | {
        k: [item[k] for item in items] for k in ("a", "a_se")
    }


def in_turns(commands: dict[str, list[str]], limit: float, patience: float) -> dict[str, list[Turn]]:
    """Turns of each command. The first fills caches and does not count if there are further turns."""
    done: dict[str, list[Turn]] = defaultdict(list)
    for turn in range(TURNS + 1):
        for name, command in commands.items():
            if turn and (not done[name][0].estimates or done[name][0].wall > patience):
                continue
            print(f"{name}, turn {turn}", file=sys.stderr, flush=True)
            done[name].append(run(command, limit))
    return {name: some[1:] or some for name, some in done.items()}


def likelihood(answers: Scores) -> Callable[[Floats, Floats], float]:
    """log L of a 2PL with θ ~ N(0, 1), as a function of a and b."""
    from irt_psychometrics.core import kernels
    from irt_psychometrics.core.model_families import TWO_PL
    from irt_psychometrics.core.quadrature import Grid
    from irt_psychometrics.core.responses import Responses
    from irt_psychometrics.estimation.marginal import Problem
    from irt_psychometrics.estimation.parameter_layout import ParameterLayout
    from irt_psychometrics.estimation.response_layout import ResponseLayout

    layout = ResponseLayout.from_responses(Responses.from_wide(np.where(answers < 0, np.nan, answers)))

    def at(a: Floats, b: Floats) -> float:
        with kernels.runner(None) as of:
            problem = Problem(layout, ParameterLayout.from_model(TWO_PL, len(a)), Grid.symmetric(NODES), of)
            return problem.evaluate(np.concatenate([a, -a * b])).loglik

    return at


def resource_cells(some: list[Turn], own: list[Turn] | None) -> list[str]:
    """Medians of CPU seconds, their ratio to ours, wall seconds and peak memory."""
    cpu, wall, peak = (
        statistics.median(getattr(turn, measure) for turn in some) for measure in ("cpu", "wall", "peak_mb")
    )
    ratio = f"{cpu / statistics.median(turn.cpu for turn in own):.1f}" if own else ""
    return [f"{cpu:.2f}", ratio, f"{wall:.2f}", f"{peak:.0f}"]


FIGURES = ("program, nodes", "CPU s", "× ours", "wall s", "peak MB", "log L", "max abs. Δa", "max abs. Δb")
FIGURES += ("SE of a, × R mirt", "SE of b, × R mirt", "RMSE of b")
ABILITIES = ("program", "CPU s", "× ours", "wall s", "peak MB", "max abs. Δθ")


def fits(data: Data, turns: dict[str, list[Turn]]) -> Iterator[list[str]]:
    """A line of `FIGURES` for each program that has the model."""
    reference = (turns.get(REFERENCE) or [Turn()])[0].found or {}
    loglik = likelihood(data.answers) if data.model == "2pl" else None
    for name, some in turns.items():
        result = some[0].found or {}
        if some[0].failure:
            yield [name, some[0].failure, *[""] * (len(FIGURES) - 2)]
        if "b" not in result:
            continue
        estimates = {k: np.array(result[k], float) for k in ("a", "b", "a_se", "b_se") if k in result}
        # a program without slopes fits another model, and its difficulties are centred
        truth_by_name = {
            k: np.array(reference[k], float)
            for k in estimates
            if k in reference and "a" in estimates and name != REFERENCE
        }
        truth = None if data.b is None else data.b - (0 if "a" in estimates else data.b.mean())
        at = result.get("loglik") if loglik is None or "a" not in estimates else loglik(estimates["a"], estimates["b"])
        yield [
            name,
            *resource_cells(some, turns.get(f"ours, {NODES}")),
            "" if at is None else f"{at:,.2f}",
            *(f"{np.abs(estimates[k] - truth_by_name[k]).max():.5f}" if k in truth_by_name else "" for k in "ab"),
            *(
                f"{np.nanmedian(estimates[k] / truth_by_name[k]):.4f}"
                if k in truth_by_name
                else ""
                if k in estimates
                else "none"
                for k in ("a_se", "b_se")
            ),
            "" if truth is None else f"{np.sqrt(np.mean((estimates['b'] - truth) ** 2)):.4f}",
        ]


def table(head: Sequence[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def people(path: Path) -> tuple[Floats, Scores]:
    """Write answers of 5,000 persons with the true items.

    Returns maximum-likelihood θ by Newton's method, and the answers.
    """
    answers, a, b = simulate(5_000, 50, 50, 20261129)
    with path.with_suffix(".npy").open("wb") as file:
        np.savez(file, x=answers, a=a, b=b)
    theta = np.zeros(len(answers))
    for _ in range(200):
        p = 1 / (1 + np.exp(-a * (theta[:, None] - b)))
        theta += np.clip(((answers - p) @ a) / (p * (1 - p) @ a**2), -0.25, 0.25)
    return theta, answers


def abilities(theta: Floats, answers: Scores, turns: dict[str, list[Turn]]) -> Iterator[list[str]]:
    inner = (answers.min(axis=1) == 0) & (answers.max(axis=1) == 1)
    for name, some in turns.items():
        if some[0].estimates:
            yield [
                name,
                *resource_cells(some, turns.get(f"ours, {NODES}")),
                f"{np.abs(np.array(some[0].found['theta']) - theta)[inner].max():.1e}",
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", type=Path)
    peers_by_name = {peer.name.lower().replace(" ", "-"): peer for peer in PEERS}
    parser.add_argument("--only", nargs="+", choices=list(peers_by_name), default=list(peers_by_name), help="programs")
    parser.add_argument("--data", nargs="+", choices=[*SETS, "abilities"], default=[*SETS, "abilities"])
    parser.add_argument("--limit", type=float, default=900.0, help="seconds a process may take")
    parser.add_argument("--patience", type=float, default=40.0, help="seconds after which one turn is enough")
    arguments = parser.parse_args()
    peers = [peers_by_name[name] for name in arguments.only]
    has: dict[str, dict[str, Any]] = {}

    def turns(model: str, path: Path, nodes: tuple[int, ...] = (NODES,)) -> dict[str, list[Turn]]:
        commands = {
            f"{peer.name}, {n}" if peer.chooses_nodes else peer.name: command
            for n in nodes
            for peer in peers
            if (peer.chooses_nodes or n == nodes[0])
            and (command := peer.command(arguments.environments, model, path, n))
        }
        done = in_turns(commands, arguments.limit, arguments.patience)
        has.update(
            {name.split(",")[0]: some[0].found for name, some in done.items() if some[0].found and name != REFERENCE}
        )
        return done

    for name in arguments.data:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x"
            if name == "abilities":
                title, head = "Abilities of 5,000 persons, 50 items, maximum likelihood", ABILITIES
                lines = [*abilities(*people(path), turns("abilities", path))]
            else:
                data = SETS[name]()
                data.write(path)
                title, head = data.title, FIGURES
                lines = [*fits(data, turns(data.model, path, data.nodes))]
        print(f"## {title}\n\nLoad {load:.1f} before, {os.getloadavg()[0]:.1f} after.\n\n{table(head, lines)}\n")
    facts = ("version", "models", "anchors")
    print(
        table(
            ("program", *facts),
            [[program, *(of[fact] for fact in facts)] for program, of in has.items() if "version" in of],
        )
    )


if __name__ == "__main__":
    main()
