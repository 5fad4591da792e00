"""Write bad-items.md: spoil simulated answers in every way on the page, run `irt fit` on each, and store its messages.

python docs/explanation/bad_items.py
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from irt_assets import cli
from irt_psychometrics.commands import simulate_responses
from irt_psychometrics.core.models import Flag

Matrix = npt.NDArray[np.float64]
PAGE = Path(__file__).with_name("bad-items.md")
PERSONS, ITEMS = 1000, 10
COLUMNS = 84

HEAD = f"""\
# What happens with bad items

Every case below is {PERSONS:,} simulated persons × {ITEMS} sound items (2PL, θ ~ N(0, 1), seed 1), spoiled in one way
and fitted by `irt fit`. `docs/explanation/bad_items.py` makes the page, so the output is real. Exit code 0: converged;
1: there are estimates, but the fit as a whole is not valid; 2: no fit.

One rule applies to all cases: **an item that cannot be estimated gets no estimate but a flag with the reason, and the
other items are fitted without it**. A diverging slope stops at |a| = 10. This is a bound and not a maximum, so the
slope has no standard error and no item gate lets the item pass. The key of an item with fewer than 5 answers is not
tested. The estimates of the other items do not depend on such an item, so it does not invalidate the fit. If a fault
affects the ability scale itself, the fit has not converged, and the reason names the items: duplicated items, items
that alone determine θ, or answers that are as unrelated as coin tosses. `irt score` and `irt link` refuse tables with a
slope that is not positive, so a wrong key cannot spread: correct the key and fit again, or delete the row.

