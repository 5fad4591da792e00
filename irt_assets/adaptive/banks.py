"""The bank of an adaptive test at a time: its items, their posterior distribution, and the plan that chooses them."""

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import psycopg

from irt_assets.adaptive.policy import Policy
from irt_assets.common.arrays import Floats, Mask
from irt_assets.ledger.encoding import item_as_json, item_from_json
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet, items_ever_published
from irt_assets.new_items.stages import UNPUBLISHED, item_stages
from irt_assets.scales.enemies import read_enemies
from irt_assets.scales.scale import Scale, initialised_scale
from irt_psychometrics import ItemParameters
from irt_psychometrics.adaptive import AdaptiveTest, ItemPosterior, SelectionPlan
from irt_psychometrics.scoring import ParameterErrors
from resources.failures import PermanentFailure
from resources.postgres.database import named_rows

_OF_QUESTIONS = "topic", "format", "testlet", "enemies"
_OF_SCALES = "scale_id", "mu", "sigma", "pass_theta", "anchor_version"
"""Facts about an item and about a scale that a plan depends on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemBank:
    """The items of a scale that tests and forms may have.

    Attributes:
        scale: the scale.
        published: the published set, with the errors of its items.
        questions: topic, format, testlet, meta and enemies of the scale's items that are in use.
        unscored: items in use that have never been published, and are not rejected.
    """

    scale: Scale
    published: PublishedSet
    questions: Mapping[str, Mapping[str, Any]]
    unscored: tuple[str, ...]

    @cached_property
    def items(self) -> ItemParameters:
        """The published items in use, with a > 0."""
        usable = [item for item, own in self.published.items.items() if item in self.questions and own.a > 0]
        return self._errors.items.select(usable)

    @cached_property
    def posterior(self) -> ItemPosterior:
        """The posterior of the items by their errors, with the errors that a fit or a linking shares.

        Items whose errors are not known have the errors that 500 answers would leave.
        """
        errors = self._errors.among(self.items.item_ids)
        known: Mask = np.isfinite(errors.items.a_se + errors.items.b_se + errors.items.cov_ab)
        own = np.where(known[:, None, None], errors.items.cov_of_each, errors.items.with_assumed_errors().cov)
        errors = replace(errors, items=replace(errors.items, cov=own), origin=np.where(known, errors.origin, -1))
        return ItemPosterior.from_items(errors.items, errors.shared_effects)

    @property
    def _errors(self) -> ParameterErrors:
        if self.published.errors is None:
            raise PermanentFailure(f"nothing is published on scale {self.scale.scale_id}, so no item can be chosen")
        return self.published.errors


@dataclass(frozen=True, eq=False, kw_only=True)
class TestBank(ItemBank):
    """The bank of an adaptive test with this policy.

    Attributes:
        policy: the policy.
        content_hash: hash of the `content` from which the bank was made; empty for a bank that was read.
    """

    __test__ = False

    policy: Policy
    content_hash: str = ""

    @property
    def test(self) -> AdaptiveTest:
        """The rules for the library."""
        return self.plan.test

    @cached_property
    def enemies(self) -> list[Set[str]]:
        """Groups of items of which a session has at most one: by the policy, and by the items themselves."""
        pairs = ({item, enemy} for item, own in self.questions.items() for enemy in own.get("enemies") or ())
        return [*map(set, self.policy.enemies), *pairs]

    @cached_property
    def plan(self) -> SelectionPlan:
        """The plan by which items are chosen.

        Raises PermanentFailure if nothing is published, or if the limits cannot be met.
        """
        if not self.published.items:
            raise PermanentFailure(f"nothing is published on scale {self.scale.scale_id} for test {self.policy.test}")
        questions = {item: self.questions[item] for item in self.items.item_ids}
        posterior = self.posterior if self.policy.method == "expected-information" else None
        try:
            test = self.policy.declaration(questions, self.scale.pass_theta)
            return SelectionPlan(test, self.items, self.scale.mu, self.scale.sigma, posterior=posterior)
        except ValueError as error:  # a PsychometricsError, or no pass mark
            raise PermanentFailure(f"test {self.policy.test}: {error}") from None

    @property
    def content(self) -> dict[str, Any]:
        """Everything that the plan is made of, as JSON values, from which `from_content` makes the same plan.

        Raises PermanentFailure if nothing is published.
        """
        published, errors = self.published, self._errors.among(self.items.item_ids)
        further = errors.items.further_cov
        items = [
            {
                "item_id": item,
                "publication_id": published.publication_ids.get(item),
                "parameters": json.loads(item_as_json(published.items[item])),
                "question": {name: self.questions[item].get(name) for name in _OF_QUESTIONS},
                "fit": int(errors.origin[j]),
                "cov": _as_json(errors.items.cov[j]),
                "further_cov": None if further is None else _as_json(further[j]),
            }
            for j, item in enumerate(errors.items.item_ids)
        ]
        return {
            "policy": self.policy.model_dump(mode="json"),
            "scale": {name: getattr(self.scale, name) for name in _OF_SCALES},
            "set_hash": published.set_hash,
            "items": items,
            "common": [*map(_as_json, errors.common)],
            "shared": _as_json(errors.shared),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], content_hash: str) -> "TestBank":
        """Make the bank of a test from `content`, which is stored under its hash."""
        stored = content["items"]
        rows = {own["item_id"]: item_from_json(own["parameters"]) for own in stored}
        further = [own["further_cov"] for own in stored if own["further_cov"] is not None]
        items = replace(
            ItemParameters.from_rows([*rows], rows.values()),
            cov=np.array([own["cov"] for own in stored], dtype=float).reshape(-1, 2, 2),
            further_cov=np.array(further, dtype=float) if further else None,
        )
        errors = ParameterErrors(
            items,
            np.array([own["fit"] for own in stored], dtype=np.int64),
            [np.array(own, dtype=float) for own in content["common"]],
            np.array(content["shared"], dtype=float),
        )
        numbers = {own["item_id"]: own["publication_id"] for own in stored}
        return cls(
            scale=Scale(**content["scale"], initialised=True),
            published=PublishedSet(rows, content["set_hash"], errors=errors, publication_ids=numbers),
            questions={own["item_id"]: own["question"] for own in stored},
            unscored=(),
            policy=Policy.model_validate(content["policy"]),
            content_hash=content_hash,
        )


def hash_content(content: Mapping[str, Any]) -> str:
    """Compute the hash of a bank's `content`, under which the bank is stored."""
    others = {name: part for name, part in content.items() if name != "items"}
    parts = (*content["items"], others)  # a long text would keep the θ API's other threads waiting
    return hashlib.sha256("\n".join(json.dumps(part, sort_keys=True) for part in parts).encode()).hexdigest()


