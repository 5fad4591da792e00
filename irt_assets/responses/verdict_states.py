"""The state of verdicts: a hash of the judged days of a window, and of the time when a verdict of each last changed.

A month's snapshot, a day's features and item analysis and a week's KPIs are stored with the state of the verdicts from
which they were made. They are stale if the present state differs. The state is read before the verdicts, so that
verdicts that are committed in between make the state differ.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime

import psycopg

from irt_assets.common.partitions import Month

WindowOf = Callable[[str], tuple[datetime, datetime]]
"""Function from a partition's key to the two midnights between which the partition reads verdicts."""


def states_of_verdicts(
    connection: psycopg.Connection, windows: Mapping[str, tuple[datetime, datetime]]
) -> dict[str, str]:
    """Key → state of the verdicts of its window [start, end), two midnights; empty if no day of it is judged."""
    rows = connection.execute(
        """SELECT key, md5(string_agg(concat_ws(' ', day, extract(epoch FROM judged_at)), E'\\n' ORDER BY day))
           FROM unnest(%s::text[], %s::date[], %s::date[]) asked (key, start, stop)
             JOIN judged_day ON day >= start AND day < stop
           GROUP BY key""",
        ([*windows], *([at[n].date() for at in windows.values()] for n in (0, 1))),
    ).fetchall()
    return {**dict.fromkeys(windows, ""), **dict(rows)}


def states_of_months(connection: psycopg.Connection, months: Collection[str]) -> dict[str, str]:
    """The state of the verdicts of each month."""
    return states_of_verdicts(connection, {month: Month(month).bounds for month in months})


def answers_by_day(connection: psycopg.Connection, most: int) -> dict[date, int]:
    """The number of judged attempts of all scales by day (UTC), for the last `most` days with any, oldest first."""
    rows = connection.execute("SELECT day, n FROM judged_day WHERE n > 0 ORDER BY day DESC LIMIT %s", (most,))
    return dict(reversed(rows.fetchall()))


def record_states(connection: psycopg.Connection, asset: str, states: Mapping[str, str]) -> None:
    """Store the states of the verdicts from which partitions of an asset were made.

    Call it in the transaction that writes the partitions' rows.
    """
    connection.cursor().executemany(
        """INSERT INTO partition_source (asset, partition, data_hash) VALUES (%s, %s, %s)
           ON CONFLICT (asset, partition) DO UPDATE
           SET data_hash = excluded.data_hash, computed_at = excluded.computed_at""",
        [(asset, partition, state) for partition, state in states.items()],
    )


def recorded_states(connection: psycopg.Connection, asset: str) -> dict[str, str]:
    """Key → stored state, for each partition of an asset that has been made."""
    rows = connection.execute("SELECT partition, data_hash FROM partition_source WHERE asset = %s", (asset,)).fetchall()
    return dict(rows)


def changed_partitions(connection: psycopg.Connection, asset: str, window_of: WindowOf) -> list[str]:
    """The partitions of an asset whose verdicts have changed since they were made, in order."""
    stored = recorded_states(connection, asset)
    now = states_of_verdicts(connection, {key: window_of(key) for key in stored})
    return sorted(key for key, state in stored.items() if now[key] != state)


@contextmanager
def kept_current(connection: psycopg.Connection, windows: Mapping[str, WindowOf]) -> Iterator[None]:
    """Partitions that are up to date before the block stay up to date, although the block changes verdicts.

    `windows`: asset → the window of its partitions.
    """
    current = {
        asset: recorded_states(connection, asset).keys() - changed_partitions(connection, asset, window_of)
        for asset, window_of in windows.items()
    }
    yield
    for asset, keys in current.items():
        record_states(connection, asset, states_of_verdicts(connection, {key: windows[asset](key) for key in keys}))
