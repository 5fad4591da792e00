"""Actions that a report proposes for an item: one rule, read from top to bottom, with its reason in a sentence.

A proposal changes nothing until a person decides.
"""

from dataclasses import dataclass
from enum import StrEnum

from irt_psychometrics.drift import ChangeKind
from irt_psychometrics.estimation import Flag

TREND_Q = 0.05
DROPPED_OFTEN = 2
"""Months in a row in which linking dropped an anchor before the report proposes to drop it for good."""


class Action(StrEnum):
    """Actions that can be proposed, the most urgent first."""

    RETIRE = "retire"
    CHECK_KEY = "check the key"
    DROP_ANCHOR = "drop from anchors"
    RE_ESTIMATE = "re-estimate"
    NOT_PUBLISHED = "not published"
    WATCH = "watch"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Evidence:
    """Inputs of the rule for one item.

    Attributes:
        severity: severity of the month's drift; "none" if the item was not compared.
        kind: kind of change, or None if it was not determined.
        onset: ISO date of a leak's first day.
        months_flagged: months in a row, up to this one, in which its drift was flagged; 0 if it is not flagged now.
        trend: change of b per month and its q value, or None if unknown.
        categories: the single categories of a scored item that moved, in words; may be "".
        is_anchor: whether the item is in the anchor set.
        moved_against: its move against the other anchors if the month's anchors disagree, e.g. "b +0.81".
        months_dropped: months in a row, up to this one, in which linking dropped it.
        flags: flags of the engine.
        groups_with_large_dif: "attribute: group" of each comparison in which its DIF is large.
        information_lost: whether the month's test information flagged it.
        held: reasons why publication, or the origin, left it out.
        flat: its slope with its standard error if 0 is within two standard errors; else "".
        withdrawn: since when, by whom and why it is withdrawn; "" if it is in use.
        has_key: whether answers are right or wrong. A scored item has no key to check.
    """

    severity: str = "none"
    kind: str | None = None
    onset: str | None = None
    months_flagged: int = 0
    trend: tuple[float, float] | None = None
    categories: str = ""
    is_anchor: bool = False
    moved_against: str = ""
    months_dropped: int = 0
    flags: tuple[str, ...] = ()
    groups_with_large_dif: tuple[str, ...] = ()
    information_lost: bool = False
    held: tuple[str, ...] = ()
    flat: str = ""
    withdrawn: str = ""
    has_key: bool = True


@dataclass(frozen=True)
class Proposal:
    action: Action
    reason: str


def propose(e: Evidence) -> Proposal | None:
    """Propose an action for the item. Returns None if it needs no review.

    For a withdrawn item with evidence the action is WITHDRAWN: nothing needs to be done.
    """
    found = _propose_in_use(e)
    return Proposal(Action.WITHDRAWN, f"{e.withdrawn}; {found.reason}") if found and e.withdrawn else found


def _propose_in_use(e: Evidence) -> Proposal | None:
    """Propose an action for the item as if it were in use. The first case that applies decides:

    1. a wrong key (by its answers, or by negative discrimination), all answers scored alike, or a slope that hardly
       differs from 0 in an item that an item gate held: check the key;
    2. a leak: retire;
    3. an anchor that is flagged, moved against the other anchors, or was dropped by linking two months in a row: drop
       from anchors;
    4. drift of high severity, drift flagged two months in a row, or flagged drift with a significant trend:
       re-estimate;
    5. other flagged drift: keep, and look again next month;
    6. a significant loss of information: re-estimate;
    7. large DIF: drop an anchor from the anchors; keep another item until people who know both groups have read it;
    8. a significant trend, single categories that moved, or an anchor dropped by linking: keep, with that as the
       reason;
    9. an item gate held it: not published, with the gate's reason.
    """
    flagged = e.severity != "none"
    if e.kind == ChangeKind.WRONG_KEY:
        return Proposal(Action.CHECK_KEY, "it seems to have a wrong key: the option scored as correct is not")
    if e.has_key and (doubt := next((doubt for flag in e.flags if (doubt := Flag(flag).meaning.key_doubt)), "")):
        return Proposal(Action.CHECK_KEY, doubt)
    if e.has_key and e.held and e.flat:
        why = (
            f"its answers hardly rise with ability ({e.flat}), as with a wrong key; not published: {'; '.join(e.held)}"
        )
        return Proposal(Action.CHECK_KEY, why)
    if flagged and e.kind == ChangeKind.LEAK:
        since = f" since {e.onset}" + (" or earlier" if e.onset.endswith("-01") else "") if e.onset else ""
        known = "some learners know the answer, and answer fast"
        return Proposal(Action.RETIRE, f"it leaked: {known}{since}" + ("; it is an anchor" if e.is_anchor else ""))
    if flagged and e.is_anchor:
        return Proposal(Action.DROP_ANCHOR, f"it moved ({e.severity} severity), and every month is linked through it")
    if e.moved_against:
        return Proposal(Action.DROP_ANCHOR, f"it moved against the other anchors ({e.moved_against})")
    if e.is_anchor and e.months_dropped >= DROPPED_OFTEN:
        return Proposal(Action.DROP_ANCHOR, f"linking left it out {e.months_dropped} months in a row")
    trend = _trend(e)
    if flagged:
        easier = e.kind == ChangeKind.EASIER
        caution = (
            "; without response times a leak cannot be ruled out: check whether the item has been made public"
            if easier
            else ""
        )
        if e.severity == "high":
            return Proposal(Action.RE_ESTIMATE, f"its published values no longer hold (high severity){caution}")
        if e.months_flagged >= 2:
            return Proposal(Action.RE_ESTIMATE, f"it was flagged {e.months_flagged} months in a row{caution}")
        if trend:
            return Proposal(Action.RE_ESTIMATE, f"it was flagged, and {trend}{caution}")
        return Proposal(Action.WATCH, f"flagged once, with medium severity: look again next month{caution}")
    if e.information_lost:
        return Proposal(Action.RE_ESTIMATE, "it measures ability less precisely than its published values promise")
    if e.groups_with_large_dif:
        groups = ", ".join(e.groups_with_large_dif)
        if e.is_anchor:
            return Proposal(Action.DROP_ANCHOR, f"large DIF ({groups}): the scale depends on who answered")
        return Proposal(Action.WATCH, f"large DIF ({groups}): have it read by people who know both groups")
    if trend:
        return Proposal(Action.WATCH, f"not flagged, but {trend}")
    if e.categories:
        return Proposal(Action.WATCH, f"not flagged, but single categories moved ({e.categories}): check the scoring")
    if e.is_anchor and e.months_dropped:
        return Proposal(Action.WATCH, "linking left it out this month: look again next month")
    if e.held:
        return Proposal(Action.NOT_PUBLISHED, "; ".join(e.held))
    return None


def _trend(e: Evidence) -> str:
    if e.trend is None or e.trend[1] >= TREND_Q:
        return ""
    return f"its difficulty moves by {e.trend[0]:+.2f} a month"
