"""Responses about the bank: the models of its OpenAPI page. Each is built from the record that the ledger reads."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from services.theta_api.scores import utc_text

Body = TypeVar("Body", bound="BankBody")
Time = Annotated[datetime, PlainSerializer(utc_text, return_type=str)]


class BankBody(BaseModel):
    """A part of a response."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[Body]):
    """A page of a list, in the order of the ids."""

    items: list[Body]
    next: str | None = Field(description="path of the next page; null on the last page")


class Parameters(BankBody):
    """Parameters of an item with their standard errors, which are null if they are not known."""

    a: float = Field(description="slope on the logistic metric (D = 1)")
    b: float
    c: float
    a_se: float | None
    b_se: float | None
    c_se: float | None
    cov_ab: float | None = Field(description="covariance of a and b")
    further: Mapping[str, float] = Field(description="parameters that the item's model adds, such as t1 and t1_se")


class DriftAlert(BankBody):
    """An open drift alert."""

    severity: str = Field(description="medium or high")
    kind: str
    since: str = Field(description="month in which it was opened")


class BankItemBody(BankBody):
    """An item of the bank."""

    item_id: str
    scale_id: str
    topic_id: str | None
    status: str = Field(description="in use, not published or withdrawn")
    anchor: bool
    max_score: int
    parameters: Parameters | None = Field(description="published values in force; null if nothing is published")
    effective_from: Time | None = Field(description="time from which the values are in force")
    to_come: str = Field(description="values decided for a later day, in words; empty if there are none")
    n: int | None = Field(description="answers in the newest linked month or in the origin window")
    drifted: DriftAlert | None = Field(description="open drift alert")
    dif: list[str] = Field(description="attributes with large DIF in the newest tested month")
    problems: list[str] = Field(description="reasons why the newest estimate could not be published")


class PublicationBody(BankBody):
    """A publication of an item's values."""

    publication_id: int
    state: Literal["coming", "in force", "earlier"]
    values: Parameters
    effective_from: Time
    rule: str
    reason: str
    decided_by: str | None
    month: str | None
    fit_id: str | None


class BankItemHistory(BankItemBody):
    """An item with all publications of its values, the latest effective_from first."""

    publications: list[PublicationBody]


class CurveBody(BankBody):
    """The curve of an item by its values in force, at each θ of the response."""

    item_id: str
    scale_id: str
    probability: list[float] = Field(description="P(correct); of a scored item, the expected share of its maximum")
    information: list[float] = Field(description="Fisher information of an answer about θ")


class CurvesBody(BaseModel):
    """Curves of items at the same values of θ."""

    theta: list[float]
    items: list[CurveBody]


class MonthBody(BankBody):
    """A month of a scale that has reached publication."""

    month: str
    scale_id: str
    state: str = Field(description="done; held, if a gate failed; or pending, if it waits for an earlier month")
    why: str = Field(description="reason of the state")
    fit_id: str | None
    n_published: int
    n_proposed: int = Field(description="items whose new values a person decides on")
    n_held: int = Field(description="items that were held back")
    settled_at: Time | None
    answers: str = Field(description="open, closed or reopened: whether late answers still count for the month")
    report: str | None = Field(description="address of the month's report; null if none has been written yet")


class FlagsBody(BankBody):
    """The month's findings on an item, each as `source: finding`."""

    item_id: str
    findings: list[str]


class DriftBody(BankBody):
    """A comparison of an item's estimate of the month with its published values."""

    item_id: str
    severity: str = Field(description="none, medium or high")
    kind: str | None = Field(description="kind of change")
    delta_a: float | None
    delta_b: float | None
    q_value: float | None
    wabc: float | None = Field(description="weighted area between the curves")


class DifTest(BankBody):
    """A DIF test of an item between two groups of learners."""

    attribute: str
    reference_group: str
    focal_group: str
    q_value: float | None
    ets_class: str | None
    large: bool
    details: Mapping[str, Any] = Field(description="statistics as stored in the table dif_analysis")


