"""Requests and responses of the API: the models of its OpenAPI page."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_ID_LENGTH = 600
"""Bytes; imports have the same limit."""


def _require_storable(text: str) -> str:
    """Return the text. Raises ValueError if the database cannot store it as an id."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode") from None
    if "\x00" in text:
        raise ValueError("an id must not contain the character NUL")
    if size > MAX_ID_LENGTH:
        raise ValueError(f"an id may have at most {MAX_ID_LENGTH} bytes")
    return text


def to_integer(number: object) -> object:
    """Convert a whole float to an int, because 30.0 is an integer in JSON Schema."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def six_digits(value: float) -> float:
    """Round θ or a standard error to six digits after the point. Stored rows stay exact."""
    return round(value, 6) + 0.0  # −0.0 becomes 0.0


Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        description=f"at most {MAX_ID_LENGTH} bytes",
        json_schema_extra={"pattern": "^[^\\x00]*$"},
    ),
    AfterValidator(_require_storable),
]
UserId = Annotated[Id, Field(description=f"the learner; at most {MAX_ID_LENGTH} bytes", examples=["test-user-123"])]


class ThetaRequest(BaseModel):
    """A request to update a learner's θ."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: UserId
    lookback_days: Annotated[
        Annotated[int, Field(ge=1, le=365)] | None,
        Field(
            description="number of days whose answers count. Default: 30, or all of a year if ability moves. If "
            "ability moves and a number is given, the θ of these days is returned and the θ of all answers is stored"
        ),
        BeforeValidator(to_integer),
    ] = None
    session_id: Annotated[Any, Field(description="ignored")] = None
    model: Annotated[Any, Field(description="ignored")] = None
    version: Annotated[Any, Field(description="ignored")] = None


class StoredTheta(BaseModel):
    """A learner's θ on a scale, without a score."""

    theta: float
    se: float
    model: str | None = Field(
        description="model of the scale, such as 2PL, 3PL, RASCH or GPCM; null if the scale has no parameters in force"
    )
    version: str = Field(description="version of the scale's anchors, e.g. v1")
    updated_at: str
    as_of: str | None = Field(description="time of the last answer used; null if measured before version 1.1")
    n_items: int
    set_hash: str = Field(description="hash of the published parameters that were used")
    kind: str = Field(description="monthly, nightly or online")
    se_total: float | None = Field(
        description="standard error that includes the errors of the item parameters and of their linking; null if "
        "these errors are not known"
    )
    lookback_days: int | None = Field(
        description="the requested number of days, if ability moves and θ uses only the answers of these days; the θ "
        "of all answers is stored. null otherwise"
    )


class ReportedScore(BaseModel):
    """The score of a learner on a scale that counts, by the scale's rule `retest`.

    Without an issued score, a scale with `score_by=theta` gives the score of this θ, whose `issued_at` is null.
    """

    form_id: str | None = Field(description="form; null if the score is of this θ")
    session_id: str | None = Field(description="session; null if the score is of this θ")
    raw: int | None = Field(description="raw score; null if scored by θ")
    scaled: float = Field(description="reported score")
    scaled_se: float = Field(description="standard error of the reported score")
    percentile: float | None = Field(description="percentile rank in the norm group; null without one")
    passes: bool | None = Field(description="whether the learner passes; null without a pass mark")
    pass_probability: float | None = Field(
        description="probability that the learner's true θ reaches the pass mark; null without a pass mark"
    )
    table_id: int | None = Field(description="number of the score table; null if scored by θ")
    sat_at: str | None = Field(description="time of the sitting's last answer")
    issued_at: str | None = Field(description="time at which the score was issued; null if it is not issued")


class ScaleTheta(StoredTheta):
    """A learner's θ on a scale, with the score that counts."""

    score: ReportedScore | None = Field(
        description="null if the scale reports no scores, or if no score of the learner on the scale is issued; scores "
        "that are held or invalid are not shown"
    )


class ThetaResponse(ScaleTheta):
    """θ on the learner's target scale or, without a target, on the scale with the most answers.

    `by_scale` contains θ on every scale.
    """

    user_id: str
    scale_id: str
    by_scale: dict[str, ScaleTheta]
    waiting_for: str | None = Field(
        description="pull: answers are pulled, so answers since answers_until do not count yet, and θ is updated after "
        "the next pull. null: answers are not pulled"
    )
    answers_until: str | None = Field(
        description="if answers are pulled: time up to which every source has been read; null until the first pull of "
        "each source is complete"
    )


class PastTheta(StoredTheta):
    """A stored θ of a learner, with its scale."""

    scale_id: str


class ThetaHistory(ThetaResponse):
    """The latest θ, and in `history` the stored ones, newest first."""

    history: list[PastTheta]


class ProblemDetails(BaseModel):
    """A problem (RFC 9457); `detail` says what to do."""

    type: str
    title: str
    status: int
    detail: str


class NotTested(BaseModel):
    """An invariant that could not be tested completely, and why."""

    invariant: str
    why: str


class Violation(BaseModel):
    """A violation of an invariant.

    `partition` is empty if the violation belongs to no partition; `resolved_at` is null while the violation is open.
    """

    invariant: str
    partition: str
    subject: str
    observed: str | None
    expected: str | None
    fix: str | None
    opened_at: str
    resolved_at: str | None


class InvariantStatus(BaseModel):
    """The result of one invariant, with its open violations."""

    name: str
    severity: str | None = Field(description="error or warning; null if this version has no such invariant")
    passed: bool
    violations: list[Violation]


class InvariantReport(BaseModel):
    """The results of all invariants in the latest evaluation."""

    run: str
    evaluated_at: str
    incomplete: list[NotTested]
    invariants: list[InvariantStatus]


class InvariantRun(BaseModel):
    """One evaluation: `held` of `of` invariants passed."""

    run: str
    evaluated_at: str
    held: int
    of: int


class InvariantHistory(BaseModel):
    """The last evaluations, newest first, and the last violations, open ones first."""

    runs: list[InvariantRun]
    violations: list[Violation]


class AttemptResult(BaseModel):
    """The result of one attempt."""

    result: str = Field(description="accepted, duplicate, corrected or rejected; for xAPI also withdrawn or left_out")
    attempt_id: str | None = Field(None, description="the stored id, unless the attempt was rejected or left out")
    reason: str | None = Field(None, description="why the attempt was rejected")
    value: str | None = Field(None, description="the value that caused the rejection")
    what_to_do: str | None = Field(None, description="how to correct a rejected attempt")


class PostResult(BaseModel):
    """The results of a post. `attempts` is in the order sent. Nothing is stored if `dry_run` is true."""

    dry_run: bool
    accepted: int
    duplicate: int
    corrected: int
    rejected: int
    withdrawn: int = Field(description="voided by an xAPI statement")
    left_out: int = Field(description="xAPI statements with other verbs than answered and voided")
    clock_ahead: int = Field(
        description="accepted with the time of arrival, because their own time was up to five minutes ahead"
    )
    attempts: list[AttemptResult]
