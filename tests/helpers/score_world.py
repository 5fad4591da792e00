"""A small exam: forms with fixed items whose values the bank gives, and learners who sit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.item_analysis.forms import import_forms
from irt_assets.item_analysis.periods import analyse_month
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import change_rules, read_scales, write_pass_mark
from irt_assets.scores.form_tables import FormTable, make_month
from resources.postgres.database import Database
from tests.helpers import rooms

MONTH = rooms.MONTHS[0]
FORMS = {"F1": range(1, 21), "F2": range(11, 31)}
"""Two forms of 20 items with ten common items, i11 to i20."""
RULES = {"score_slope": 100.0, "score_intercept": 500.0, "score_lowest": 200.0, "score_highest": 800.0}
SIGNED: dict[str, Any] = {"by": "Ann", "reason": "committee of June"}


def item_values() -> dict[str, dict[str, float]]:
    """Values of the items i1 … i30 with small errors."""
    rng = np.random.default_rng(7)
    b = np.round(np.linspace(-2, 2, 30), 2)[rng.permutation(30)]
    a = np.round(rng.uniform(0.8, 1.8, 30), 2)
    return {
        f"i{k}": {"a": a[k - 1], "b": b[k - 1], "a_se": 0.05, "b_se": 0.05, "cov_ab": 0.0, "model": "2pl"}
        for k in range(1, 31)
    }


def build_exam(
    database: Database,
    folder: Path,
    *,
    learners: int = 150,
    forms: Mapping[str, Sequence[int]] = FORMS,
    pass_theta: float | None = 0.0,
    rules: Mapping[str, Any] = RULES,
    shift: float = 0.0,
) -> None:
    """Make the bank, the scale with reported scores, and sittings of every form in `MONTH`, analysed.

    The mean of θ rises by `shift` from each form's learners to the next form's.
    """
    rooms.add_items(database, item_values())
    text = "form_id,item_id,position\n" + "".join(
        f"{form},i{k},{at}\n" for form, items in forms.items() for at, k in enumerate(items, 1)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "forms.csv").write_text(text)
    import_forms(database, folder / "forms.csv")
    for number, (form, items) in enumerate(forms.items()):
        sit(database, form, items, [f"{form}-u{k}" for k in range(learners)], seed=number, shift=number * shift)
    initialise(database, rooms.SCALE, first_month=MONTH)
    change_rules(database, rooms.SCALE, rules)
    if pass_theta is not None:
        rooms.call(database, write_pass_mark, rooms.SCALE, pass_theta)
    analyse(database, folder)


def sit(
    database: Database,
    form: str,
    items: Sequence[int],
    users: Sequence[str],
    *,
    seed: int = 0,
    day: int = 3,
    shift: float = 0.0,
    month: str = MONTH,
) -> None:
    """Add a session of each learner on a form, on a day of the month. θ ~ N(shift, 1)."""
    rng = np.random.default_rng(seed)
    values = item_values()
    a, b = (np.array([values[f"i{k}"][name] for k in items]) for name in ("a", "b"))
    right = rooms.model_scores(rng.normal(shift, 1, len(users)), a, b, rng)
    start = Month(month).start + timedelta(days=day)
    rooms.add_attempts(
        database,
        [
            rooms.attempt(
                user,
                f"i{k}",
                start + timedelta(minutes=at),
                correct=bool(right[row, at]),
                form_id=form,
                session_id=f"{user}-{form}-{month}-{day}",
                position=at + 1,
            )
            for row, user in enumerate(users)
            for at, k in enumerate(items)
        ],
    )


def analyse(database: Database, folder: Path, month: str = MONTH) -> None:
    """Judge the month, take its snapshot and analyse its forms."""
    judge_differing(database, *(at.date() for at in Month(month).bounds))
    store = rooms.folder_store(database.settings)
    take_snapshot(database, store, month, None)
    analyse_month(database, store, month)


def make_tables(database: Database, month: str = MONTH) -> dict[str, FormTable]:
    """Make the month's score tables, as the asset does."""
    with database.connect() as connection:
        scale = read_scales(connection, Month(month).start)[rooms.SCALE]
        made, without = make_month(connection, scale, month)
    assert without == {}, without
    return {found.form_id: found for found in made}


NOW = datetime(2026, 7, 15, tzinfo=UTC)
