"""Stale months made again from a page: one button, and how far their runs are.

What does not belong here: how runs are queued (see `jobs.made_again`), and who may (see `deciding`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import dagster as dg
from htmltools import TagChild, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.calibration.month_status import MonthState, State
from irt_assets.wording import with_stop
from jobs.launched_by import LAUNCHED_BY
from jobs.made_again import command, months_in, newest_runs, span
from services.dashboard.deciding import DECIDER, Outcome, make_again, may_decide
from services.dashboard.elements import DASH, badge, moment, notice, prose, table
from services.dashboard.page import Asked
from services.dashboard.reader import BeingRead

LOOK_AGAIN_S = 3.0


def place(asked: Asked) -> TagChild:
    """Where the button and the progress of the runs appear, for those who may make months again."""
    if not may_decide(asked.identity):
        return tags.p(f"Making months again needs the role {DECIDER}.", class_="text-body-secondary")
    return tags.div(
        ui.output_ui("making"),
        tags.noscript(notice("The button needs JavaScript; `irt backfill` needs none.", tone="warning")),
        aria_live="polite",
        class_="my-3",
    )


@dataclass(frozen=True)
class _Seen:
    stale: list[str]
    daemon_alive: bool
    rows: list[tuple[TagChild, ...]]
    under_way: bool


def converse(asked: Asked, inputs: Inputs) -> None:
    """Show the button and the runs for as long as the page is open."""
    watched: set[str] = set()
    offered: list[str] = []
    said: reactive.Value[Outcome | None] = reactive.Value(None)

    @render.ui
    async def making() -> TagChild:
        outcome = said()
        try:
            seen = await asyncio.to_thread(_look, asked, watched)
        except BeingRead:
            reactive.invalidate_later(LOOK_AGAIN_S)
            return tags.p("The months are being read.")
        if seen.under_way:
            reactive.invalidate_later(LOOK_AGAIN_S)
        offered[:] = seen.stale
        return tags.div(
            tags.p(*(prose(sentence) for sentence in outcome.sentences)) if outcome else None,
            _offer(seen),
            table("Runs of these months", ("month", "run", "since", "asked for by", "month is now"), seen.rows)
            if seen.rows
            else None,
        )

    @reactive.effect
    @reactive.event(inputs["make_again"])
    async def _() -> None:
        months = tuple(offered)
        watched.update(months)
        said.set(await asyncio.to_thread(make_again, asked, months))


def _offer(seen: _Seen) -> TagChild:
    if not seen.stale:
        return None
    if not seen.daemon_alive:
        return tags.p(prose(with_stop(f"No daemon runs, so nothing starts from here: {command(seen.stale)}")))
    return ui.input_action_button("make_again", f"Make {span(seen.stale)} again", class_="btn-primary")


def _look(asked: Asked, watched: set[str]) -> _Seen:
    """What is stale, and the runs of the months that are `watched`; those that run are watched from now on."""
    overview = asked.reader.overview()
    watched.update(months_in(overview.months, State.RUNNING))
    runs = newest_runs(asked.reader.instance, sorted(watched))
    if any(record.end_time and record.end_time > overview.now.timestamp() for record in runs.values()):
        asked.reader.forget()
        overview = asked.reader.overview()
    return _Seen(
        months_in(overview.months, State.STALE),
        overview.daemon_alive,
        [_row(asked, month, record, overview.months) for month, record in runs.items()],
        under_way=not all(record.dagster_run.is_finished for record in runs.values())
        or any(one.month in watched and one.state in (State.RUNNING, State.PENDING) for one in overview.months),
    )


def _row(asked: Asked, month: str, record: dg.RunRecord, states: list[MonthState]) -> tuple[TagChild, ...]:
    run = record.dagster_run
    return (
        month,
        run.status.value.lower().replace("_", " "),
        moment(record.update_timestamp, asked.reader.settings.irt_time_zone),
        run.tags.get(LAUNCHED_BY) or DASH,
        tags.span(*(badge(one.state) for one in states if one.month == month)) if run.is_finished else DASH,
    )
