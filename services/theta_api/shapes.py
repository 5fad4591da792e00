"""Requests and responses of the API: the models of its OpenAPI page."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LONGEST_ID = 600
"""Bytes, as an import has it."""


def _storable(text: str) -> str:
    """Raises ValueError for what the database cannot hold as an id."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode") from None
    if "\x00" in text:
        raise ValueError("an id must not contain the character NUL")
    if size > LONGEST_ID:
        raise ValueError(f"an id may have at most {LONGEST_ID} bytes")
    return text


def _whole(number: object) -> object:
    """30.0 is an integer in JSON Schema."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


UserId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_ID,
        description=f"the learner; at most {LONGEST_ID} bytes",
        examples=["test-user-123"],
        json_schema_extra={"pattern": "^[^\\x00]*$"},
    ),
    AfterValidator(_storable),
]


class Asked(BaseModel):
    """Whose θ, from the answers of how many days."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: UserId
    lookback_days: Annotated[
        Annotated[int, Field(ge=1, le=365)] | None,
        Field(
            description="answers of this many days count; without it 30, or all of a year if ability moves; then "
            "the θ of these days is returned and the θ of all answers is stored"
        ),
        BeforeValidator(_whole),
    ] = None
    session_id: Annotated[Any, Field(description="ignored")] = None
    model: Annotated[Any, Field(description="ignored")] = None
    version: Annotated[Any, Field(description="ignored")] = None


class OfScale(BaseModel):
    """A learner's θ on a scale."""

    theta: float
    se: float
    model: str | None = Field(
        description="the scale's, such as 2PL, 3PL, RASCH or GPCM; null: nothing is in force on the scale any more"
    )
    version: str = Field(description="of the scale's anchors, e.g. v1")
    updated_at: str
    as_of: str | None = Field(description="the last of its answers; null: measured before version 1.1")
    n_items: int
    set_hash: str = Field(description="of the published parameters that were used")
    kind: str = Field(description="monthly, nightly or online")
    se_total: float | None = Field(
        description="with the errors of the item parameters and of their linking; null: they are not known"
    )
    lookback_days: int | None = Field(
        description="ability moves, and θ is of the answers of the requested number of days; the θ of all answers is "
        "stored; null: θ is of all answers that count"
    )


class Answer(OfScale):
    """θ on the learner's target scale, else on the scale with the most answers; and on every scale."""

    user_id: str
    scale_id: str
    by_scale: dict[str, OfScale]


class Dated(OfScale):
    scale_id: str


class History(Answer):
    """The θ of the latest answers, and all before it, newest first."""

    history: list[Dated]


class ProblemShown(BaseModel):
    """A problem (RFC 9457); `detail` says what to do."""

    type: str
    title: str
    status: int
    detail: str


class NotTested(BaseModel):
    """What of an invariant could not be tested."""

    invariant: str
    why: str


class ViolationShown(BaseModel):
    """`partition` is empty where the violation has none; `resolved_at` is null while it is open."""

    invariant: str
    partition: str
    subject: str
    observed: str | None
    expected: str | None
    fix: str | None
    opened_at: str
    resolved_at: str | None


class Judged(BaseModel):
    name: str
    severity: str | None = Field(description="error or warning; null: this version knows no such invariant")
    passed: bool
    violations: list[ViolationShown]


class LatestLook(BaseModel):
    """Every invariant as the latest evaluation found it."""

    run: str
    evaluated_at: str
    incomplete: list[NotTested]
    invariants: list[Judged]


class Look(BaseModel):
    run: str
    evaluated_at: str
    held: int
    of: int


class Looks(BaseModel):
    """The stored evaluations, newest first, and the violations, open ones first."""

    runs: list[Look]
    violations: list[ViolationShown]


class AttemptTaken(BaseModel):
    """What became of an attempt."""

    result: str = Field(description="accepted, duplicate, corrected or rejected; of xAPI also withdrawn or left_out")
    attempt_id: str | None = Field(None, description="as it is stored; not of one that is rejected or left out")
    reason: str | None = Field(None, description="of a rejected attempt")
    value: str | None = Field(None, description="the value that is the reason")
    what_to_do: str | None = Field(None, description="of a rejected attempt")


class AttemptsTaken(BaseModel):
    """`attempts`: in the order sent. Nothing is stored where `dry_run` is true."""

    dry_run: bool
    accepted: int
    duplicate: int
    corrected: int
    rejected: int
    withdrawn: int = Field(description="voided by a statement of xAPI")
    left_out: int = Field(description="statements of xAPI with other verbs than answered and voided")
    clock_ahead: int = Field(description="accepted with the time of arrival, as theirs was up to five minutes ahead")
    attempts: list[AttemptTaken]
