"""`irt nightly`: parses, calls, prints. For those who run without the daemon: the same job, by a timer.

Exit codes: 0 done; 1 it ran and failed; 2 the request is wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from irt_assets.console import Panel, out
from irt_assets.installation import current_database, current_settings

app = typer.Typer()


@app.command(rich_help_panel=Panel.MONTH)
def nightly(
    day: Annotated[str | None, typer.Option(help="Day, e.g. 2026-09-14. Default: yesterday, UTC.")] = None,
) -> None:
    """Fit and link the 30 days that end with a day, and measure everyone, here and now."""
    from irt_assets.partitions import DAYS
    from irt_assets.runs import run_night
    from irt_assets.stack import dagster_instance

    settings = current_settings()
    with dagster_instance(settings, current_database()) as instance:
        outcome = run_night(instance, settings, day or DAYS.back(datetime.now(UTC), 1)[0])
    for warning in outcome.warnings:
        out.print(f"{outcome.partition}: [yellow]look at[/yellow] {escape(warning)}")
    if not outcome.success:
        out.print(f"{outcome.partition}: [red]failed[/red] – {escape(outcome.error or '')}")
        raise typer.Exit(1)
    out.print(f"{outcome.partition}: done")
