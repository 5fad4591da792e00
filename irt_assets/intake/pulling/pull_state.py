"""The state of each pull: the tables `pull_source` and `pull_day`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from resources.failures import PermanentFailure
from resources.postgres.database import LOCK, Database, lock_key, one_value, record, records

OUT_OF_ORDER = timedelta(minutes=10)
"""Longest time between a row's cursor and its commit that pulls allow for."""
MAX_REFUSED = 10_000


class Place(NamedTuple):
    """A place in a source's rows: cursor and key of the last row that was read.

    A cursor that is a time is in microseconds since 1970. Without a key, the place is before the rows with this cursor.
    """

    cursor: Any
    key: Any = None


class PullInProgress(PermanentFailure):
    """Another process is pulling this source."""


@dataclass
class PullState:
    """The state of a source's pulls: a row of `pull_source`."""

    name: str
    number: int
    columns: dict[str, str]
    position: list[Any]
    stood: list[list[Any]]
    again: dict[str, Any] | None
    first_pull: dict[str, Any] | None
    refused: dict[str, str]
    notices_regrading: bool
    stopped: str | None
    pulled_at: datetime

    @property
    def place(self) -> Place:
        return Place(*self.position)

    def move(self, place: Place, at: datetime) -> None:
        """Move to `place`, which was read at `at`."""
        self.position = [*place]
        self.stood.append([at.isoformat(), place.cursor])

    def refuse(self, rows: Iterable[str]) -> None:
        """Remember the hashes of refused rows, at most the latest MAX_REFUSED."""
        self.refused |= dict.fromkeys(rows, datetime.now(UTC).isoformat())
        self.refused = dict(sorted(self.refused.items(), key=itemgetter(1))[-MAX_REFUSED:])

    def settle(self, at: datetime) -> None:
        """Forget older places and refused rows: all rows that were committed late have been read, as of `at`."""
        since = (at - OUT_OF_ORDER).isoformat()
        older = [stood for stood in self.stood if stood[0] <= since]
        self.stood = older[-1:] + [stood for stood in self.stood if stood[0] > since]
        self.refused = {row: when for row, when in self.refused.items() if when > (at - 3 * OUT_OF_ORDER).isoformat()}


@contextmanager
def pull_lock(database: Database, name: str) -> Iterator[None]:
    """Hold the lock of a source's pulls. Raises PullInProgress if another process is pulling the source."""
    with database.connect() as guard:
        if not one_value(guard, f"SELECT pg_try_advisory_xact_lock({LOCK})", (lock_key("pull", name),)):
            raise PullInProgress(f"{name}: a pull is under way")
        yield


def read_state(connection: psycopg.Connection, name: str) -> PullState | None:
    """The state of a source's pulls. Returns None if the source has never been pulled."""
    return record(connection, PullState, "SELECT * FROM pull_source WHERE name = %s", (name,))


def insert_state(
    connection: psycopg.Connection, name: str, columns: Mapping[str, str], notices_regrading: bool
) -> PullState:
    """Insert the state of a source that has never been pulled."""
    [state] = records(
        connection,
        PullState,
        """INSERT INTO pull_source (name, columns, position, notices_regrading)
           VALUES (%s, %s, '[null, null]', %s) RETURNING *""",
        (name, Jsonb(columns), notices_regrading),
    )
    return state


def store_state(connection: psycopg.Connection, state: PullState) -> None:
    if state.first_pull is not None:  # shows that it goes on; a complete pull sets the time at which it began
        state.pulled_at = datetime.now(UTC)
    documents = {
        name: Jsonb(value)
        for name, value in vars(state).items()
        if name in ("columns", "position", "stood", "again", "first_pull", "refused") and value is not None
    }
    connection.execute(
        """UPDATE pull_source SET columns = %(columns)s, position = %(position)s, stood = %(stood)s, again = %(again)s,
             first_pull = %(first_pull)s, refused = %(refused)s, notices_regrading = %(notices_regrading)s,
             stopped = %(stopped)s, pulled_at = %(pulled_at)s WHERE name = %(name)s""",
        vars(state) | documents,
    )


def record_stop(database: Database, name: str, why: str) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE pull_source SET stopped = %s WHERE name = %s", (why, name))


def first_pull_under_way(connection: psycopg.Connection) -> bool:
    """Whether a first pull is in progress. Results that depend on its days are computed once, at its end."""
    return bool(
        one_value(
            connection,
            """SELECT EXISTS (SELECT FROM pull_source WHERE first_pull IS NOT NULL AND stopped IS NULL
                              AND pulled_at > now() - interval '1 hour')""",
        )
    )


class PulledAnswers(NamedTuple):
    """Whether answers come from pulls, and the time up to which all sources have been read.

    The time is None without pulls, and until the first pull of each source is complete.
    """

    are_pulled: bool
    until: datetime | None


def pulled_answers(connection: psycopg.Connection) -> PulledAnswers:
    """Read from the states of the pulls how far the answers have come. Reads no source.

    A source that has not been read for a week is left out, because it may no longer be in the file of sources.
    """
    [found] = connection.execute(
        """SELECT count(*) > 0, CASE WHEN bool_and(first_pull IS NULL) THEN min(pulled_at) END
           FROM pull_source WHERE pulled_at > now() - interval '7 days'"""
    ).fetchall()
    return PulledAnswers(*found)


@dataclass(frozen=True)
class DayComparison:
    """A day's comparison of a source with the log: a row of `pull_day`."""

    name: str
    day: date
    there: int
    here: int
    missing: int
    vanished: int
    waits: bool
    compared_at: datetime

    def __str__(self) -> str:
        verb = "are to be" if self.waits else "were"
        confirm = f" → irt pull {self.name} --confirm {self.day}" if self.waits else ""
        return (
            f"{self.name} {self.day}: {self.there:,} rows there, {self.here:,} answers here; {self.missing:,} missing "
            f"{verb} fetched, {self.vanished:,} vanished {verb} withdrawn{confirm}"
        )


def compared_days(connection: psycopg.Connection, name: str) -> dict[date, DayComparison]:
    found = records(connection, DayComparison, "SELECT * FROM pull_day WHERE name = %s ORDER BY day", (name,))
    return {comparison.day: comparison for comparison in found}


def store_day(connection: psycopg.Connection, day: DayComparison) -> None:
    connection.execute("DELETE FROM pull_day WHERE (name, day) = (%(name)s, %(day)s)", vars(day))
    connection.execute(
        """INSERT INTO pull_day VALUES (
             %(name)s, %(day)s, %(there)s, %(here)s, %(missing)s, %(vanished)s, %(waits)s, %(compared_at)s)""",
        vars(day),
    )


def pulls_in_words(connection: psycopg.Connection) -> list[str]:
    """A line for each source, and for each day that waits for a person's confirmation."""
    lines = []
    for pull in records(connection, PullState, "SELECT * FROM pull_source ORDER BY name"):
        if pull.stopped:
            state = f"stopped: {pull.stopped}"
        elif pull.first_pull is not None:
            state = f"the first pull has {len(pull.first_pull['days']):,} days to read → irt pull {pull.name}"
        else:
            state = f"read {pull.pulled_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        blind = "" if pull.notices_regrading else "; regrading is not noticed (no `revision: cursor`)"
        lines.append(f"{pull.name}: {state}{blind}")
    waiting = records(connection, DayComparison, "SELECT * FROM pull_day WHERE waits ORDER BY name, day")
    return [*lines, *map(str, waiting)]
