"""First month of a change that lasts for months, and the proposed action for an item."""

from __future__ import annotations

import re
from typing import Any

import pytest

from irt_assets.drift.alerts import first_seen
from irt_assets.reports.drift_actions import Action, Evidence, propose

Row = tuple[str, str, dict[str, Any]]


def leak(month: str, onset: str | None) -> Row:
    return month, "high", {"change": {"kind": "leak", "onset": onset}}


SOUND: Row = ("2026-07", "none", {})
FEW: Row = ("2026-09", "none", {"proportion_correct": {}})


@pytest.mark.parametrize(
    ("newest_first", "began"),
    [
        ([leak("2026-10", "2026-10-09")], "2026-10-09"),
        ([leak("2026-10", "2026-10-01"), leak("2026-09", "2026-09-11"), SOUND], "2026-09-11"),
        ([leak("2026-10", "2026-10-01"), FEW, leak("2026-08", "2026-08-20")], "2026-08-20"),
        ([leak("2026-10", "2026-10-01"), leak("2026-09", None)], "2026-09-01"),
        ([leak("2026-10", "2026-10-01"), SOUND, leak("2026-06", "2026-06-03")], "2026-10-01"),
        ([SOUND], None),
    ],
    ids=["new", "lasting", "not estimated between", "without a day", "an earlier change had ended", "no change"],
)
def test_change_began_at_its_onset_in_the_first_of_its_consecutive_months(
    newest_first: list[Row], began: str | None
) -> None:
    assert first_seen(newest_first) == began


# -- actions -----------------------------------------------------------------------------------------
# Proposed actions for an item: a case for each rule and for the rules' order.

RULES = {
    "a wrong key precedes all other evidence, also of a moved anchor": (
        Evidence("high", kind="wrong key", is_anchor=True, moved_against="b +0.80"),
        Action.CHECK_KEY,
        "wrong key",
    ),
    "a negative slope is a wrong key that was never published": (
        Evidence(flags=("negative_discrimination",)),
        Action.CHECK_KEY,
        "stronger learners get it wrong more often",
    ),
    "a scored item has no key": (
        Evidence(flags=("negative_discrimination",), has_key=False, held=("stronger learners get fewer points",)),
        Action.NOT_PUBLISHED,
        "fewer points",
    ),
    "an item with only right answers": (Evidence(flags=("all_correct",)), Action.CHECK_KEY, "accepts any answer"),
    "a leak": (Evidence("medium", kind="leak", onset="2026-09-12"), Action.RETIRE, "since 2026-09-12$"),
    "a leak from the window's first day on may be older": (
        Evidence("high", kind="leak", onset="2026-09-01"),
        Action.RETIRE,
        "since 2026-09-01 or earlier",
    ),
    "a leaked anchor is retired and not only dropped": (
        Evidence("high", kind="leak", is_anchor=True),
        Action.RETIRE,
        "it is an anchor",
    ),
    "an anchor that drifted": (Evidence("medium", kind="drift", is_anchor=True), Action.DROP_ANCHOR, "medium severity"),
    "an anchor that moved relative to the other anchors": (
        Evidence(is_anchor=True, moved_against="b +0.81"),
        Action.DROP_ANCHOR,
        "b \\+0.81",
    ),
    "an anchor left out twice": (Evidence(is_anchor=True, months_dropped=2), Action.DROP_ANCHOR, "2 months in a row"),
    "an anchor left out once": (Evidence(is_anchor=True, months_dropped=1), Action.WATCH, "look again"),
    "large drift": (Evidence("high", kind="drift", months_flagged=1), Action.RE_ESTIMATE, "high severity"),
    "large change of unknown kind": (Evidence("high", kind="unclear"), Action.RE_ESTIMATE, "high severity"),
    "drift for a second month": (
        Evidence("medium", kind="drift", months_flagged=2),
        Action.RE_ESTIMATE,
        "2 months in a row",
    ),
    "drift for the first month": (Evidence("medium", kind="drift", months_flagged=1), Action.WATCH, "look again"),
    "drift for the first month that continues in small steps": (
        Evidence("medium", kind="drift", months_flagged=1, trend=(-0.1, 0.01)),
        Action.RE_ESTIMATE,
        "-0.10 a month",
    ),
    "easier, without times to detect a leak": (
        Evidence("high", kind="easier: drift or leak"),
        Action.RE_ESTIMATE,
        "leak cannot be ruled out",
    ),
    "only a trend": (Evidence(trend=(0.1, 0.01)), Action.WATCH, "not flagged, but"),
    "information lost": (Evidence(information_lost=True), Action.RE_ESTIMATE, "less precisely"),
    "large DIF": (Evidence(groups_with_large_dif=("lang: ko",)), Action.WATCH, "lang: ko"),
    "large DIF of an anchor": (
        Evidence(is_anchor=True, groups_with_large_dif=("lang: ko",)),
        Action.DROP_ANCHOR,
        "lang: ko",
    ),
    "a leak of an item out of use": (
        Evidence("high", kind="leak", withdrawn="withdrawn from 2026-12-01 on by Ann: posted"),
        Action.WITHDRAWN,
        "^withdrawn from 2026-12-01 on by Ann: posted; it leaked",
    ),
    "held back by a gate": (Evidence(held=("SE(b) = 1.20 is above 1",)), Action.NOT_PUBLISHED, "SE\\(b\\)"),
    "held back and flat": (Evidence(held=("SE(b) = 1.20 is above 1",), flat="a = 0.1 ± 0.1"), Action.CHECK_KEY, "0.1"),
}


@pytest.mark.parametrize("case", RULES)
def test_rule_proposes_its_action_with_the_reason(case: str) -> None:
    evidence, action, reason = RULES[case]
    proposal = propose(evidence)
    assert proposal.action is action
    assert re.search(reason, proposal.reason), proposal.reason


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(),
        Evidence(is_anchor=True),
        Evidence(trend=(0.2, 0.5)),
        Evidence(kind="leak"),
        Evidence(flags=("no_data",)),
        Evidence(withdrawn="withdrawn from 2026-12-01 on by Ann: posted"),
    ],
)
def test_item_without_evidence_has_no_proposal(evidence: Evidence) -> None:
    """A kind of change is used only if the item is flagged."""
    assert propose(evidence) is None


def test_every_action_is_proposed_by_a_rule() -> None:
    assert {propose(evidence).action for evidence, _, _ in RULES.values()} == set(Action)  # type: ignore[union-attr]
