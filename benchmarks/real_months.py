"""Process months of public data sets with the command line, as an analyst would.

    IRT_SHARED=../shared python -m benchmarks.real_months [--only SPISA …]

Learners of a data set are divided at random into months; the cloze log has its own months. Each set has its own
installation in a temporary folder. It is imported, its first month becomes the origin, and every later month is
calibrated. Misfit and guessing that hold a month are then accepted, and the month is calibrated again. Prints a
Markdown table and, with --say, every command and its output, and the text of each gate and caution for the last month.
This takes half an hour on two busy cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from irt_assets.common.partitions import Month
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.model_gates import LIMITS, MEASURES, eigenvalue_ratio
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.ledger.steps import Step, step_of
from irt_assets.scales.scale import read_scales
from irt_psychometrics.itemfit.measure import Measure
from resources.files.folder_claim import open_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings

DATA = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
CLOZE = """
columns: {user_id: user_id, item_id: item_id, topic_id: topic_id, session_id: session_id, completed_at: answered_at,
          correct: correct, response_time_ms: response_time_ms}
skip_rows_where: {outcome: [STUDY]}
"""
SECOND_HALF = "c18"
"""First cluster of the second scale: each learner saw only clusters before it, or only later ones."""
SMALL_TESTS = {"min_anchors": 3}
DECISIONS = {"misfit_was_accepted": "misfit", "guessing_is_in_the_model": "guessing"}


@dataclass(frozen=True)
class Set:
    """A data set, its number of months, and rules.

    `options`: options of `irt import attempts`. `testlets`: number of first characters of an item's name that name its
    testlet.
    """

    name: str
    file: str
    rules: Mapping[str, int]
    months: int = 2
    options: tuple[str, ...] = ()
    testlets: int = 0
    mapping: str | None = None


def _rules(responses: int, **more: int) -> dict[str, int]:
    return {"min_responses": responses, "min_anchor_responses": min(responses, 200)} | more


SETS = (
    Set("LSAT 6", "lsat6_wide.csv", _rules(500, **SMALL_TESTS)),
    Set("LSAT 7", "lsat7_wide.csv", _rules(500, **SMALL_TESTS)),
    Set("SAT12, official key", "sat12_raw_choices.csv", _rules(200), options=("--key", str(DATA / "sat12_key.csv"))),
    Set("irtoys, Scored", "irtoys_scored_wide.csv", _rules(200)),
    Set("Science, 3 or 4 points are right", "science_wide.csv", _rules(150, min_learner_responses=4, **SMALL_TESTS),
        options=("--dichotomise", "at=3")),
    Set("verbal aggression, situations as testlets", "verbal_aggression_binary_wide.csv", _rules(150), testlets=2),
    Set("SPISA", "spisa_wide.csv.gz", _rules(500)),
    Set("SPISA in five months", "spisa_wide.csv.gz", _rules(200), months=5),
    Set("statistics cloze (half), November and December", "lkt_statistics_cloze.csv.gz", _rules(20), mapping=CLOZE),
)  # fmt: skip


class Installation:
    """A platform in `home`, used through its command line."""

    def __init__(self, home: Path, first_month: str, say: bool) -> None:
        self.home, self.say = home, say
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "IRT_HOME": str(home),
            "IRT_FIRST_MONTH": first_month,
            "IRT_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.settings = Settings(irt_home=home, database_url=None, irt_first_month=first_month, _env_file=None)  # type: ignore[call-arg]

    def irt(self, *words: str, may_fail: bool = False) -> str:
        """Run a command. Returns its output. Raises RuntimeError if it fails, unless `may_fail`."""
        done = subprocess.run(
            [sys.executable, "-m", "irt_assets.cli", *words],
            env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if self.say:
            print(f"$ irt {' '.join(words)}\n{done.stdout}", end="", file=sys.stderr)
        if done.returncode and not may_fail:
            raise RuntimeError(f"irt {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def evidence(self, month: str) -> Evidence:
        database = Database(self.settings)
        with database.connect() as connection:
            scale = read_scales(connection, Month(month).start)["default"]
            return load_evidence(connection, month, scale, open_store(self.settings, database))

    def step(self, month: str) -> Step:
        with Database(self.settings).connect() as connection:
            step = step_of(connection, "default", month)
        assert step is not None
        return step

    def origin(self) -> dict[str, Any]:
        """Statistics of the whole set from the fit of the origin window, and its number of anchors."""
        with Database(self.settings).connect() as connection:
            row = connection.execute(
                """SELECT model_spec->'fit_statistics', (SELECT count(*) FROM anchor_set WHERE version = 1)
                   FROM mirt_fit_meta WHERE kind = 'origin' ORDER BY fitted_at LIMIT 1"""
            ).fetchone()
        assert row is not None
        return {"statistics": SetStatistics.from_json(row[0], "of the origin"), "anchors": row[1]}


def months_of(data: Set, folder: Path, rng: np.random.Generator) -> tuple[list[str], int]:
    """Write a file of answers for each month into `folder`. Returns the months and the number of items."""
    table = pd.read_csv(DATA / data.file, dtype=str)
    if data.mapping:
        table = table[table["item_id"] < SECOND_HALF]
        of = table["answered_at"].str[:7]
        months = ["2015-11", "2015-12"]
        items = table["item_id"].nunique()
    else:
        months = [f"2026-{k + 1:02d}" for k in range(data.months)]
        of = pd.Series(rng.permutation(np.resize(months, len(table))))
        items = len(pd.read_csv(DATA / "sat12_key.csv")) if "--key" in data.options else _items(table)
    for month in months:
        table[of == month].to_csv(folder / f"{month}.csv", index=False)
    return months, items


def _items(table: pd.DataFrame) -> int:
    numbers = table.apply(pd.to_numeric, errors="coerce")
    return int(((numbers >= 0) & (numbers <= 4)).all().sum())


def process(data: Set, folder: Path, seed: int, say: bool) -> str:
    """Process a data set. Returns its row of the table."""
    months, n_items = months_of(data, folder, np.random.default_rng(seed))
    here = Installation(folder / "home", months[0], say)
    options = list(data.options)
    if data.mapping:
        (folder / "mapping.yaml").write_text(data.mapping)
        options += ["--mapping", str(folder / "mapping.yaml")]
    try:
        for month in months:
            day = [] if data.mapping else ["--at", f"{month}-15"]
            here.irt("import", "attempts", str(folder / f"{month}.csv"), *day, *options)
        if data.testlets:
            _import_testlets(here, folder, data.testlets)
        rules = [word for name, value in data.rules.items() for word in ("--set", f"{name}={value}")]
        here.irt("scale", "init", "--origin", months[0], *rules)
        held_gates = [name for month in months[1:] for name in _calibrate(here, month)]
        return _row(data, here, months[-1], n_items, list(dict.fromkeys(held_gates)))
    finally:
        EmbeddedPostgres(folder / "home" / "postgres").stop()


def _import_testlets(here: Installation, folder: Path, characters: int) -> None:
    with Database(here.settings).connect() as connection:
        items = [item for (item,) in connection.execute("SELECT item_id FROM question ORDER BY 1")]
    rows = [f"{item},{item[:characters]}" for item in items]
    (folder / "questions.csv").write_text("\n".join(["item_id,testlet_id", *rows]))
    here.irt("import", "questions", str(folder / "questions.csv"))


def _calibrate(here: Installation, month: str) -> list[str]:
    """Calibrate a month, accept misfit and guessing, and calibrate it again.

    Returns the set gates that held it the first time.
    """
    here.irt("calibrate", "--month", month, may_fail=True)
    evidence = here.evidence(month)
    failed_gates = [gate.name for gate in SET_GATES if not gate.judge(evidence).passed]
    if arguments := [DECISIONS[name] for name in failed_gates if name in DECISIONS]:
        for subject in arguments:
            here.irt("scale", "accept", subject, "--by", "benchmark", "--reason", "to see what else is said")
        here.irt("calibrate", "--month", month, may_fail=True)
    return failed_gates


def _row(data: Set, here: Installation, month: str, n_items: int, held_gates: Sequence[str]) -> str:
    evidence = here.evidence(month)
    assert evidence.staged is not None
    origin, step = here.origin(), here.step(month)
    failed = [gate.name for gate in SET_GATES if not gate.judge(evidence).passed]
    cautions = [gate.name for gate in ADVISORY_CHECKS if not gate.judge(evidence).passed]
    if here.say:
        for gate in (*SET_GATES, *ADVISORY_CHECKS):
            print(f"  {gate.name}: {gate.judge(evidence).why}", file=sys.stderr)
    misfit = evidence.staged.spec.misfit
    growth = misfit.growth.known_measures() if misfit else {}
    cells = [_growth(name, growth.get(name)) for name in MEASURES]
    fit = evidence.on_the_scale
    linking = fit.constants if fit else None
    ratio = eigenvalue_ratio(origin["statistics"])
    learners = evidence.calibration.n_persons if evidence.calibration else 0
    return (
        " | ".join(
            [
                f"| {data.name}",
                f"{learners:,} × {n_items}",
                f"{origin['anchors']}",
                _format(ratio, ".2f"),
                *cells,
                f"{linking.slope:.2f} ± {linking.slope_se:.2f}" if linking else "–",
                f"{linking.intercept:+.2f} ± {linking.intercept_se:.2f}" if linking else "–",
                f"{linking.q_p:.2f}" if linking else "–",
                _words(held_gates) or "nothing",
                _words(failed) or f"{step.n_published} / {step.n_proposed} / {step.n_held}",
                _words(cautions) or "nothing",
            ]
        )
        + " |"
    )


def _growth(name: str, measure: Measure | None) -> str:
    """Growth of a measure, in bold if it is beyond its limit."""
    if measure is None:
        return "–"
    value = f"{measure.value:+.3f}"
    return f"**{value}**" if measure.low > LIMITS[name] else value


def _format(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _words(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


COLUMNS = (
    "data", "learners of a month × items", "anchors", "origin: eigenvalue ratio", *MEASURES.values(), "slope",
    "intercept", "p of Q", "held for", "then: first published / proposed / held back", "warned of",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="begin of names of data sets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--say", action="store_true", help="print what was said, to the standard error")
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---|" + "--:|" * (len(COLUMNS) - 1))
    for data in SETS:
        if arguments.only is None or data.name.startswith(tuple(arguments.only)):
            with tempfile.TemporaryDirectory() as folder:
                print(process(data, Path(folder), arguments.seed, arguments.say), flush=True)


if __name__ == "__main__":
    main()
