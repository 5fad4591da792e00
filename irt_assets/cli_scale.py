"""`irt scale …`: a scale's origin, its pass mark and its rules."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from irt_assets.console import confirm, out, say
from irt_assets.installation import current_database, current_settings, current_store
from resources.failures import PermanentFailure

if TYPE_CHECKING:
    from resources.database import Database

app = typer.Typer(no_args_is_help=True, help="Scales, their origin and their rules.")

ScaleId = Annotated[str, typer.Option("--scale", help="Scale (bank whose items measure one ability).")]


@app.command()
def init(
    scale: ScaleId = "default",
    origin: Annotated[
        str | None,
        typer.Option(help="Month whose fit becomes the origin, or FROM:TO days. Default: the bank's anchors."),
    ] = None,
    mu: Annotated[float, typer.Option(help="Mean θ of the population that is reported against.")] = 0.0,
    sigma: Annotated[float, typer.Option(min=0.01, help="Its standard deviation.")] = 1.0,
    engine: Annotated[str, typer.Option(help="Engine whose fits are published.")] = "em",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Rule of the scale, e.g. min_responses=300.")
    ] = None,
) -> None:
    """Freeze a scale's anchors and publish their values. Done once."""
    from irt_assets.calibration.origin import OriginWindow, initialise
    from irt_assets.engines import build

    settings = current_settings()
    database = current_database()
    done = initialise(
        database,
        scale,
        first_month=settings.irt_first_month,
        mu=mu,
        sigma=sigma,
        thresholds=settings_of(setting),
        engine=engine,
        window=OriginWindow(*_window_of(origin), build(engine, threads=settings.irt_threads), current_store(database))
        if origin
        else None,
    )
    out.print(f"scale {scale}: {done.anchors} anchors frozen and published from {settings.irt_first_month} on")
    if done.errors_assumed:
        out.print(
            f"  {done.errors_assumed} of them came without errors: those of a calibration with n = 500 are assumed"
        )
    for item, why in list(done.left_out.items())[:10]:
        out.print(f"  left out: {item}: {escape(why)}")
    if len(done.left_out) > 10:
        out.print(f"  … and {len(done.left_out) - 10} more")


@app.command()
def pass_mark(
    theta: Annotated[float, typer.Argument(help="θ from which on a learner has passed.")], scale: ScaleId = "default"
) -> None:
    """Set the pass mark, so that the effect of a release decision says who crosses it."""
    from irt_assets.responses.scales import set_pass_mark

    set_pass_mark(current_database(), scale, theta)
    out.print(f"scale {scale}: passed from θ = {theta:g} on")


def settings_of(pairs: list[str] | None) -> dict[str, Any]:
    settings = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not sign:
            raise PermanentFailure(f"--set wants NAME=VALUE, got {pair!r}")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


def confirm_and_change_rules(
    database: Database, scale_id: str, month: str, settings: dict[str, Any], yes: bool
) -> None:
    """Say what the change makes stale, ask, and change the scale."""
    from irt_assets.responses.scales import change_rules, consider_rules
    from irt_assets.responses.snapshot import months_of_other_rules

    with database.connect() as connection:
        change = consider_rules(connection, scale_id, settings)
        stale = [other for other in months_of_other_rules(connection, change.after) if other != month]
    say(change.sentence)
    if change.before == change.after:
        return
    say(
        f"it holds for every month from now on; stale until calibrated again: {', '.join(stale)}"
        if stale
        else "it holds for every month from now on; no other month becomes stale"
    )
    confirm(f"change the rules of scale {scale_id}?", yes)
    change_rules(database, scale_id, settings)


def _window_of(origin: str) -> tuple[datetime, datetime]:
    from irt_assets.partitions import month_bounds

    try:
        if ":" not in origin:
            return month_bounds(origin)
        first, last = (date.fromisoformat(day) for day in origin.split(":"))
    except ValueError:
        raise PermanentFailure(f"--origin wants a month (2026-07) or FROM:TO days, got {origin!r}") from None
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
    return start, end
