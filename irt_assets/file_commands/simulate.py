"""`irt simulate-responses`: answers that follow the model exactly, with the true values next to them.

A log with dates, sessions and planted faults is `irt simulate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.file_commands.files import write_whole
from irt_assets.file_commands.tables import ParameterTable, parameter_csv
from irt_assets.psychometrics.core.curves import probability
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.core.options import DEFAULT_MODEL, Model
from resources.failures import PermanentFailure


@dataclass(frozen=True)
class SimulatedResponses:
    """Persons × items: `score` is 1, 0 or −1 (not seen); theta (persons,), a, b, c (items,) are the truth."""

    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats
    theta: Floats
    score: npt.NDArray[np.int8]

    @property
    def person_ids(self) -> tuple[str, ...]:
        return _names("p", len(self.theta))

    def as_dict(self) -> dict[str, Any]:
        return {
            "n_persons": len(self.theta),
            "n_items": len(self.item_ids),
            "n_responses": int((self.score >= 0).sum()),
            "proportion_correct": float((self.score == 1).sum() / max((self.score >= 0).sum(), 1)),
        }

    def write(self, folder: Path, *, long: bool) -> None:
        """`responses.csv`, a matrix or a list; `items.csv` (item,a,b,c) and `persons.csv` (person,theta): the truth."""
        persons = self.person_ids
        if long:
            person, item = np.nonzero(self.score >= 0)
            body = [
                f"{persons[p]},{self.item_ids[i]},{self.score[p, i]}"
                for p, i in zip(person.tolist(), item.tolist(), strict=True)
            ]
            responses = "\n".join(["person,item,score", *body]) + "\n"
        else:
            cells = np.array(["0", "1", ""])[self.score].tolist()
            responses = "\n".join(
                [",".join(["person", *self.item_ids])]
                + [",".join([p, *row]) for p, row in zip(persons, cells, strict=True)]
            )
            responses += "\n"
        names = ("item", "a", "b", "c")
        truth = zip(self.item_ids, self.a.tolist(), self.b.tolist(), self.c.tolist(), strict=True)
        items = [dict(zip(names, row, strict=True)) for row in truth]
        people = [{"person": p, "theta": t} for p, t in zip(persons, self.theta.tolist(), strict=True)]
        write_whole(
            folder,
            {
                "responses.csv": responses,
                "items.csv": parameter_csv(items, names),
                "persons.csv": parameter_csv(people, ("person", "theta")),
            },
        )


def simulate_responses(
    *,
    persons: int = 1000,
    items: int = 20,
    model: Model = DEFAULT_MODEL,
    params: ParameterTable | None = None,
    mean: float = 0.0,
    sd: float = 1.0,
    each: int | None = None,
    seed: int = 1,
) -> SimulatedResponses:
    """Answers of persons with θ ~ N(mean, sd²) to the items of `params`, or to items that are drawn.

    Drawn are ln a ~ N(0, 0.3²) (1 where items have no slopes of their own), b ~ N(0, 1) and, with guessing,
    c ~ Beta(5, 17), whose mean is 0.23. `each`: how many items, at random, a person sees; all where
    None. The same seed gives the same answers.

    Raises PermanentFailure for numbers that are out of range.
    """
    ids = params.item_ids if params is not None else _names("i", items)
    for name, value, least in (("persons", persons, 1), ("items", len(ids), 1)):
        if value < least:
            raise PermanentFailure(f"--{name} must be at least {least}, not {value}")
    if each is not None and not 1 <= each <= len(ids):
        raise PermanentFailure(f"--each must lie between 1 and the number of items, {len(ids)}, not {each}")
    if not sd > 0:
        raise PermanentFailure(f"--sd must be above 0, not {sd}")
    rng = np.random.default_rng(seed)
    if params is not None:
        a, b, c = params.a, params.b, params.c
    else:
        a = np.exp(rng.normal(0, 0.3, items)) if item_model(model).own_slopes else np.ones(items)
        b = rng.standard_normal(items)
        c = rng.beta(5, 17, items) if item_model(model).guesses else np.zeros(items)
    theta = rng.normal(mean, sd, persons)
    p = probability(theta, a, -a * b, c)
    score = (rng.random(p.shape) < p).astype(np.int8)
    if each is not None:
        rank = rng.random(p.shape).argsort(axis=1).argsort(axis=1)
        score[rank >= each] = -1
    return SimulatedResponses(ids, a, b, c, theta, score)


def _names(letter: str, n: int) -> tuple[str, ...]:
    return tuple(f"{letter}{k + 1:0{len(str(n))}}" for k in range(n))
