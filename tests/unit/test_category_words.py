"""Single categories of scored items that moved: their records, words, and place among an item's findings."""

from __future__ import annotations

import json

import numpy as np

from irt_assets.blocks.markdown import markdown
from irt_assets.drift.assets import flagged_items
from irt_assets.drift.blocks import categories_in_words, drift_summary, drift_table
from irt_assets.drift.dif_month import category_records
from irt_assets.drift.dif_page import dif_summary, items_blocks
from irt_assets.drift.rows import DifRow
from irt_assets.reports.drift_actions import Action, Evidence, propose
from irt_psychometrics.drift import CategoryChanges
from tests.helpers.drift_facts import WHOLE, drift_row

CHANGES = CategoryChanges(
    item=np.array([0, 0, 0, 2]),
    score=np.array([1, 2, 3, 1]),
    shift=np.array([0.42, -0.05, 0.9, np.inf]),
    se=np.array([0.1, 0.1, 0.12, np.inf]),
    p=np.array([2e-5, 0.6, 1e-9, 1.0]),
    q=np.array([4e-5, 0.8, 4e-9, 1.0]),
    wabc=np.array([0.0712, 0.01, 0.14, 0.0]),
)
RECORDS = category_records(CHANGES, 0)
WORDS = "score ≥ 3: +0.90 ± 0.12 (wABC 0.140), score ≥ 1: +0.42 ± 0.10 (wABC 0.071)"


def test_records_of_an_item_are_json_with_the_named_categories() -> None:
    assert [(one["score"], one["named"]) for one in json.loads(json.dumps(RECORDS))] == [
        (1, True),
        (2, False),
        (3, True),
    ]
    assert category_records(CHANGES, 1) == category_records(None, 0) == []
    assert category_records(CHANGES, 2)[0]["shift"] is None


def test_named_categories_are_listed_with_the_largest_change_first() -> None:
    row = drift_row("essay", "2026-09", 0.1, "none", categories=RECORDS)
    assert categories_in_words(row.categories) == WORDS
    assert WORDS in markdown(drift_table(("item",), [((row.item_id,), row)]))
    assert categories_in_words(drift_row("essay", "2026-09", 0.1, "none").categories) == ""


def test_summary_lists_items_with_categories_unless_they_are_flagged_as_a_whole() -> None:
    """A flagged item counts once: the table shows its categories together with its change."""
    other = drift_row("essay", "2026-09", 0.1, "none", categories=RECORDS)
    flagged = drift_row("poem", "2026-09", 0.9, "high", categories=RECORDS)
    sound = drift_row("sound", "2026-09", 0.0, "none")
    summary = drift_summary([other, flagged, sound])
    assert "1 high, 0 medium of three items compared: poem" in summary
    assert summary.endswith("; single categories moved in one other item: essay (score ≥ 3, 1)")
    listed = markdown(flagged_items({"default": [other, flagged, sound]}))
    assert ["essay" in listed, "poem" in listed, "sound" in listed] == [True, True, False]


def test_categories_that_differ_between_groups_are_reported() -> None:
    wald = {"severity": "none", "wabc": 0.02, "delta_b": 0.1, "delta_b_se": 0.1, "delta_a": 0.0, "delta_a_se": 0.1}
    details = {"large": False, "why_not": "", "low_power": True, "wald": wald, "within_forms": None}
    essay = DifRow("essay", "lang", "ko", "en", 0.4, None, details | {"categories": RECORDS})
    found = [
        DifRow("", "lang", "ko", "", None, None, WHOLE),
        essay,
        DifRow("sound", "lang", "ko", "en", 0.4, None, details),
    ]
    assert dif_summary(found).endswith("; single categories differ in one other item: essay, en (score ≥ 3, 1)")
    table = markdown(*items_blocks({"default": found}))
    assert f"{WORDS}, low power" in table
    assert "sound" not in table


def test_item_of_which_only_categories_moved_is_watched() -> None:
    proposal = propose(Evidence(categories=WORDS))
    assert proposal is not None
    assert (proposal.action, WORDS in proposal.reason) == (Action.WATCH, True)
    flagged = propose(Evidence("high", kind="drift", categories=WORDS))
    assert flagged is not None
    assert flagged.action is Action.RE_ESTIMATE
