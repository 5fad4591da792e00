"""Check whether two versions of the product compute the same numbers from the same answers.

    python -m benchmarks.numbers make FOLDER   demo, SAT12, and a world of two scales: 3PL with testlets, and levels
    python -m benchmarks.numbers compare FOLDER FOLDER

`make` uses only the command line, so it does not depend on the modules of a version. It writes the whole ledger to
FOLDER/NAME.json. `compare` requires equal texts and numbers equal to 1e-10. Run both versions on the same day, because
the demo's months are the last ones before today."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.simulation.files import write
from irt_assets.simulation.response_log import simulate
from resources.postgres.database import Database
from resources.settings import Settings
from tests.testbed.scenario import AnyScenario

MONTHS = ("2026-07", "2026-08", "2026-09")
SCALES = {"guessed": {"model": "3pl"}, "levels": {"model": "2pl", "set": "assignment=by_level"}}
RULES = ("min_responses=120", "min_responses_3pl=250", "min_anchor_responses=80", "latent=auto")
TOLERANCE = 1e-10
IRT = str(Path(sys.executable).with_name("irt"))

WITHOUT = re.compile(
    r"_at$|_state$|^(run|run_id|code_version|url|uri|sha256|inputs_hash|calibration|replaces"
    r"|(publication|decision|status|alert|erasure|artifact)_id)$"
)
"""Columns with a time, run, location, version or row id instead of a result."""
NAMES = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b|(?<=-em-)[0-9a-f]{8}\b"
)
"""Random names of fits, runs and updates."""
LEFT_OUT = {
    "response_log", "question", "learner", "alembic_version", "alert", "alert_delivery", "backup",
    "object_folder", "report_file", "erasure",
}  # fmt: skip


def irt(home: Path, *arguments: str) -> None:
    environment = os.environ | {"IRT_HOME": str(home), "IRT_FIRST_MONTH": MONTHS[0]}
    environment.pop("DATABASE_URL", None)
    done = subprocess.run([IRT, *arguments], env=environment, check=False, capture_output=True, text=True)
    print(f"irt {' '.join(arguments)}: {done.returncode}", flush=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stdout + done.stderr)


def two_scales(home: Path) -> None:
    """Make a scale with guessing and testlets of five items, and a scale whose items follow the learner's level."""
    for scale, options in SCALES.items():
        files = write(*simulate(_scenario(scale)), home / "files" / scale)
        questions = pd.read_json(files.questions, lines=True, dtype=False)
        questions["scale_id"] = scale
        if scale == "guessed":
            questions["testlet_id"] = [f"t{position // 5}" for position in range(len(questions))]
        questions["item_id"] = f"{scale}-" + questions["item_id"]
        questions.to_json(files.questions, orient="records", lines=True)
        attempts = pq.read_table(files.attempts)
        for column in ("attempt_id", "user_id", "item_id", "session_id"):
            named = pc.binary_join_element_wise(pa.scalar(scale), attempts[column], "-")
            attempts = attempts.set_column(attempts.schema.get_field_index(column), column, named)
        pq.write_table(attempts, files.attempts)
        irt(home, "import", "questions", str(files.questions))
        irt(home, "import", "attempts", str(files.attempts))
        rules = [*RULES[:3], options["set"]] if "set" in options else RULES
        irt(home, "scale", "init", "--scale", scale, "--model", options["model"], *(f"--set={rule}" for rule in rules))
    irt(home, "backfill", "--from", MONTHS[0], "--to", MONTHS[-1])


def _scenario(scale: str) -> AnyScenario:
    return AnyScenario(
        months=MONTHS,
        now=datetime(2026, 10, 1, tzinfo=UTC),
        seed=20261125,
        learners_per_month=700,
        items_per_block=15,
        anchors_per_block=6,
        guessing=0.2 if scale == "guessed" else 0.0,
        assignment="adaptive" if scale == "levels" else "linear",
    )


def read_rows(home: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by table, in an order that depends only on their values."""
    database = Database(Settings(irt_home=home, database_url=None, _env_file=None))  # type: ignore[call-arg]
    rows: dict[str, list[dict[str, Any]]] = {}
    with database.connect() as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = current_schema()::regnamespace ORDER BY 1"
        ).fetchall()
        for (table,) in tables:
            if table in LEFT_OUT:
                continue
            stored_rows = [
                _without(row) for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM {table} t").fetchall()
            ]
            rows[table] = sorted(stored_rows, key=_order)
    return rows


def _without(row: dict[str, Any]) -> dict[str, Any]:
    remaining = {name: value for name, value in row.items() if not WITHOUT.search(name)}
    return json.loads(NAMES.sub("·", json.dumps(remaining)))


def _order(row: dict[str, Any]) -> str:
    """Sort key: the row's texts, then its numbers to six digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, dict):
            return {name: rounded(inner) for name, inner in value.items()}
        return [rounded(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps([{k: v for k, v in row.items() if isinstance(v, str)}, rounded(row)], sort_keys=True)


def differences(before: Any, after: Any, location: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            if name in before and name in after:
                yield from differences(before[name], after[name], f"{location}.{name}")
            else:
                yield f"{location}.{name}: only {'before' if name in before else 'after'}"
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{location}: {len(before)} before, {len(after)} after"
        for number, pair in enumerate(zip(before, after, strict=False)):
            yield from differences(*pair, f"{location}[{number}]")
    elif isinstance(before, float) or isinstance(after, float):
        close = isinstance(before, float | int) and isinstance(after, float | int)
        if not (close and math.isclose(before, after, rel_tol=TOLERANCE)):
            yield f"{location}: {before} before, {after} after"
    elif before != after:
        yield f"{location}: {before!r} before, {after!r} after"


def make(folder: Path) -> None:
    data = Path(os.environ["IRT_SHARED"]) / "data" / "sat12_scored_wide.csv"
    irt(folder / "demo", "demo", "--no-serve")
    irt(folder / "sat12", "demo", "--no-serve", "--data", str(data), "--at", "2026-09-01")
    two_scales(folder / "scales")
    for name in ("demo", "sat12", "scales"):
        (folder / f"{name}.json").write_text(json.dumps(read_rows(folder / name), indent=1))


def read(file: Path) -> dict[str, list[Any]]:
    """Read a file without the KPIs of the current week, which depend on the time of their computation."""
    rows: dict[str, list[Any]] = json.loads(NAMES.sub("·", file.read_text()))
    weeks = [row["week_start"] for row in rows["weekly_kpi"]]
    rows["weekly_kpi"] = [row for row in rows["weekly_kpi"] if row["week_start"] < max(weeks)]
    return rows


def compare(before: Path, after: Path) -> None:
    different = 0
    for name in ("demo", "sat12", "scales"):
        sides = [read(folder / f"{name}.json") for folder in (before, after)]
        lines = list(differences(*sides))
        different += len(lines)
        print(f"{name}: {sum(map(len, sides[0].values())):,} rows, {len(lines)} differences", *lines[:40], sep="\n  ")
    sys.exit(bool(different))


if __name__ == "__main__":
    folders = [Path(argument).resolve() for argument in sys.argv[2:]]
    if sys.argv[1] == "make":
        make(*folders)
    else:
        compare(*folders)
