"""Responses about the bank: the models of its OpenAPI page. Rows of tables have the names of their columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from irt_assets.drift.rows import DifRow, DriftRow
from irt_assets.ledger.publications import Publication
from irt_assets.ledger.steps import Step
from irt_psychometrics.items import ItemRow

Entry = TypeVar("Entry")


class Page(BaseModel, Generic[Entry]):
    """A page of a list, in the order of the ids."""

    items: list[Entry]
    next: str | None = Field(description="path of the next page; null on the last page")


class ItemInBank(BaseModel):
    """An item of the bank."""

    item_id: str
    scale_id: str
    topic_id: str | None
    status: str = Field(description="in use, not published or withdrawn")
    anchor: bool
    max_score: int
    values: ItemRow | None = Field(description="published values in force; null if nothing is published")
    since: datetime | None = Field(description="time from which the values are in force")
    to_come: str = Field(description="values decided for a later day, in words; empty if there are none")
    n: int | None = Field(description="answers in the newest linked month or in the origin window")
    problems: tuple[str, ...] = Field(description="reasons why the newest estimate could not be published")


class ItemHistory(ItemInBank):
    """An item with all publications of its values, the latest effective_from first.

    The publication in force is the first one whose effective_from equals `since`.
    """

    publications: list[Publication]


class ItemCurve(BaseModel):
    """The curve of an item by its values in force, at each θ of the response."""

    item_id: str
    probability: list[float] = Field(description="P(correct); of a scored item, the expected share of its maximum")
    information: list[float] = Field(description="Fisher information of an answer about θ")


class CurvesOfItems(BaseModel):
    """Curves of items at the same values of θ."""

    theta: list[float]
    items: list[ItemCurve]


@dataclass(frozen=True, kw_only=True)
class MonthOfScale(Step):
    """A month of a scale that has reached publication, whether its answers are closed, and its report.

    The state of its publication is done; held, if a gate failed; or pending, if it waits for an earlier month. `colour`
    is the month's state as in `irt status`, such as green, red or stale, and `colour_reason` says why.
    """

    colour: str
    colour_reason: str
    answers: str
    report: str | None


class ItemInMonth(BaseModel):
    """A month's findings on an item, and the rows of item_drift and dif_analysis about it."""

    item_id: str
    month: str
    findings: list[str] = Field(description="each as `source: finding`")
    drift: DriftRow | None = Field(description="comparison with the published values; null if it was not compared")
    dif: list[DifRow]


class ReleasedTable(BaseModel):
    """The released score table of a form."""

    form_id: str
    table_id: int
    month: str
    method: str
    made_at: datetime
    scores: list[dict[str, float | bool | None]] = Field(
        description="by raw score; percentile is null without a norm group, passes without a pass mark, theta and se "
        "if the scores need no θ"
    )


_NEXT = "/api/seedtest/bank/…?limit=1&after=q7"
_VALUES = {"a": 1.2, "b": 0.4, "c": 0.2, "a_se": 0.1, "b_se": 0.08, "cov_ab": 0.001, "c_se": 0.02, "further": {}}
_ITEM = {
    "item_id": "q7",
    "scale_id": "default",
    "topic_id": "algebra",
    "status": "in use",
    "anchor": False,
    "max_score": 1,
    "values": _VALUES,
    "since": "2026-10-01T00:00:00Z",
    "to_come": "",
    "n": 1840,
    "problems": [],
}
EXAMPLES: Mapping[type[BaseModel], Mapping[str, Any]] = {
    ItemHistory: _ITEM
    | {
        "publications": [
            {
                "publication_id": 81,
                "scale_id": "default",
                "item_id": "q7",
                "values": _VALUES,
                "effective_from": "2026-10-01T00:00:00Z",
                "rule": "decision",
                "reason": "easier since June",
                "month": "2026-09",
                "decided_by": "Ann",
                "fit_id": "2026-09-default-em-2fb50399",
                "anchor_hash": "b46b…",
                "data_hash": "5b0c…",
                "replaces": 12,
            }
        ]
    },
    CurvesOfItems: {
        "theta": [0.0, 1.0],
        "items": [{"item_id": "q7", "probability": [0.506, 0.738], "information": [0.206, 0.231]}],
    },
    Page[ItemInBank]: {"items": [_ITEM], "next": _NEXT},
    Page[MonthOfScale]: {
        "items": [
            {
                "month": "2026-10",
                "scale_id": "default",
                "state": "done",
                "why": "12 items first published, 3 proposed, one held back",
                "fit_id": "2026-10-default-em-02cca182",
                "n_published": 12,
                "n_proposed": 3,
                "n_held": 1,
                "held": {"q9": ["few answers"]},
                "settled_at": "2026-11-01T03:10:00Z",
                "stepped_at": "2026-11-01T03:10:00Z",
                "colour": "green",
                "colour_reason": "12 items first published, 3 proposed, one held back",
                "answers": "open",
                "report": "https://irt.example.org/reports/17",
            }
        ],
        "next": _NEXT,
    },
    Page[ItemInMonth]: {
        "items": [
            {
                "item_id": "q7",
                "month": "2026-10",
                "findings": ["drift: high easier"],
                "drift": {
                    "item_id": "q7",
                    "month": "2026-10",
                    "severity": "high",
                    "delta_a": 0.02,
                    "delta_b": -0.61,
                    "q_value": 0.0004,
                    "wabc": 0.12,
                    "details": {"change": {"kind": "easier"}},
                    "computed_at": "2026-11-01T03:10:00Z",
                },
                "dif": [
                    {
                        "item_id": "q7",
                        "attribute": "gender",
                        "reference_group": "m",
                        "focal_group": "f",
                        "q_value": 0.01,
                        "ets_class": "C",
                        "details": {"large": True},
                    }
                ],
            }
        ],
        "next": _NEXT,
    },
    Page[ReleasedTable]: {
        "items": [
            {
                "form_id": "booklet-a",
                "table_id": 4,
                "month": "2026-10",
                "method": "eap",
                "made_at": "2026-11-01T03:10:00Z",
                "scores": [
                    {
                        "raw": 27,
                        "theta": 0.85,
                        "se": 0.12,
                        "unrounded": 585.0,
                        "scaled": 585,
                        "scaled_se": 12.7,
                        "percentile": 78.4,
                        "passes": True,
                    }
                ],
            }
        ],
        "next": _NEXT,
    },
}
"""An example of each response."""
