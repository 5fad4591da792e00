"""Arrivals in the log: whether each source still sends answers, its row counts, and the refused rows."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import pandas as pd

from irt_assets.blocks import DASH, Badge, Block, Moment, Paragraph, Section, Table, Text, notice, prose, table
from irt_assets.common.wording import duration_in_words, in_words, is_or_are, join_names, quantity, sentence
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
from services.dashboard.elements import download_links, markup
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest

DAYS, ARRIVALS_SHOWN, MAX_ROWS = 7, 15, 100_000
COUNT_COLUMNS = ("read", "accepted", "corrected", "duplicates", "rejected")


def page(request: ViewRequest) -> Page:
    now, zone = request.reader.now(), request.reader.settings.irt_time_zone
    first = (now - timedelta(days=DAYS - 1)).date()
    with request.reader.connect() as connection:
        states = source_states(connection)
        silences = silent_sources(connection, request.reader.settings, now)
        days = days_of_sources(connection, first)
        last = arrivals(connection, ARRIVALS_SHOWN)
        refused = refusals_by_reason(connection)
    silent = {source: silence for source, silence in silences.items() if silence is not None}
    return Page(
        "Arrivals",
        render_blocks(
            Paragraph(_answer(states, silent), "lead"),
            *(
                notice((silence.sentence(now), ". ", *prose(silence.alert(now).fix)), "warning")
                for silence in silent.values()
            ),
            Section("Sources", (_sources(request, states, silent, now),)),
            Section("The last seven days", (_week(days, first),)),
            Section("The last arrivals", (_last_arrivals(last, zone),)),
            Section("Refused rows", tuple(_refusal_blocks(request, refused, zone))),
        ),
    )


def refused_table(request: ViewRequest) -> pd.DataFrame:
    """The stored refused rows with their reasons. Raises PermanentFailure if there are more than `MAX_ROWS`."""
    with request.reader.connect(60_000) as connection:
        rows = list(islice(refused_rows(connection), MAX_ROWS + 1))
    if len(rows) > MAX_ROWS:
        raise PermanentFailure(
            f"more than {MAX_ROWS:,} rows are stored: irt intake rejects --csv FILE writes all of them"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _answer(states: Sequence[SourceState], silent: Mapping[str, Silence]) -> Text:
    """Whether answers arrive, in a sentence."""
    if not states:
        return prose(
            "No answers arrived in the last 28 days: use `irt import attempts`, or let a program post its answers."
        )
    rows, refused = sum(state.read for state in states), sum(state.refused for state in states)
    pace = f"{join_names(silent)} {is_or_are(len(silent))} silent" if silent else "no source is silent"
    brought = f"{quantity(len(states), 'source')} brought {rows:,} rows in the last 24 hours"
    return sentence(f"{brought}, of which {in_words(refused)} were refused; {pace}")


def _sources(
    request: ViewRequest, states: Sequence[SourceState], silent: Mapping[str, Silence], now: datetime
) -> Table:
    zone, ignored = request.reader.settings.irt_time_zone, unwatched_sources(request.reader.settings)

    def state(source: str) -> Badge:
        if source in silent:
            return Badge("silent", "warning")
        return Badge("not expected") if source in ignored else Badge("comes as usual", "good")

    return table(
        ("source", "state", "last arrival", "newest answer", "its age"),
        [
            (source_state.source, state(source_state.source), Moment(source_state.last, zone))
            + (
                (Moment(source_state.latest, zone), duration_in_words(now - source_state.latest))
                if source_state.latest
                else (DASH, DASH)
            )
            for source_state in states
        ],
        caption=(
            "Sources of the last 28 days. Silent: no answers for longer than the source usually pauses at this time"
        ),
    )


def _week(days: Sequence[Mapping[str, Any]], first: date) -> Table:
    week = [first + timedelta(days=k) for k in range(DAYS)]
    names = (*(f"{day:%a %d}" for day in week), *COUNT_COLUMNS[1:])
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in days:
        counts[row["source"]] += Counter(
            {f"{row['day']:%a %d}": row["read"]} | {name: row[name] for name in COUNT_COLUMNS}
        )
    return table(
        ("source", *names),
        [(source, *(brought[name] for name in names)) for source, brought in sorted(counts.items())],
        numbers=dict.fromkeys(names, ","),
        caption="Rows by day (UTC), and their results. Corrected: by a higher revision. Duplicates were stored already",
        empty="no rows arrived",
    )


def _last_arrivals(rows: Sequence[Mapping[str, Any]], zone: str) -> Table:
    return table(
        ("arrived", "source", *COUNT_COLUMNS),
        [(Moment(row["arrived_at"], zone), row["source"], *(row[name] for name in COUNT_COLUMNS)) for row in rows],
        numbers=dict.fromkeys(COUNT_COLUMNS, ","),
        caption=f"Each file, each pull and each minute of posts, newest first; at most {ARRIVALS_SHOWN}",
    )


def _refusal_blocks(request: ViewRequest, refused: Sequence[Mapping[str, Any]], zone: str) -> Iterator[Block]:
    yield table(
        ("source", "reason", "rows", "last", "what to do"),
        [
            (row["source"], row["reason"], row["n"], Moment(row["last"], zone))
            + ((SENDER_REMEDIES if row["kind"] == "http" else REMEDIES).get(row["reason"]),)
            for row in refused
        ],
        numbers={"rows": ","},
        caption=(
            "Refused rows of the last 30 days, by source and reason; at most 10,000 are stored for a source and day"
        ),
        empty="no row was refused",
    )
    if not refused:
        return
    if request.identity.has_role("analyst"):
        yield Paragraph(markup(download_links("The refused rows with their reasons:", "refused")))
    else:
        yield Paragraph("The rows name learners: analysts and higher roles can download them.")
