"""Stale months made again from a page: one button, and how far their runs are.

What does not belong here: how runs are queued (see `irt_assets.runs.queue`), and who may (see `deciding`).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import dagster as dg
from htmltools import TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.blocks import DASH, Text, table
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import months_between
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.common.wording import listed
from irt_assets.gates.month_judged import State
from jobs.launching.launched_by import LAUNCHED_BY
from services.dashboard.deciding import DECIDER, make_again, may_decide
from services.dashboard.figures import shown
from services.dashboard.page import Asked
from services.dashboard.reader import BeingRead

LOOK_AGAIN_S = 3.0


def place(asked: Asked) -> TagChild:
    """Where the button and the progress of the runs appear, for those who may make months again."""
    if not may_decide(asked.identity):
        return tags.p(f"Making months again needs the role {DECIDER}.", class_="text-body-secondary")
    return tags.div(ui.output_ui("making"), aria_live="polite", class_="my-3")


def converse(asked: Asked, inputs: Inputs) -> None:
    """Show the button and the runs for as long as the page is open."""
    watched: set[str] = set()
    offered: list[str] = []
    said: reactive.Value[tuple[str, ...]] = reactive.Value(())

    @render.ui
    async def making() -> TagChild:
        sentences, now = said(), Look(tags.p("The months are being read."), offered, goes_on=True)
        with suppress(BeingRead):
            now = await asyncio.to_thread(_look, asked, watched)
        offered[:] = now.stale
        if now.goes_on:
            reactive.invalidate_later(LOOK_AGAIN_S)
        return TagList(tags.p(*sentences) if sentences else None, now.shown)

    @reactive.effect
    @reactive.event(inputs["make_again"])
    async def _() -> None:
        watched.update(offered)
        said.set((await asyncio.to_thread(make_again, asked, tuple(offered))).sentences)


@dataclass(frozen=True)
class Look:
    """What is shown, the stale months, and whether to look again soon."""

    shown: TagChild
    stale: list[str]
    goes_on: bool


def _look(asked: Asked, watched: set[str]) -> Look:
    """The button with the runs of the months that are `watched`; a month that runs is watched from now on."""
    overview = asked.reader.overview()
    watched.update(one.month for one in overview.months if one.state is State.RUNNING)
    chosen = [dg.RunsFilter(job_name=MONTHLY_JOB, tags={PARTITION_TAG: month}) for month in sorted(watched)]
    runs = [run for one in chosen for run in asked.reader.instance.get_run_records(one, limit=1)]
    if any(run.end_time and run.end_time > overview.now.timestamp() for run in runs):
        asked.reader.forget()
        overview = asked.reader.overview()
    states = {month: [one.state for one in overview.months if one.month == month] for month in sorted(watched)}
    goes_on = any(state in (State.RUNNING, State.PENDING) for found in states.values() for state in found)
    stale = sorted({one.month for one in overview.months if one.state is State.STALE})
    rows: list[tuple[Text, ...]] = []
    for run in (one.dagster_run for one in runs):
        month, status = run.tags[PARTITION_TAG], run.status.value.lower().replace("_", " ")
        rows.append((month, status, run.tags.get(LAUNCHED_BY) or DASH, tuple(state.badge for state in states[month])))
    headers = ("month", "run", "asked for by", "month is now")
    older = tags.p("Nothing runs any more: ", tags.a("load this page again", href=""), ", the rest of it is older.")
    seen = shown(
        _button(stale, daemon_alive=overview.daemon_alive) if stale else None,
        table(headers, rows, caption="Runs of these months") if rows else None,
        older if rows and not goes_on else None,
    )
    return Look(seen, stale, goes_on)


def _button(months: Sequence[str], *, daemon_alive: bool) -> TagChild:
    """The button; without a daemon, what to type instead."""
    if not daemon_alive:
        by_hand = tags.code(f"irt backfill --from {months[0]} --to {months[-1]}")
        return tags.p("No daemon runs, so nothing starts from here: ", by_hand)
    in_a_row = len(months) > 1 and [*months_between(months[0], months[-1])] == [*months]
    span = f"{months[0]} … {months[-1]}" if in_a_row else listed(months, 5)
    return ui.input_action_button("make_again", f"Make {span} again", class_="btn-primary")