| flag | meaning |
|---|---|
"""


@dataclass(frozen=True)
class Case:
    title: str
    what: str
    spoil: Callable[[Matrix, np.random.Generator], Matrix]
    show: tuple[str, ...] = ()
    model: str = "2pl"


def _column(j: int, value: float) -> Callable[[Matrix, np.random.Generator], Matrix]:
    def spoil(x: Matrix, _: np.random.Generator) -> Matrix:
        x[:, j] = value
        return x

    return spoil


def _one_response(x: Matrix, _: np.random.Generator) -> Matrix:
    x[1:, 0] = np.nan
    return x


def _nearly_all_right(x: Matrix, _: np.random.Generator) -> Matrix:
    x[:, 0] = 1
    x[np.argmax(x.sum(axis=1)), 0] = 0
    return x


def _twins(x: Matrix, _: np.random.Generator) -> Matrix:
    x[:, 1] = x[:, 0]
    return x


def _reversed(x: Matrix, _: np.random.Generator) -> Matrix:
    x[:, 0] = 1 - x[:, 0]
    return x


def _coin(x: Matrix, rng: np.random.Generator) -> Matrix:
    x[:, 0] = rng.random(len(x)) < 0.4
    return x


def _too_easy_to_guess(x: Matrix, rng: np.random.Generator) -> Matrix:
    x[:, 0] = np.where(rng.random(len(x)) < 0.85, 1, x[:, 0])
    return x


def _disconnected(x: Matrix, _: np.random.Generator) -> Matrix:
    x[: len(x) // 2, ITEMS // 2 :] = np.nan
    x[len(x) // 2 :, : ITEMS // 2] = np.nan
    return x


def _one_answer(x: Matrix, _: np.random.Generator) -> Matrix:
    return np.vstack([x, np.where(np.arange(ITEMS) == 0, 1.0, np.nan)])


def _perfect(x: Matrix, _: np.random.Generator) -> Matrix:
    return np.vstack([x, np.ones((50, ITEMS)), np.zeros((50, ITEMS))])


def _three(x: Matrix, _: np.random.Generator) -> Matrix:
    return x[:3]


def _constant(x: Matrix, _: np.random.Generator) -> Matrix:
    return np.ones_like(x)


def _noise(x: Matrix, rng: np.random.Generator) -> Matrix:
    return (rng.random(x.shape) < 0.5).astype(float)


CASES = (
    Case("Everybody right", "Item i01 was answered correctly by all.", _column(0, 1), ("i01", "i02")),
    Case("Everybody wrong", "Item i01 was answered correctly by nobody.", _column(0, 0), ("i01", "i02")),
    Case("No responses", "Item i01 is in the file, but nobody saw it.", _column(0, np.nan), ("i01", "i02")),
    Case("One response", "One person answered item i01.", _one_response, ("i01", "i02")),
    Case("One wrong answer", "Only the best person answered item i01 wrongly.", _nearly_all_right, ("i01", "i02")),
    Case("Wrong key", "Item i01 was scored the wrong way round.", _reversed, ("i01", "i02")),
    Case("Answers that are noise", "Item i01 was answered by tossing a coin.", _coin, ("i01", "i02")),
    Case("Two identical items", "Item i02 has the answers of item i01.", _twins, ("i01", "i02", "i03")),
    Case("Guessing without information", "A 3PL; 85 % of the answers to item i01 were set to right.",
         _too_easy_to_guess, ("i01", "i02"), "3pl"),
    Case("Disconnected forms", "One half saw items 1–5, the other half items 6–10.", _disconnected),
    Case("A person with one answer", "One additional person, who answered only item i01.", _one_answer, ("i01",)),
    Case("Perfect patterns", "50 additional persons with all answers right, and 50 with all answers wrong.",
         _perfect, ("i01",)),
    Case("Constant data", "Everybody answered everything correctly.", _constant),
    Case("Nothing but noise", "All answers are coin tosses, so no ability is behind them.", _noise, ("i01", "i02")),
    Case("Nothing but noise, Rasch", "The same answers, fitted by a Rasch model.", _noise, ("i01", "i02"), "rasch"),
    Case("Three persons", "The data of the first three persons only.", _three),
)  # fmt: skip


def main() -> None:
    flags = "".join(f"| `{flag.value}` | {flag.explanation} |\n" for flag in Flag)
    sound = simulate_responses(persons=PERSONS, items=ITEMS, seed=1)
    parts = [HEAD + flags]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            spoiled = case.spoil(sound.score.astype(float), np.random.default_rng(7))
            parts.append(_message(case, spoiled, sound.item_ids, Path(folder) / "answers.csv"))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _message(case: Case, matrix: Matrix, items: tuple[str, ...], path: Path) -> str:
    cells = np.where(np.isnan(matrix), "", np.where(matrix == 1, "1", "0"))
    path.write_text("\n".join([",".join(items), *(",".join(row) for row in cells.tolist())]) + "\n", encoding="utf-8")
    code, printed, messages = _irt("fit", str(path), "--model", case.model, "--json")
    lines = [f"$ irt fit {path.name}" + ("" if case.model == "2pl" else f" --model {case.model}")]
    if printed:
        result = json.loads(printed)
        for row in result["items"]:
            if row["item"] in case.show:
                numbers = [f"{name} {_number(row[name])}" for name in ("a", "a_se", "b", "b_se", "c", "infit", "rmsd")]
                lines.append(f"{row['item']}: " + ", ".join([*numbers, f"n {row['n']}", *row["flags"]]))
        fitted = sum(row["a"] is not None for row in result["items"])
        lines.append(
            f"converged: {str(result['converged']).lower()}; {fitted} of {result['n_items']} items estimated;"
            f" reliability {_number(result['reliability'])}"
        )
    lines += messages.replace(f"{path.parent}/", "").splitlines()
    shown = "\n".join(textwrap.fill(line, COLUMNS, break_on_hyphens=False) for line in lines)
    return f"## {case.title}\n{case.what}\n\n```\n{shown}\nexit code {code}\n```\n"


def _irt(*words: str) -> tuple[int, str, str]:
    """Run `irt` in this process. Returns its exit code, standard output and standard error."""
    printed, messages, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["irt", *words]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(messages):
            cli.main()
        code: object = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = before
    return int(str(code)), printed.getvalue(), messages.getvalue()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
