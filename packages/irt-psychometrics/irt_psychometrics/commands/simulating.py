"""`simulate`: answers that follow the model exactly, with the true values next to them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.commands.output import Report, csv_of, write_whole
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.options import DEFAULT_MODEL, MAX_SCORE, DrawnModel
from irt_psychometrics.simulation import ScoredItems


@dataclass(frozen=True)
class SimulatedResponses:
    """Simulated scores with the true values.

    Attributes:
        a, b, c: shape (items,), the true item parameters.
        theta: shape (persons,), the true abilities.
        score: shape (persons, items); −1 if the person did not see the item.
        scored: the true parameters of items scored 0 … m; None if all items are scored 0 and 1.
    """

    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats
    theta: Floats
    score: npt.NDArray[np.int8]
    scored: ScoredItems | None = None

    @property
    def person_ids(self) -> tuple[str, ...]:
        return _names("p", len(self.theta))

    def as_dict(self) -> dict[str, Any]:
        most = 1 if self.scored is None else self.scored.max_scores
        n_responses = int((self.score >= 0).sum())
        return {
            "n_persons": len(self.theta),
            "n_items": len(self.item_ids),
            "n_responses": n_responses,
            "proportion_correct": float((np.maximum(self.score, 0) / most).sum() / max(n_responses, 1)),
        }

    def report(self, folder: Path) -> Report:
        """Report on the numbers of persons, items and answers that were written into the folder."""
        numbers = self.as_dict()
        return [
            (
                f"{numbers['n_responses']:,} answers of {numbers['n_persons']:,} persons to {numbers['n_items']:,}"
                f" items in {folder}; the true values are in items.csv and persons.csv next to them"
            )
        ]

    def write(self, folder: Path) -> None:
        """Write the responses and the true values into `folder`.

        `responses.csv` is a matrix of scores. The true values are in `items.csv` (item,a,b,c, and for scored items
        max_score,t0,t1,…) and `persons.csv` (person,theta).
        """
        persons = self.person_ids
        cells = np.array([*map(str, range(MAX_SCORE + 1)), ""])[self.score].tolist()
        table = [["person", *self.item_ids], *([p, *row] for p, row in zip(persons, cells, strict=True))]
        names: tuple[str, ...] = ("item", "a", "b", "c")
        truth = zip(self.item_ids, self.a.tolist(), self.b.tolist(), self.c.tolist(), strict=True)
        items = [dict(zip(names, row, strict=True)) for row in truth]
        if self.scored is not None:
            t = self.scored.t
            items = [
                row | GPCM.stored_values(t[j], np.full(t.shape[1], np.nan), int(most) + 1)
                for j, (row, most) in enumerate(zip(items, self.scored.max_scores, strict=True))
            ]
            names = (*names, "max_score", *(f"t{k}" for k in range(t.shape[1])))
        people = [{"person": p, "theta": t} for p, t in zip(persons, self.theta.tolist(), strict=True)]
        write_whole(
            folder,
            {
                "responses.csv": "".join(",".join(row) + "\n" for row in table),
                "items.csv": csv_of(items, names),
                "persons.csv": csv_of(people, ("person", "theta")),
            },
        )


def simulate_responses(
    *,
    persons: int = 1000,
    items: int = 20,
    model: DrawnModel = DEFAULT_MODEL,
    params: ParameterTable | None = None,
    mean: float = 0.0,
    sd: float = 1.0,
    each: int | None = None,
    max_score: int | None = None,
    seed: int = 1,
) -> SimulatedResponses:
    """Simulate answers of persons with θ ~ N(mean, sd²) to the items of `params`, or to random items.

    Random items have ln a ~ N(0, 0.3²) (a = 1 if the model has no own slopes), b ~ N(0, 1) and, with guessing,
    c ~ Beta(5, 17), whose mean is 0.23. Items of a partial credit model have the slope a/√m, or 1 if the model has no
    own slopes, and steps about 0.8 apart, which are the same for all items of an RSM.

    Parameters
    ----------
    persons
        Number of persons.
    items
        Number of random items.
    model
        Model of the random items.
    params
        Parameters of items scored 0 and 1; None: random items.
    mean, sd
        Mean and SD of θ, sd > 0.
    each
        Number of random items that each person sees; None: all items.
    max_score
        Maximum score of the items; None: 3 for a partial credit model, otherwise 1.
    seed
        Seed of the random numbers. The same seed gives the same answers.

    Returns
    -------
    SimulatedResponses
        The scores with the true values.

    Raises
    ------
    PsychometricsError
        For numbers that are out of range.
    """
    ids = params.item_ids if params is not None else _names("i", items)
    own, n_items = item_model(model), len(ids)
    if max_score is None:
        max_score = min(own.highest_score, 3)
    rules = (
        (persons >= 1, f"--persons must be at least 1, not {persons}"),
        (n_items >= 1, f"--items must be at least 1, not {n_items}"),
        (
            each is None or 1 <= each <= n_items,
            f"--each must lie between 1 and the number of items, {n_items}, not {each}",
        ),
        (sd > 0, f"--sd must be above 0, not {sd}"),
        (
            1 <= max_score <= own.highest_score,
            f"--max-score must lie between 1 and {MAX_SCORE}, and be 1 for a {own.spoken}",
        ),
        (
            params is None or not (params.others or max_score > 1),
            "--params takes items whose curves a, b and c determine; scored items are drawn: --items 20 --model gpcm",
        ),
    )
    for is_kept, rule in rules:
        if not is_kept:
            raise PsychometricsError(rule)
    rng = np.random.default_rng(seed)
    if params is not None:
        a, b, c = params.a, params.b, params.c
    else:
        a = np.exp(rng.normal(0, 0.3, items)) if own.own_slopes else np.ones(items)
        b = rng.standard_normal(items)
        c = rng.beta(5, 17, items) if own.has_parameter("c") else np.zeros(items)
    theta = rng.normal(mean, sd, persons)
    if max_score > 1:
        scored = ScoredItems.draw(
            rng, [range(max_score + 1)] * items, a if own.own_slopes else np.sqrt(max_score) * a, b
        )
        if own.block_steps:
            scored = replace(scored, t=np.tile(scored.t[0], (items, 1)))
        score, a = scored.matrix(rng, theta).astype(np.int8), scored.a
    else:
        p = probability(theta, a, -a * b, c)
        scored, score = None, (rng.random(p.shape) < p).astype(np.int8)
    if each is not None:
        rank = rng.random(score.shape).argsort(axis=1).argsort(axis=1)
        score[rank >= each] = -1
    return SimulatedResponses(ids, a, b, c, theta, score, scored)


def _names(letter: str, n: int) -> tuple[str, ...]:
    return tuple(f"{letter}{k + 1:0{len(str(n))}}" for k in range(n))
