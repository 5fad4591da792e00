"""Where ability moves, one learner's θ on request in time that grows with the new answers: the filter goes on from
where it stood.

Stored is where it stood before the day on which the learner answered last; what the log has from that day on is read
and judged anew. It is begun anew, with all answers, where anything else changed: the number of earlier attempts, the
time when the last of them was written, parameters, rules, item times, or the month. (That an attempt was deleted and
another came in its place, the night finds.) What does not belong here: the filter (see
`psychometrics.scoring.moving_ability`).
"""

import hashlib
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import psycopg

from irt_assets.abilities.batch import with_errors
from irt_assets.psychometrics.core.arrays import Mask
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.scoring.abilities import Curves, Scores
from irt_assets.psychometrics.scoring.moving_ability import (
    FilterState,
    Resumed,
    moving_eap,
    moving_eap_in_two,
    resumed,
)
from irt_assets.psychometrics.scoring.total_error import ErrorParts, ParameterErrors
from irt_assets.responses.item_status import microseconds
from irt_assets.responses.item_times import DAY
from irt_assets.responses.one_learner import Recent
from irt_assets.responses.scales import Scale
from resources.postgres.database import records

_LENGTH = struct.Struct("<H")


class MeasuredBy(Protocol):
    """What of `online.Measure` is needed."""

    @property
    def scale(self) -> Scale: ...
    @property
    def curves(self) -> Curves: ...
    @property
    def errors(self) -> ParameterErrors | None: ...


@dataclass(frozen=True)
class Standing:
    """A row of `ability_state`."""

    state: bytes
    until: datetime
    basis: str
    n_items: int
    answers: str
    n_attempts: int
    recorded_at: datetime | None

    def is_still_so(self, recent: Recent) -> bool:
        """Whether the log before `until` is what it was, as what was read from then on says."""
        return not recent.reopened and (recent.n, recent.recorded_at) == (self.n_attempts, self.recorded_at)


@dataclass(frozen=True)
class Moved:
    """A learner's θ at his last answer, and its standard errors; se_total None where it is not known. `n_items`,
    `answers`: how many answers it rests on, and the sum of their hashes. `standing`: to be stored, None: nothing is."""

    theta: float
    se: float
    se_total: float | None
    n_items: int
    answers: str
    standing: Standing | None


def hash_of_answers(responses: Responses, before: str = "0") -> str:
    """The sum of the answers' hashes, with that of others; hexadecimal, of whatever order."""
    assert responses.at is not None
    total = int(before, 16)
    for item, score, at in zip(responses.item.tolist(), responses.score.tolist(), responses.at.tolist(), strict=True):
        digest = hashlib.sha256(f"{responses.item_ids[item]}\t{score}\t{at}".encode()).digest()
        total += int.from_bytes(digest[:16])
    return f"{total % 2**128:x}"


def begin(measure: MeasuredBy, recent: Recent, basis: str) -> Moved:
    """θ from all answers, and where the filter stood before the day of the learner's last attempt; that is not kept
    where there is no answer before, where its state is too large, and where testlets have effects."""
    responses, errors, movement = recent.responses, measure.errors, measure.scale.movement
    late = _since(responses, recent.day)
    earlier, standing = responses.of_rows(~late), None
    answers = hash_of_answers(earlier)
    if measure.curves.effects is not None or late.all():
        scores = moving_eap(responses, _days(responses), measure.curves, movement, threads=1)
    else:
        scores, before = moving_eap_in_two(responses, _days(responses), late, measure.curves, movement)
        if before.state is not None:
            prior_sd = measure.scale.sigma / np.sqrt(before.earlier)
            parts = None if errors is None else errors.parts(_scores(before), earlier, prior_sd, before.discount)
            kept, n = _to_bytes(before.state, parts), earlier.n_responses
            standing = Standing(kept, recent.day, basis, n, answers, recent.n_until, recent.recorded_until)
    found = with_errors(scores, responses, errors, measure.scale)
    answers = hash_of_answers(responses.of_rows(late), answers)
    theta, se = float(found.theta[0]), float(found.se[0])
    return Moved(theta, se, found.known_total, responses.n_responses, answers, standing)


def go_on(measure: MeasuredBy, kept: Standing, recent: Recent, basis: str) -> Moved | None:
    """θ from where the filter stood and what came since; None where it must be begun anew."""
    state, parts = _from_bytes(kept.state)
    n, answers, standing = kept.n_items, kept.answers, None
    found = None
    late = _since(recent.responses, recent.day)
    for is_before in (True, False):
        some = recent.responses.of_rows(late != is_before)
        if some.n_responses:
            found = resumed(state, some, _days(some), measure.curves, measure.scale.movement)
            if found is None:
                return None
            if measure.errors is not None and parts is not None:
                prior_sd = (found.earlier * parts.information) ** -0.5
                parts = parts.then(measure.errors.parts(_scores(found), some, prior_sd, found.discount), found.earlier)
            n, answers = n + some.n_responses, hash_of_answers(some, answers)
        if is_before and recent.day > kept.until:
            if found is not None and found.state is None:
                return None
            state = state if found is None or found.state is None else found.state
            kept_now = _to_bytes(state, parts)
            standing = Standing(kept_now, recent.day, basis, n, answers, recent.n_until, recent.recorded_until)
    if found is None:
        return None
    total = None
    if measure.errors is not None and parts is not None:
        variance = float(measure.errors.variance(parts, np.array([found.theta]))[0])
        total = None if np.isnan(variance) else float(np.sqrt(found.se**2 + max(variance, 0.0)))
    return Moved(found.theta, found.se, total, n, answers, standing)


def read_standing(connection: psycopg.Connection, user_id: str, scale_id: str) -> Standing | None:
    found = records(
        connection,
        Standing,
        """SELECT state, until, basis, n_items, answers, n_attempts, recorded_at FROM ability_state
           WHERE (user_id, scale_id) = (%s, %s)""",
        (user_id, scale_id),
    )
    return found[0] if found else None


def store_standing(connection: psycopg.Connection, user_id: str, scale_id: str, one: Standing) -> None:
    connection.execute(
        """INSERT INTO ability_state
             (user_id, scale_id, state, until, basis, n_items, answers, n_attempts, recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (user_id, scale_id) DO UPDATE SET state = excluded.state, until = excluded.until,
             basis = excluded.basis, n_items = excluded.n_items, answers = excluded.answers,
             n_attempts = excluded.n_attempts, recorded_at = excluded.recorded_at""",
        (user_id, scale_id, one.state, one.until, one.basis, one.n_items, one.answers, one.n_attempts, one.recorded_at),
        prepare=True,
    )


def _since(responses: Responses, day: datetime) -> Mask:
    assert responses.at is not None
    return responses.at >= microseconds(day)


def _days(responses: Responses) -> np.ndarray:
    assert responses.at is not None
    return responses.at // DAY


def _scores(found: Resumed) -> Scores:
    return Scores(np.array([found.theta]), np.array([found.se]))


def _to_bytes(state: FilterState, parts: ErrorParts | None) -> bytes:
    kept = state.to_bytes()
    return _LENGTH.pack(len(kept)) + kept + (b"" if parts is None else parts.to_bytes())


def _from_bytes(kept: bytes) -> tuple[FilterState, ErrorParts | None]:
    end = _LENGTH.size + _LENGTH.unpack_from(kept)[0]
    rest = kept[end:]
    return FilterState.from_bytes(kept[_LENGTH.size : end]), ErrorParts.from_bytes(rest) if rest else None
