"""Alerts on sources of answers that have been silent for longer than usual.

A source's usual pause is its longest pause in four weeks that began in the same hour of the week, so that nights and
weekends cause no alerts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import quote

import psycopg

from irt_assets.common.wording import duration_in_words
from irt_assets.intake.arrivals import FILES, SOURCE
from resources.alerts.outbox import Alert, open_alert, open_keys, resolve_alert
from resources.settings import Settings

LOOK_BACK = timedelta(days=28)
FIRST_WEEK = timedelta(days=7)
MIN_PAUSE = timedelta(hours=1)
KEY = "silent "
ARRIVALS = f"""
    SELECT {SOURCE}, max(arrived_at) FROM intake
    WHERE arrived_at > %(now)s::timestamptz - %(back)s AND arrived_at <= %(now)s AND kind NOT IN ('question', 'learner')
    GROUP BY 1, floor(extract(epoch FROM arrived_at) / 300) ORDER BY 1, 2
"""
"""The last arrival in each five minutes: few rows even for a busy source, and pauses at most five minutes too long."""


@dataclass(frozen=True)
class Silence:
    """A source that has been silent for longer than `allowed`. `usual`: its usual pause, or None if a setting
    determines `allowed`."""

    source: str
    since: datetime
    allowed: timedelta
    usual: timedelta | None

    def sentence(self, now: datetime) -> str:
        why = (
            f"IRT_SILENT_AFTER allows {duration_in_words(self.allowed)}"
            if self.usual is None
            else f"its longest pause in 28 days from that hour of the week on was {duration_in_words(self.usual)}"
        )
        since = f"{self.since:%Y-%m-%d %H:%M} UTC"
        return f"{self.source} has brought no answers since {since}, for {duration_in_words(now - self.since)}; {why}"

    def alert(self, now: datetime) -> Alert:
        return Alert(
            key=f"{KEY}{self.source}",
            severity="warning",
            what=self.sentence(now),
            fix="Check in its own log whether it runs and which responses it gets, and in `irt intake list` which rows"
            f" arrived. If no answers are expected, allow longer pauses: `IRT_SILENT_AFTER={quote(self.source)}=3d`, or"
            " `never`.",
            kind="sources",
            subjects=(self.source,),
        )


def usual_pause(arrivals: Sequence[datetime], now: datetime) -> timedelta | None:
    """The longest pause that began in the same hour of the week (UTC) as the last arrival, or else the longest of all.

    Returns None in a source's first week, and if it has no pause. `arrivals`: in order of time.
    """
    if now - arrivals[0] < FIRST_WEEK:
        return None
    pauses = [(began, ended - began) for began, ended in pairwise(arrivals)]
    hour = _hour_of_week(arrivals[-1])
    alike = [pause for began, pause in pauses if _hour_of_week(began) == hour]
    return max(alike or [pause for _, pause in pauses], default=None)


def silence(source: str, arrivals: Sequence[datetime], now: datetime, setting: timedelta | None) -> Silence | None:
    """The source's silence. Returns None if it is not too long. `setting`: allowed silence, which overrides the usual
    pause."""
    usual = usual_pause(arrivals, now) if setting is None else None
    allowed = setting or (usual and max(2 * usual, MIN_PAUSE))
    if allowed is None or now - arrivals[-1] <= allowed:
        return None
    return Silence(source, arrivals[-1], allowed, usual)


def silent_sources(connection: psycopg.Connection, settings: Settings, now: datetime) -> dict[str, Silence | None]:
    """Every source of the last four weeks, with its silence or None. Files that people import are not watched, unless a
    setting names them."""
    arrivals_of = defaultdict[str, list[datetime]](list)
    for source, at in connection.execute(ARRIVALS, {"now": now, "back": LOOK_BACK}):
        arrivals_of[source].append(at)
    ignored = unwatched_sources(settings)
    return {
        source: None if source in ignored else silence(source, arrivals, now, settings.silent_after.get(source))
        for source, arrivals in arrivals_of.items()
    }


def unwatched_sources(settings: Settings) -> set[str]:
    """Sources that may be silent for any length of time."""
    allowed = {FILES: None} | settings.silent_after
    return {source for source, after in allowed.items() if after is None}


def alert_on_silence(connection: psycopg.Connection, settings: Settings) -> list[str]:
    """Open an alert for each silent source, and resolve the alerts of sources that are silent no longer or are not
    watched any more. Returns the silent sources.

    A source without an arrival in four weeks keeps its alert.
    """
    now = datetime.now(UTC)
    found = silent_sources(connection, settings, now)
    over = unwatched_sources(settings) | {source for source, pause in found.items() if pause is None}
    for key in open_keys(connection, KEY):
        if key.removeprefix(KEY) in over:
            resolve_alert(connection, key)
    silent = [pause for pause in found.values() if pause is not None]
    for pause in silent:
        open_alert(connection, pause.alert(now))
    return [pause.source for pause in silent]


def _hour_of_week(at: datetime) -> tuple[int, int]:
    utc = at.astimezone(UTC)
    return utc.weekday(), utc.hour
