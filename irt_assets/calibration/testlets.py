"""Testlets of a scale: the bank's, what a fit says of their effects, and which SD of effects is in force at a time.

What is in force was taken to the ledger by a month, together with the testlets of the items as that month found them:
a testlet that the bank changes later counts from the next month on, and no reported θ changes. What does not belong
here: how the SD is estimated (see `psychometrics.estimation.testlets`), and when a month may publish (`publication`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.estimation.testlets import estimate_effect_sd, number_testlets
from irt_assets.psychometrics.linking.linking import Linking
from irt_assets.psychometrics.scoring.abilities import Effects


@dataclass(frozen=True)
class InTestlets:
    """The SD of testlet effects on the bank's scale, and the testlet of each item that stands in one."""

    sd: float
    of: Mapping[str, str]

    def effects(self, item_ids: Sequence[str]) -> Effects | None:
        """What answers to these items have in common; None where that is nothing."""
        places = number_testlets(item_ids, self.of)
        return Effects(places, self.sd) if self.sd > 0 and (places >= 0).any() else None


def bank_testlets(connection: psycopg.Connection, scale_id: str) -> dict[str, str]:
    """Item → testlet, of the scale's items that stand in one."""
    rows = connection.execute(
        """SELECT item_id, testlet_id FROM question
           WHERE scale_id = %s AND btrim(testlet_id) <> '' ORDER BY item_id""",
        (scale_id,),
    ).fetchall()
    return dict(rows)


def effects_spec(
    responses: Responses, calibration: Calibration, testlets: Mapping[str, str], groups: Sequence[str] | None
) -> dict[str, Any]:
    """What a fit's spec keeps under `testlets`: the SD of effects in the fit's units, or why there is none, and the
    testlets `of` the bank's items. Empty where the bank has no testlets, or the fit did not converge."""
    if not testlets or not calibration.convergence.converged:
        return {}
    found = estimate_effect_sd(responses, calibration, testlets, groups=groups)
    return {"testlets": found.as_dict() | {"of": dict(testlets)}}


def on_the_scale(found: dict[str, Any], linking: Linking | None) -> dict[str, Any]:
    """What `effects_spec` found in units of the bank's scale, the fit's own under `raw_sd`. `linking` is None for an
    origin."""
    if found["sd"] is None or linking is None:
        return found
    error = math.hypot(linking.slope * found["se"], found["sd"] * linking.slope_se)
    return found | {"raw_sd": found["sd"], "sd": linking.slope * found["sd"], "se": error}


def sentence(found: Mapping[str, Any]) -> str:
    """What `effects_spec` found, for people."""
    if found["sd"] is None:
        return f"standard errors of θ are not corrected for testlets by this month: {found['why']}"
    return (
        f"answers in a testlet share an effect of the learner with SD {found['sd']:.3f} ± {found['se']:.3f} "
        f"({found['n_testlets']} testlets with {found['n_items']} items, {found['learners']:,} learners)"
    )


def publish(
    connection: psycopg.Connection,
    scale_id: str,
    found: Mapping[str, Any] | None,
    effective_from: datetime,
    month: str,
    fit_id: str,
) -> None:
    """Make the SD that a month's linked fit found the one in force from then on; nothing where it found none."""
    if found is None or found["sd"] is None:
        return
    connection.execute(
        """INSERT INTO testlet_sd_publication
             (scale_id, sd, se, n_testlets, testlets, effective_from, month, fit_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (scale_id, found["sd"], found["se"], found["n_testlets"], json.dumps(found["of"]))
        + (effective_from, month, fit_id),
    )


def effects_in_force(
    connection: psycopg.Connection, scale_id: str, at: datetime, items: Collection[str]
) -> InTestlets | None:
    """The last publication with effective_from ≤ at, with the testlets of these items; None where there is none."""
    row = connection.execute(
        """SELECT sd, testlets FROM testlet_sd_publication WHERE scale_id = %s AND effective_from <= %s
           ORDER BY effective_from DESC, publication_id DESC LIMIT 1""",
        (scale_id, at),
    ).fetchone()
    if row is None:
        return None
    return InTestlets(row[0], {item: row[1][item] for item in sorted(items) if item in row[1]})
