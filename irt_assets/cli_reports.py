"""`irt report`: parse, call, print.

Exit codes: 0 written, whatever it says; 2 the request is wrong, or a report cannot be made here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from irt_assets.console import AsJson, print_json, say
from resources.database import Database
from resources.failures import PermanentFailure
from resources.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="Reports that people read: drift of a month.")


@app.command()
def drift(
    month: Annotated[str | None, typer.Option(help="Calendar month, e.g. 2026-09. Default: the newest.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="The last N months instead of one.")] = None,
    scale: Annotated[str | None, typer.Option(help="Only this scale, where a bank has several.")] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder. Default: REPORT_OUTPUT_DIR, else reports under IRT_HOME.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the drift report of a month, or of the last N, as HTML and PDF. Works for a red month too."""
    from irt_assets.reports import drift_month
    from irt_assets.stack import dagster_instance
    from resources.object_store import object_store

    settings = get_settings()
    database, store = Database(settings), object_store(settings)
    if month is not None and last is not None:
        raise PermanentFailure("--month and --last ask for different months: give one of them")
    windows = drift_month.windows(database)
    if not windows:
        raise PermanentFailure("no month has been calibrated yet: `irt calibrate --month MONTH`")
    if month is not None and month not in windows:
        raise PermanentFailure(f"{month} is no month that was calibrated; there are: {', '.join(sorted(windows))}")
    chosen = [month] if month is not None else windows[: last or 1]
    written = []
    with dagster_instance(settings, database) as instance:
        for one in chosen:
            for report in drift_month.make(database, store, instance, one, scale):
                folder = out_dir or settings.report_output_dir or settings.irt_home / "reports"
                paths = drift_month.write(report, folder, windows.index(one) + 1)
                written.append(
                    {
                        "month": one,
                        "scale": report.scale_id,
                        "window": windows.index(one) + 1,
                        "safe_to_release": report.verdict.mark,
                        "sentence": report.verdict.in_short,
                        "files": [str(path) for path in paths],
                    }
                )
                if not as_json:
                    say(report.verdict.in_short)
                    for path in paths:
                        say(f"  {path} ({path.stat().st_size / 1024:.0f} KiB)")
    if as_json:
        print_json(written)
    elif len(chosen) < (last or 1):
        say(f"there are only {len(chosen)} months to report on")