class DifBody(BankBody):
    """The month's DIF tests of an item."""

    item_id: str
    tests: list[DifTest]


class ScoreRow(BankBody):
    """The scores of a raw score."""

    raw: float
    theta: float | None
    se: float | None
    unrounded: float | None
    scaled: float
    scaled_se: float | None
    percentile: float | None = Field(description="percentile rank in the norm group; null without one")
    passes: bool | None = Field(description="null without a pass mark")


class ScoreTableBody(BankBody):
    """The released score table of a form."""

    form_id: str
    table_id: int
    scale_id: str
    month: str
    method: str
    made_at: Time
    scores: list[ScoreRow]


_NEXT = "/api/seedtest/bank/items?limit=100&after=q7"
_ITEM = {
    "item_id": "q7",
    "scale_id": "default",
    "topic_id": "algebra",
    "status": "in use",
    "anchor": False,
    "max_score": 1,
    "parameters": {
        "a": 1.2,
        "b": 0.4,
        "c": 0.2,
        "a_se": 0.1,
        "b_se": 0.08,
        "c_se": 0.02,
        "cov_ab": 0.001,
        "further": {},
    },
    "effective_from": "2026-10-01T00:00:00Z",
    "to_come": "",
    "n": 1840,
    "drifted": {"severity": "high", "kind": "easier", "since": "2026-10"},
    "dif": [],
    "problems": [],
}
_PUBLICATION = {
    "publication_id": 81,
    "state": "in force",
    "values": _ITEM["parameters"],
    "effective_from": "2026-10-01T00:00:00Z",
    "rule": "decision",
    "reason": "the item became easier",
    "decided_by": "Ann",
    "month": "2026-09",
    "fit_id": "2026-09-default-em-1",
}
_MONTH = {
    "month": "2026-10",
    "scale_id": "default",
    "state": "done",
    "why": "",
    "fit_id": "2026-10-default-em-1",
    "n_published": 12,
    "n_proposed": 3,
    "n_held": 1,
    "settled_at": "2026-11-01T03:10:00Z",
    "answers": "open",
    "report": "https://irt.example.org/reports/17",
}
_DRIFT = {"item_id": "q7", "severity": "high", "kind": "easier", "delta_a": 0.02, "delta_b": -0.61, "q_value": 0.0004}
_DIF = {"attribute": "gender", "reference_group": "m", "focal_group": "f", "q_value": 0.01, "ets_class": "C"}
_SCORE = {"raw": 27, "theta": 0.85, "se": 0.12, "unrounded": 585.0, "scaled": 585, "scaled_se": 12.7}
_TABLE = {"form_id": "booklet-a", "table_id": 4, "scale_id": "default", "month": "2026-10", "method": "eap"}
EXAMPLES: Mapping[type[BaseModel], Mapping[str, Any]] = {
    Page[BankItemBody]: {"items": [_ITEM], "next": _NEXT},
    BankItemHistory: _ITEM | {"publications": [_PUBLICATION]},
    CurvesBody: {
        "theta": [0.0, 1.0],
        "items": [
            {"item_id": "q7", "scale_id": "default", "probability": [0.382, 0.673], "information": [0.34, 0.317]}
        ],
    },
    Page[MonthBody]: {"items": [_MONTH], "next": _NEXT},
    Page[FlagsBody]: {"items": [{"item_id": "q7", "findings": ["drift: high easier"]}], "next": _NEXT},
    Page[DriftBody]: {"items": [_DRIFT | {"wabc": 0.12}], "next": _NEXT},
    Page[DifBody]: {
        "items": [{"item_id": "q7", "tests": [_DIF | {"large": True, "details": {}}]}],
        "next": _NEXT,
    },
    Page[ScoreTableBody]: {
        "items": [
            _TABLE | {"made_at": "2026-11-01T03:10:00Z", "scores": [_SCORE | {"percentile": 78.4, "passes": True}]}
        ],
        "next": _NEXT,
    },
}
"""An example of each response."""
