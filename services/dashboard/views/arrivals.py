"""Arrivals in the log: whether each source still sends answers, its row counts, and the refused rows."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import pandas as pd

from irt_assets.blocks import DASH, Badge, Block, Moment, Paragraph, Section, Table, Text, notice, prose, table
from irt_assets.common.wording import counted, in_words, is_or_are, lasting, listed, sentence
from irt_assets.intake.arrivals import (
    SourceState,
    arrivals,
    days_of_sources,
    refusals_by_reason,
    refused_rows,
    source_states,
)
from irt_assets.intake.posted import SENDER_REMEDIES
from irt_assets.intake.report import COLUMNS, REMEDIES
from irt_assets.intake.silence import Silence, silent_sources, unwatched_sources
from resources.failures import PermanentFailure
from services.dashboard.elements import markup, table_files
from services.dashboard.figures import shown
from services.dashboard.page import Page, ViewRequest

DAYS, ARRIVALS_SHOWN, MAX_ROWS = 7, 15, 100_000
BROUGHT = ("read", "accepted", "corrected", "duplicates", "rejected")


def page(asked: ViewRequest) -> Page:
    now, zone = asked.reader.now(), asked.reader.settings.irt_time_zone
    first = (now - timedelta(days=DAYS - 1)).date()
    with asked.reader.connect() as connection:
        states = source_states(connection)
        silences = silent_sources(connection, asked.reader.settings, now)
        days = days_of_sources(connection, first)
        last = arrivals(connection, ARRIVALS_SHOWN)
        refused = refusals_by_reason(connection)
    silent = {source: one for source, one in silences.items() if one is not None}
    return Page(
        "Arrivals",
        shown(
            Paragraph(_answer(states, silent), "lead"),
            *(notice((one.sentence(now), ". ", *prose(one.alert(now).fix)), "warning") for one in silent.values()),
            Section("Sources", (_sources(asked, states, silent, now),)),
            Section("The last seven days", (_week(days, first),)),
            Section("The last arrivals", (_last(last, zone),)),
            Section("Refused rows", tuple(_refused(asked, refused, zone))),
        ),
    )


def refused_table(asked: ViewRequest) -> pd.DataFrame:
    """The stored refused rows with their reasons. Raises PermanentFailure if there are more than `MAX_ROWS`."""
    with asked.reader.connect(60_000) as connection:
        rows = list(islice(refused_rows(connection), MAX_ROWS + 1))
    if len(rows) > MAX_ROWS:
        raise PermanentFailure(f"more than {MAX_ROWS:,} rows are kept: irt intake rejects --csv FILE writes them all")
    return pd.DataFrame(rows, columns=COLUMNS)


def _answer(states: Sequence[SourceState], silent: Mapping[str, Silence]) -> Text:
    """Whether answers arrive, in a sentence."""
    if not states:
        return prose("Nothing came in the last 28 days: `irt import attempts`, or have a program post its answers.")
    rows, refused = sum(one.read for one in states), sum(one.refused for one in states)
    pace = f"{listed(silent)} {is_or_are(len(silent))} silent" if silent else "no source is silent"
    brought = f"{counted(len(states), 'source')} brought {rows:,} rows in the last 24 hours"
    return sentence(f"{brought}, of which {in_words(refused)} were refused; {pace}")


def _sources(asked: ViewRequest, states: Sequence[SourceState], silent: Mapping[str, Silence], now: datetime) -> Table:
    zone, ignored = asked.reader.settings.irt_time_zone, unwatched_sources(asked.reader.settings)

    def state(source: str) -> Badge:
        if source in silent:
            return Badge("silent", "warning")
        return Badge("not expected") if source in ignored else Badge("comes as usual", "good")

    return table(
        ("source", "state", "last arrival", "newest answer", "its age"),
        [
            (one.source, state(one.source), Moment(one.last, zone))
            + ((Moment(one.latest, zone), lasting(now - one.latest)) if one.latest else (DASH, DASH))
            for one in states
        ],
        caption="Who brought answers in the last 28 days; silent: for longer than it usually pauses at that time",
    )


def _week(days: Sequence[Mapping[str, Any]], first: date) -> Table:
    week = [first + timedelta(days=k) for k in range(DAYS)]
    names = (*(f"{day:%a %d}" for day in week), *BROUGHT[1:])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in days:
        counts[one["source"]] += Counter({f"{one['day']:%a %d}": one["read"]} | {name: one[name] for name in BROUGHT})
    return table(
        ("source", *names),
        [(source, *(brought[name] for name in names)) for source, brought in sorted(counts.items())],
        numbers=dict.fromkeys(names, ","),
        caption="Rows by day (UTC), and what became of all of them. Corrected: by a higher revision; duplicates were"
        " there already",
        empty="nothing came",
    )


def _last(found: Sequence[Mapping[str, Any]], zone: str) -> Table:
    return table(
        ("arrived", "source", *BROUGHT),
        [(Moment(one["arrived_at"], zone), one["source"], *(one[name] for name in BROUGHT)) for one in found],
        numbers=dict.fromkeys(BROUGHT, ","),
        caption=f"Each file, each pull and each minute of posts, the newest first; at most {ARRIVALS_SHOWN}",
    )


def _refused(asked: ViewRequest, refused: Sequence[Mapping[str, Any]], zone: str) -> Iterator[Block]:
    yield table(
        ("source", "reason", "rows", "last", "what to do"),
        [
            (one["source"], one["reason"], one["n"], Moment(one["last"], zone))
            + ((SENDER_REMEDIES if one["kind"] == "http" else REMEDIES).get(one["reason"]),)
            for one in refused
        ],
        numbers={"rows": ","},
        caption="Refused rows of the last 30 days, by source and reason; of a source and day at most 10,000 are kept",
        empty="none was refused",
    )
    if not refused:
        return
    if asked.identity.has_role("analyst"):
        yield Paragraph(markup(table_files("The rows themselves, each with its reason:", "refused")))
    else:
        yield Paragraph("The rows name learners: analysts and higher roles can download them.")
