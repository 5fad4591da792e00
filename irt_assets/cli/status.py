"""The command `irt status`.

Exit codes: 0 every month is green; 1 one is not; 2 the request is wrong.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import typer

from irt_assets.blocks import Text, table
from irt_assets.cli.console import AsJson, escape, exit_with_failure, out, print_blocks, print_json
from irt_assets.cli.installation import current_database, current_instance
from irt_assets.common.wording import quantity, shorten, some_of, span
from irt_assets.gates.month_classification import MonthState
from jobs.watching.alerts import backup_alert
from jobs.watching.overview import Overview, SparkState, as_dict, collect_overview
from jobs.watching.stuck_runs import fail_lost_runs

app = typer.Typer()
NAMES_SHOWN = 3
LINES_SHOWN = 5
"""Maximum number of violations, of alerts and of runs listed, so that everything fits on a screen."""
MAX_TEXT_LENGTH = 100
"""Maximum number of characters shown of a sentence on a month, an alert or a violation."""
GREEN_IN_A_LINE = 3
"""Minimum number of consecutive green months that share a line."""


@app.command(epilog="Example: irt status")
def status(as_json: AsJson = False) -> None:
    """Show the daemon, schedules, months, open problems and runs on one screen."""
    database = current_database()
    with current_instance(database) as instance:
        fail_lost_runs(instance)
        overview = collect_overview(database, instance, database.settings)
    if as_json:
        print_json(as_dict(overview))
    else:
        show(overview, ZoneInfo(database.settings.irt_time_zone))
    exit_with_failure(any(month.state not in ("green", "origin") for month in overview.months))


def show(overview: Overview, zone: ZoneInfo) -> None:
    def at(time: datetime | None) -> str:
        return time.astimezone(zone).strftime("%m-%d %H:%M") if time else "–"

    if overview.daemon_alive:
        out.print(f"daemon: [green]alive[/green]   times: {zone.key}")
    else:
        since = f"since {at(overview.daemon_seen)}" if overview.daemon_seen else "and never was"
        out.print(f"daemon: [red]not running[/red] {since}: no schedule ticks, no queued run starts → irt serve")
    if overview.last_backup:
        mark = "[red]late[/red]" if backup_alert(overview.last_backup, overview.now) else "[green]made[/green]"
        out.print(f"backup: {mark} {at(overview.last_backup.made_at)} {escape(overview.last_backup.address)}")
    if overview.on_spark:
        out.print(_spark_line(overview.on_spark))
    rows = [(s.job, s.badge, at(s.last_tick), s.result, at(s.next_tick), s.newest) for s in overview.schedules]
    print_blocks(table(("schedule", "", "last tick", "its runs", "next tick", "newest"), rows))
    for late in filter(None, (s.late for s in overview.schedules)):
        out.print(f"[red]late[/red] {escape(late)}")
    for source in overview.intake:
        out.print(
            f"answers: {escape(source.source)} last {at(source.last)}; in 24 h {source.read:,} rows, "
            f"{source.stored:,} stored, {source.refused:,} refused"
        )
    for silent in overview.silent:
        out.print(f"[red]silent[/red] {escape(silent.sentence(overview.now))}")
    for line in overview.pulls:
        out.print(f"pull: {escape(line)}")
    out.print()
    print_blocks(table(("month", "scale", "state", "why"), [*_months(overview.months)]))
    _print_some(
        "closed:",
        [
            f"{closing.month} ({closing.scale_id}), {closing.sentence} → irt month reopen {closing.month}"
            for closing in overview.changed
        ],
    )
    if overview.waiting:
        out.print(f"{escape(waiting_line(overview.waiting))} → irt release list")
    _print_some("key", [f"{item}: {shorten(why, MAX_TEXT_LENGTH)}" for item, why in overview.suspect_keys.items()])
    _print_some(
        "invariants",
        [f"were evaluated {at(overview.evaluated_at)}, before {overview.outdated} → irt invariants run"]
        * bool(overview.outdated),
    )
    _print_some(
        "violated",
        [f"{v.invariant}: {v.subjects} open, e.g. {shorten(v.example, MAX_TEXT_LENGTH)}" for v in overview.violations],
    )
    _print_some(
        "alert", [f"{at(a.opened_at)} {a.partition} {shorten(a.what, MAX_TEXT_LENGTH)}" for a in overview.alerts]
    )
    _print_some("run", [f"{r.name} {r.partition} {r.status} since {at(r.since)}" for r in overview.runs])


def _spark_line(on_spark: SparkState) -> str:
    where = f"Spark: {on_spark.master or 'not set'}   log: {on_spark.attempts or 'not set'}"
    if on_spark.last_day is None:
        return escape(where)
    days = f"to {on_spark.last_day}" if on_spark.last_day else "no day written yet → irt attempts export"
    verdicts = {
        True: "[green]equals the database[/green]",
        False: "[red]differs from the database[/red] → irt attempts check",
        None: "not compared yet",
    }
    return f"{escape(where)} {days}, {verdicts[on_spark.equals_log]}"


def waiting_line(references: Sequence[str]) -> str:
    """A sentence with the number of proposals that wait for a decision, and the first of them."""
    many = "1 proposal waits" if len(references) == 1 else f"{len(references)} proposals wait"
    return f"{many}: {some_of(references, NAMES_SHOWN)}"


def _months(states: Sequence[MonthState]) -> Iterator[tuple[Text, ...]]:
    by_scale = sorted(states, key=lambda state: (state.scale_id, state.month))
    for (scale_id, state), run in groupby(by_scale, lambda month_state: (month_state.scale_id, month_state.state)):
        months = list(run)
        if state in ("empty", "origin") or (state == "green" and len(months) >= GREEN_IN_A_LINE):
            whys = {"empty": f"{quantity(len(months), 'month')} without answers", "origin": months[0].why}
            why = whys.get(state, f"{len(months)} months")
            yield span(months[0].month, months[-1].month), scale_id, state.badge, why
        else:
            yield from (
                (month_state.month, scale_id, state.badge, shorten(month_state.why, MAX_TEXT_LENGTH))
                for month_state in months
            )


def _print_some(label: str, lines: list[str]) -> None:
    for line in lines[:LINES_SHOWN]:
        out.print(f"[bold]{label}[/bold] {escape(line)}")
    if len(lines) > LINES_SHOWN:
        out.print(f"[bold]{label}[/bold] … and {len(lines) - LINES_SHOWN} more (--json shows all)")