def _as_json(values: Floats) -> Any:
    """Nested lists of the values; unknown values are None, and −0, which jsonb does not have, is 0."""
    return np.where(np.isfinite(values), (values + 0.0).astype(object), np.array(None)).tolist()


def read_test_bank(connection: psycopg.Connection, policy: Policy, at: datetime) -> TestBank:
    """Read the bank of a test at `at`. Raises PermanentFailure if its scale has no origin."""
    return TestBank(**vars(read_item_bank(connection, policy.scale, at)), policy=policy)


def read_item_bank(connection: psycopg.Connection, scale_id: str, at: datetime) -> ItemBank:
    """Read the bank of a scale at `at`. Raises PermanentFailure if the scale has no origin.

    Items that are withdrawn at `at`, or dropped from scoring, are left out.
    """
    scale = initialised_scale(connection, scale_id, at)
    published = set_with_errors(connection, scale_id, at)
    rows = named_rows(
        connection,
        """SELECT item_id, topic_id AS topic, meta->>'format' AS format, testlet_id AS testlet,
                  coalesce(meta, '{}') AS meta FROM question
           WHERE scale_id = %s AND meta->'key' IS DISTINCT FROM '[]'::jsonb ORDER BY item_id""",
        (scale_id,),
    )
    enemies = read_enemies(connection)
    questions = {row.pop("item_id"): row for row in rows}
    used = {
        item: own | {"enemies": enemies.get(item, [])}
        for item, own in questions.items()
        if not published.withdrawn.covers(item, at)
    }
    known = items_ever_published(connection, scale_id)
    stages = item_stages(connection, scale_id, used.keys() - known)
    unscored = tuple(each.item_id for each in stages if each.stage in UNPUBLISHED)
    return ItemBank(scale=scale, published=published, questions=used, unscored=unscored)
