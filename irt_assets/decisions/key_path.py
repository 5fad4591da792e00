"""Steps from a corrected key to a published value, and the progress of an item through them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import psycopg

from irt_assets.blocks import Span, Text
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names
from irt_assets.decisions.accepting import IN_WORDS, TO_RECOMPUTE, subjects_to_accept
from irt_assets.decisions.lineage import why_unpublished
from irt_assets.decisions.proposals import Proposal, waiting_proposals
from irt_assets.decisions.rekey import closed_months_changed, months_rescored
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.gates.month_status import ledger_states
from irt_assets.ledger.decisions import key_decisions
from irt_assets.ledger.publications import publications_with_their_fits
from irt_assets.scales.item_keys import key_in_words
from irt_assets.scales.scale_decisions import Acceptable
from irt_psychometrics.items import ItemRow

UNDER_WAY = (State.RUNNING, State.PENDING)


class KeyStep(NamedTuple):
    """A step of the way. `state`: whether the step is done, comes next, is under way, or comes later."""

    title: str
    state: Literal["done", "next", "under way", "later"]
    why: Text


@dataclass(frozen=True)
class KeyPath:
    """Progress of an item since the last decision on its key, which may undo an earlier one.

    Attributes:
        scale_id: scale of the item.
        decision: the decision, as in `key_decisions`.
        months: states of the open months in which scores of the item's answers have changed, oldest first. Months of
            the origin window that need no fit are listed only if there is no other month.
        to_accept: subjects that hold these months, or will hold them, each with the first of the months.
        value: the newest publication since the decision, otherwise the newest one before it.
        is_new: whether the value was published since the decision.
        proposal: the proposal that waits for a decision.
        unpublished: why nothing is published; "" if there is a value.
    """

    scale_id: str
    decision: Mapping[str, Any]
    months: Sequence[MonthState]
    to_accept: Mapping[Acceptable, str]
    value: Mapping[str, Any] | None
    is_new: bool
    proposal: Proposal | None
    unpublished: str

    def in_state(self, states: Collection[State]) -> list[str]:
        """List the months in one of `states`."""
        return [month.month for month in self.months if month.state in states]

    @property
    def steps(self) -> list[KeyStep]:
        """List the steps in order, from the decision on the key to the published value."""
        decided = "{decided_by} on {decided_at:%Y-%m-%d}: {reason}".format_map(self.decision)
        change = f"{key_in_words(self.decision['former'])} → {key_in_words(self.decision['key'])}, by {decided}."
        return [KeyStep("Correct the key", "done", change), self._recompute, self._accept, self._publish]

    @property
    def _recompute(self) -> KeyStep:
        title = "Recompute its months"
        if waiting := self.in_state(TO_RECOMPUTE):
            changed = f"{join_names(waiting)}: scores of answers have changed. "
            if self.to_accept:
                return KeyStep(title, "later", f"{changed}Decide first, and each month is computed only once.")
            by_hand = Span(f"irt backfill --from {waiting[0]} --to {waiting[-1]}", "code")
            how = "the button below" if self.in_state([State.STALE]) else by_hand
            return KeyStep(title, "next", (f"{changed}Use ", how, "."))
        if running := self.in_state(UNDER_WAY):
            return KeyStep(title, "under way", f"{join_names(running)}: reload this page when the runs have ended.")
        return KeyStep(
            title,
            "done",
            f"Recomputed: {join_names(self.in_state([*State]))}." if self.months else "No open month has changed.",
        )

    @property
    def _accept(self) -> KeyStep:
        title = "Decide what holds a month"
        if self.to_accept:
            whys = (
                f"{month} {'is' if month in self.in_state([State.RED]) else 'will be'} held because {IN_WORDS[subject]}"
                for subject, month in self.to_accept.items()
            )
            return KeyStep(title, "next", f"{join_names(whys)}. Accept it, or change the scale's model.")
        if red := [month for month in self.months if month.state is State.RED]:
            link = page_link(red[0].month, "month", month=red[0].month, scale=self.scale_id)
            return KeyStep(title, "next", (link, f" is held: {red[0].why}."))
        if self.in_state((*TO_RECOMPUTE, *UNDER_WAY)):
            return KeyStep(title, "later", "Known once the months are recomputed.")
        return KeyStep(title, "done", "No month is held.")

    @property
    def _publish(self) -> KeyStep:
        title, key = "Publish its value", self.decision["key"]
        if key is True or key == []:
            return KeyStep(title, "done", "Not needed: answers to the item no longer distinguish learners.")
        if self.value and self.is_new:
            values = ItemRow.from_row(self.value).in_brief
            known = join_names(f"{name} = {value:.2f}" for name, (value, _) in values.items())
            return KeyStep(title, "done", f"{known}, in force from {self.value['effective_from']:%Y-%m-%d} on.")
        if self._recompute.state != "done" or self._accept.state != "done":
            what = "proposes a new value" if self.value else "publishes a first value"
            return KeyStep(title, "later", f"A green month {what}.")
        if self.proposal:
            link = page_link("decide on it", "proposal", proposal=str(self.proposal.reference))
            return KeyStep(title, "next", (f"The proposal of {self.proposal.window} waits: ", link, "."))
        if self.value:
            return KeyStep(title, "done", "The published value stays: no proposal waits.")
        return KeyStep(title, "next", f"Nothing is published yet: {self.unpublished}.")


def read_key_path(connection: psycopg.Connection, item_id: str, running: Collection[str] = ()) -> KeyPath | None:
    """Read how far the last decision on an item's key has come. Returns None if nobody has decided on the key.

    `running`: months with a run that is queued or under way.
    """
    decisions = key_decisions(connection, item_id)
    if not decisions:
        return None
    decision, scale_id = decisions[-1], decisions[-1]["scale_id"]
    months = sorted({*months_rescored(connection, item_id)} - {*closed_months_changed(connection, item_id)})
    states = [state for state in ledger_states(connection, months, running) if state.scale_id == scale_id]
    states = [state for state in states if state.state is not State.ORIGIN] or states
    published = publications_with_their_fits(connection, item_id)
    since = [row for row in published if row["published_at"] > decision["decided_at"]]
    return KeyPath(
        scale_id=scale_id,
        decision=decision,
        months=states,
        to_accept=subjects_to_accept(connection, scale_id, states),
        value=next(iter(since or published), None),
        is_new=bool(since),
        proposal=next(iter(waiting_proposals(connection, scale_id, [item_id])), None),
        unpublished="" if published else why_unpublished(connection, scale_id, item_id),
    )
