"""Read the items of a scale as they are now: values in force, findings of the newest month, and open proposals.

One query reads the whole scale, however many months it has. `reports.item_facts` reads the history of one item.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.decisions.proposals import Proposal, waiting_proposals
from irt_assets.gates.gates import item_problems
from irt_assets.item_analysis.key_evidence import suspect_keys
from irt_assets.ledger.fitted_items import FittedItem, bank_rows
from irt_assets.scales.item_status import Status, item_status
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow

IN_USE, NOT_PUBLISHED, WITHDRAWN = "in use", "not published", "withdrawn"


@dataclass(frozen=True)
class OpenDrift:
    """An open drift alert on an item: severity, kind of change, and the month it began."""

    severity: str
    kind: str
    since: str

    @property
    def sentence(self) -> str:
        return f"{self.severity} drift since {self.since}" + (f": {self.kind}" if self.kind != "drift" else "")


@dataclass(frozen=True, kw_only=True)
class BankItem:
    """An item of the bank.

    Attributes:
        max_score: score for full credit.
        values, since: values in force and their first day, or None if nothing is published.
        to_come: values decided for a later day, with the day; "" without any.
        n: number of answers in the newest linked month or in the origin window, or None if it was in neither.
        drifted: the open drift alert.
        dif: attributes with large DIF in the newest tested month.
        problems: reasons why that window's estimate could not be published.
        suspect_key: why its key may be wrong; "" if no option beats the key.
        proposal: the proposal that waits for a decision.
        withdrawn: whether the item is withdrawn now.
        decided: the last decision on the item's use, which may take effect later.
    """

    item_id: str
    topic: str | None
    anchor: bool
    max_score: int
    values: ItemRow | None
    since: datetime | None
    to_come: str
    n: int | None
    drifted: OpenDrift | None
    dif: tuple[str, ...]
    problems: tuple[str, ...]
    suspect_key: str
    proposal: Proposal | None
    withdrawn: bool
    decided: Status | None

    @property
    def status(self) -> str:
        if self.withdrawn:
            return WITHDRAWN
        return NOT_PUBLISHED if self.since is None else IN_USE


def bank_items(
    connection: psycopg.Connection, scale: Scale, at: datetime, waiting: Iterable[Proposal] | None = None
) -> list[BankItem]:
    """List all items of the scale at `at`, ordered by id. `waiting`: the waiting proposals if they are already read."""
    if waiting is None:
        waiting = waiting_proposals(connection, scale.scale_id)
    of_item = {proposal.item_id: proposal for proposal in waiting if proposal.scale_id == scale.scale_id}
    now, last = item_status(connection, at), item_status(connection)
    suspect = suspect_keys(connection, scale.scale_id)
    return [
        _item(
            row,
            scale,
            of_item.get(row["item_id"]),
            now.get(row["item_id"]),
            last.get(row["item_id"]),
            suspect.get(row["item_id"], ""),
        )
        for row in bank_rows(connection, scale, at)
    ]


def _item(
    row: Mapping[str, Any],
    scale: Scale,
    proposal: Proposal | None,
    now: Status | None,
    last: Status | None,
    suspect_key: str,
) -> BankItem:
    problems: list[str] = []
    if row["fitted"]:
        problems = item_problems(FittedItem.from_row(row), scale.rules)
    return BankItem(
        item_id=row["item_id"],
        topic=row["topic_id"],
        anchor=row["anchor"],
        max_score=row["max_score"],
        values=ItemRow.if_known(row),
        since=row["effective_from"],
        to_come="a = {next_a:.2f}, b = {next_b:.2f} from {next_from:%Y-%m-%d} on".format(**row)
        if row["next_from"]
        else "",
        n=row["n_responses"],
        drifted=OpenDrift(row["severity"], row["kind"], row["opened_month"]) if row["severity"] else None,
        dif=tuple(row["attributes"] or ()),
        problems=tuple(problems),
        suspect_key=suspect_key,
        proposal=proposal,
        withdrawn=now is not None and now.is_withdrawn,
        decided=last,
    )
