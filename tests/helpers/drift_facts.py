"""Made-up facts of a drift report: items that drifted, leaked or did neither."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from irt_assets.blocks.html import page
from irt_assets.drift.rows import DriftRow
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, Spread
from irt_assets.ledger.linked_windows import LinkedFitRecord
from irt_assets.reports.drift_actions import Evidence, propose
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_report import document
from irt_assets.scales.scale import Scale
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow
from tests.helpers.fit_specs import CONSTANTS

NOW = datetime(2026, 11, 1, 3, tzinfo=UTC)
BAD = "<script>alert('x')</script>"
LEAK = {
    "kind": "leak",
    "size": 0.3,
    "gains": {"drift": 60.0, "leak": 80.0, "wrong key": -700.0},
    "time_z": -5.2,
    "onset": "2026-10-09",
    "distractor_above_the_key": False,
}

WHOLE: dict[str, Any] = {
    "why_not": "",
    "groups": [
        {
            "name": name,
            "n_learners": 900,
            "n_responses": 9000,
            "why_not": "",
            "low_power": False,
            "mean": 0.0,
            "sd": 1.0,
        }
        for name in ("ko", "en")
    ],
    "smaller_groups": {"groups": 3, "learners": 7},
    "n_unknown": 12,
    "n_unreadable": 5,
    "anchors": ["a"],
    "warnings": [],
    "sittings": None,
    "items": {"tested": 3, "low_power": 0, "not_tested": 0},
}
"""Details of a DIF row about a whole attribute."""
TEST: dict[str, Any] = {
    "flagged_items": ["B1"],
    "items": {"compared": 2, "in_force": 3},
    "middle": [-2.0, 2.0],
    "population": {"mean": 0.0, "sd": 1.0},
    "worst": {"theta": -1.5, "ratio": 0.75, "low": 0.7, "high": 0.8},
    "retiring": {"items": ["B1"], "efficiency": 0.9, "lowest": 0.8, "lowest_at": -1.0},
}
"""Details of an information row about the whole test."""


def drift_row(item: str, month: str, delta_b: float, severity: str, **details_: Any) -> DriftRow:
    known = {
        "delta_a_se": 0.1,
        "delta_b_se": 0.1,
        "delta_b_95": [delta_b - 0.2, delta_b + 0.2],
        "tau": 0.04,
        "most_tau": 0.1,
        "limits": {"a": "none", "b": "high" if abs(delta_b) > 0.5 else "none", "c": "none"},
        "chance_b_large": 0.9,
        "chance_a_large": 0.1,
    }
    return DriftRow(item, month, severity, 0.01, delta_b, 1e-5, abs(delta_b) / 5, known | details_, NOW)


def made_up_item(name: str, *history: DriftRow, **evidence: Any) -> Item:
    drift = history[-1] if history else None
    known = Evidence(
        **({"severity": drift.severity, "kind": drift.kind, "months_flagged": 1} if drift else {}) | evidence
    )
    return Item(
        item_id=name,
        topic="algebra",
        is_anchor=known.is_anchor,
        published=ItemRow(1.0, 0.0, 0.0, 0.1, 0.1, 0.0) if drift else None,
        since=datetime(2026, 8, 1, tzinfo=UTC) if drift else None,
        values=ItemRow(1.1, drift.delta_b if drift and drift.delta_b is not None else 0.0, 0.0, 0.1, 0.1, 0.0),
        n=1000,
        statistics={"p_value": 0.6, "point_biserial": 0.4, "infit": 1.0, "outfit": 1.0, "rmsd": 0.02},
        flags=known.flags,
        history=history,
        drift=drift,
        evidence=known,
        proposal=propose(known),
        observed=Observed(np.array([-1.0, 1.0]), np.array([0.3, 0.8]), np.array([500, 500])),
    )


_CONSTANTS = CONSTANTS | {
    "slope": 1.05,
    "slope_se": 0.03,
    "intercept": 0.1,
    "intercept_se": 0.03,
    "anchors_used": ["K1", "K3", "K4", "K5", "K6"],
    "anchors_dropped": {"K2": "Its b differs by +0.60 (SE 0.10) from the anchor set's."},
}
FIT = LinkedFitRecord(
    "2026-10",
    "fit-1",
    "em",
    "0.1.0",
    "2pl",
    1790,
    3,
    118725,
    True,
    16,
    -65372.2,
    LinkedSpec(latent=Spread(mean=0.17, sd=1.06), linking_constants=LinkingConstants.from_json(_CONSTANTS, "fit-1")),
    "data-hash",
    "snapshot-hash",
    "anchor-hash",
    "0.1.0+gabc",
    "run-1",
    NOW,
)


def made_up_facts(*items: Item, **changes: Any) -> Facts:
    known = Facts(
        month="2026-10",
        scale=Scale("default", initialised=True),
        state=MonthState("2026-10", "default", State.GREEN, "0 items first published, 2 proposed, 0 held back"),
        not_compared="",
        items={item.item_id: item for item in items},
        fit=FIT,
        linkings=(FIT,),
        dif_attributes=(),
        dif=(),
        information={},
        alerts=(),
        decisions=(),
        step=None,
        proposed={},
        snapshot=None,
        in_force=3,
    )
    return replace(known, **changes)


SOUND = made_up_item("B2", drift_row("B2", "2026-10", 0.02, "none"))
LEAKED = made_up_item(
    "B1",
    drift_row("B1", "2026-09", -0.1, "none"),
    drift_row("B1", "2026-10", -0.9, "high", change=LEAK),
    onset="2026-10-09",
)
ANCHOR = made_up_item("K2", drift_row("K2", "2026-10", 0.6, "high", change=LEAK | {"kind": "drift"}), is_anchor=True)


def html(facts: Facts, at: datetime) -> str:
    return page(document(facts, at))
