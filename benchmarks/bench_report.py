"""Seconds of a bank's drift report, and the size of its files.

    python -m benchmarks.bench_report [ITEMS]      (default 300)

A tenth of the items are flagged, each with a year of history and observed proportions; every item has DIF in two
attributes and information curves. The report's data are made up; reading them from the database would take a second.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from irt_assets.blocks import html, pdf
from irt_assets.drift.rows import AlertRow, DifRow, DriftRow, InformationRow
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, Spread
from irt_assets.ledger.linked_windows import LinkedFitRecord
from irt_assets.reports import drift_report
from irt_assets.reports.drift_actions import Evidence, propose
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.scales.scale import Scale
from irt_psychometrics.core.curves import information, probability
from irt_psychometrics.core.items import ItemRow
from irt_psychometrics.itemfit.observed import group_answers

MONTHS = [f"2026-{k:02d}" for k in range(1, 13)]
NOW = datetime(2027, 1, 1, 3, tzinfo=UTC)
KINDS = ("drift", "leak", "wrong key", "unclear")
WHOLE: dict[str, Any] = {
    "why_not": "",
    "groups": [],
    "smaller_groups": {"groups": 0, "learners": 0},
    "n_unknown": 0,
    "n_unreadable": 0,
    "warnings": [],
    "items": {"tested": 0, "low_power": 0, "not_tested": 0},
}
TEST: dict[str, Any] = {
    "flagged_items": [],
    "items": {"compared": 0, "in_force": 0},
    "middle": [-2.0, 2.0],
    "population": {"mean": 0.0, "sd": 1.0},
    "worst": {"theta": -1.0, "ratio": 0.93, "low": 0.9, "high": 0.96},
    "retiring": {"items": []},
}


def facts(n_items: int) -> Facts:
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
    anchors = rng.random(n_items) < 0.25
    items = {f"Q{j:05d}": _item(rng, f"Q{j:05d}", a[j], b[j], bool(anchors[j]), j % 10 == 0) for j in range(n_items)}
    theta = np.linspace(-4, 4, 81)
    test = information(theta, a, -a * b, np.zeros(n_items)).sum(axis=1)
    curve = {
        "theta": theta.tolist(),
        "published": test.tolist(),
        "now": (0.95 * test).tolist(),
        "se_published": (1 / np.sqrt(test)).tolist(),
        "se_now": (1 / np.sqrt(0.95 * test)).tolist(),
    }
    linkings = tuple(_link(rng, month, [name for name, item in items.items() if item.is_anchor]) for month in MONTHS)
    return Facts(
        month=MONTHS[-1],
        scale=Scale("default", initialised=True),
        state=MonthState(
            MONTHS[-1], "default", State.GREEN, f"0 items first published, {n_items} proposed, 0 held back"
        ),
        not_compared="",
        items=items,
        fit=linkings[-1],
        linkings=linkings,
        dif_attributes=tuple(
            DifRow("", attribute, "reference", "", None, None, WHOLE) for attribute in ("lang", "country")
        ),
        dif=tuple(
            DifRow(name, attribute, "reference", "focal", float(p), "A", {})
            for attribute in ("lang", "country")
            for name, p in zip(items, rng.random(n_items), strict=True)
        ),
        information={"": InformationRow("", curve, False, TEST)}
        | {name: InformationRow(name, {}, j % 30 == 0, _information_loss(rng)) for j, name in enumerate(items)},
        alerts=tuple(
            AlertRow(item.item_id, "drift", "high", MONTHS[-1], None) for item in items.values() if item.proposal
        ),
        decisions=(),
        step=None,
        proposed={"it is published already: a person decides on a change": n_items},
        snapshot=None,
        in_force=n_items,
    )


def _information_loss(rng: np.random.Generator) -> dict[str, float]:
    ratio = float(rng.uniform(0.6, 1.1))
    return {"published": 0.2, "now": 0.2 * ratio, "ratio": ratio, "upper": ratio + 0.1, "q": 0.01}


def _item(rng: np.random.Generator, name: str, a: float, b: float, is_anchor: bool, flagged: bool) -> Item:
    kind = KINDS[int(rng.integers(4))]
    history = tuple(
        DriftRow(
            name,
            month,
            "high" if flagged and month > "2026-09" else "none",
            *rng.normal(0, 0.1, 2),
            0.5,
            0.15 if flagged else 0.02,
            _details(rng, kind if flagged and month == MONTHS[-1] else None),
            NOW,
        )
        for month in MONTHS
    )
    evidence = Evidence("high" if flagged else "none", kind if flagged else None, "2026-12-09", is_anchor=is_anchor)
    theta = rng.normal(size=1000)
    seen = group_answers(theta, rng.random(1000) < probability(theta, a, -a * b, 0.0)) if flagged else None
    statistics = {"p_value": 0.6, "point_biserial": 0.4, "infit": 1.0, "outfit": 1.01, "rmsd": 0.02}
    curve, last = ItemRow(a, b, 0.0, 0.1, 0.1, 0.001), history[-1]
    proposal = propose(evidence)
    return Item(
        item_id=name, topic="algebra", is_anchor=is_anchor, published=curve, since=NOW, values=curve, n=1000,
        statistics=statistics, flags=(), history=history, drift=last, evidence=evidence, proposal=proposal,
        observed=seen,
    )  # fmt: skip


def _details(rng: np.random.Generator, kind: str | None) -> dict[str, Any]:
    middle = float(rng.normal(0, 0.1))
    details: dict[str, Any] = {
        "delta_a_se": 0.1,
        "delta_b_se": 0.1,
        "delta_b_95": [middle - 0.2, middle + 0.2],
        "tau": 0.04,
        "most_tau": 0.1,
        "limits": {"a": "none", "b": "high", "c": "none"},
        "chance_b_large": 0.9,
        "chance_a_large": 0.1,
        "trend": {"b_a_month": 0.01, "se": 0.02, "q": 0.4, "months": 12},
    }
    if kind is not None:
        gains = {"drift": 60.0, "leak": 80.0, "wrong key": -700.0}
        details["change"] = {"kind": kind, "size": 0.3, "gains": gains, "time_z": -5.2, "onset": "2026-12-09"}
        details["change"]["distractor_above_the_key"] = False
    return details


def _link(rng: np.random.Generator, month: str, anchors: list[str]) -> LinkedFitRecord:
    slope, intercept = rng.normal(1, 0.03), rng.normal(0, 0.05)
    constants = {"slope": slope, "slope_se": 0.03, "intercept": intercept, "intercept_se": 0.03, "method": "haebara"}
    constants |= {"anchors_used": anchors, "anchors_dropped": {}, "anchor_set": "1", "rmse": 0.01, "warnings": []}
    constants |= {"q": 60.0, "q_df": 58, "q_p": 0.4, "share_kept": 1.0}
    spec = LinkedSpec(latent=Spread(mean=0.1, sd=1.0), linking_constants=LinkingConstants(**constants))
    return LinkedFitRecord(
        month, f"fit-{month}", "em", "0.1.0", "2pl", 5000, 300, 300_000, True, 20, -1e5, spec,
        "hash", "hash", "hash", "0.1.0", "run", NOW,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", type=int, nargs="?", default=300)
    n_items = parser.parse_args().items
    all_facts = facts(n_items)
    for attempt in ("first", "second"):
        began, cpu = time.perf_counter(), time.process_time()
        document = drift_report.document(all_facts, NOW)
        page = html.page(document)
        written = time.perf_counter()
        paper = pdf.typeset(document)
        print(
            f"{attempt}: {n_items} items, {len(drift_report.items_to_review(all_facts))} flagged: "
            f"HTML {written - began:.1f} s "
            f"{len(page.encode()) / 1e6:.2f} MB, PDF {time.perf_counter() - written:.1f} s {len(paper) / 1e6:.2f} MB, "
            f"{time.process_time() - cpu:.1f} s of one core"
        )


if __name__ == "__main__":
    main()
