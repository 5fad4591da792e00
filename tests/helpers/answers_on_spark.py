"""Simulated answers in memory and as a table for Spark, and a bit-for-bit comparison of two fits."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pyarrow as pa

from irt_psychometrics import Calibration
from irt_psychometrics.responses import Responses

ITEMS = 30


@dataclasses.dataclass(frozen=True)
class World:
    """The same answers in memory and as a table. Learners with even numbers are in group a, the others in group b."""

    responses: Responses
    groups: list[str]
    table: pa.Table

    @classmethod
    def simulate(cls, n_persons: int, seen: int, seed: int = 5, most: int = 1) -> World:
        """Simulate answers. `most`: the maximum score of every second item."""
        rng = np.random.default_rng(seed)
        a, b, theta = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS), rng.normal(0, 1, n_persons)
        item = np.sort(rng.random((n_persons, ITEMS)).argsort(axis=1)[:, :seen], axis=1).ravel().astype(np.int32)
        person = np.repeat(np.arange(n_persons, dtype=np.int32), seen)
        p = 0.15 + 0.85 / (1 + np.exp(-a[item] * (theta[person] - b[item])))
        score = (rng.random(len(item)) < p).astype(np.int8)
        scored = item % 2 == 0
        score[scored] += rng.binomial(most - 1, p[scored]).astype(np.int8)
        users = np.array(sorted(f"learner-{k}" for k in range(n_persons)))
        key = np.array([zlib.crc32(user.encode()) for user in users], dtype=np.uint32)
        ids = tuple(f"i{j:02d}" for j in range(ITEMS))
        categories = None if most == 1 else np.where(np.arange(ITEMS) % 2 == 0, most + 1, 2)
        responses = Responses(person, item, score, n_persons, ids, categories, key=key)
        groups = ["ab"[k % 2] for k in range(n_persons)]
        shuffled = rng.permutation(len(item))
        table = pa.table(
            {
                "learner_key": users[person][shuffled],
                "item_id": np.array(ids)[item][shuffled],
                "score": score[shuffled],
                "group": np.array(groups)[person][shuffled],
            }
        )
        return cls(responses, groups, table)


def assert_same(found: Calibration, expected: Calibration) -> None:
    for field in dataclasses.fields(Calibration):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert repr(one) == repr(other), field.name
