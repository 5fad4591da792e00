"""The command `irt demo`: four simulated months, or your own log, from import to the Dagster UI.

Exit codes: 0 all findings are as expected; 1 some are not; 2 the request or its input is wrong.
"""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.blocks import Badge, table
from irt_assets.cli.console import choose, months_table, print_blocks, say
from irt_assets.cli.import_ import Dichotomise, Mapping, MaxScores, Missing, ScoringKey
from irt_assets.cli.installation import current_settings
from irt_assets.cli.scale import parse_settings
from irt_assets.cli.serve import serve_until_interrupted, stop_own_server
from irt_assets.demo import own_log, simulated
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.intake.load import import_attempts
from irt_assets.intake.suggestion import make_choices
from irt_assets.servers import demo_services
from irt_assets.servers.instance import dagster_instance
from irt_assets.servers.stack import Stack
from irt_psychometrics.cells import codes_by_column
from irt_psychometrics.items import ScaleModel
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.serving import logs

app = typer.Typer()


@app.command(epilog="Example: irt demo --data choices.csv --key key.csv --at 2026-09-01")
def demo(
    data: Annotated[Path | None, typer.Option(help="Your own log instead of the simulated months.")] = None,
    mapping: Mapping = "auto",
    zone: Annotated[str | None, typer.Option(help="Time zone of times without one, e.g. Asia/Seoul.")] = None,
    at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of a log without times, YYYY-MM-DD.")
    ] = None,
    dichotomise: Dichotomise = None,
    key: ScoringKey = None,
    max_score: MaxScores = None,
    missing: Missing = None,
    model: Annotated[ScaleModel, typer.Option(help="Item response model for your own log.")] = DEFAULT_MODEL,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Rule of its scale, e.g. min_responses=300. May be repeated.")
    ] = None,
    serve_ui: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the Dagster UI at the end.")] = True,
) -> None:
    """Calibrate, publish, compare and serve four simulated months, or your own log."""
    with logs.print_for_people(), stop_own_server(current_settings()):
        if data is not None:
            make_choices(mapping, choose)
            settings = own_log.own_log(
                current_settings(),
                data,
                say,
                dagster_instance,
                partial(
                    import_attempts,
                    files=[data],
                    mapping=mapping,
                    zone=zone,
                    at=at.date() if at else None,
                    dichotomise=dichotomise,
                    key=key,
                    max_scores=max_score or (),
                    missing=codes_by_column(missing),
                    first_month=own_log.EARLIEST_MONTH,
                ),
                model=model,
                rules=parse_settings(setting),
            )
            as_expected = True
        elif dichotomise or key or max_score or missing or setting:
            raise PermanentFailure("the options of scores, keys and rules are for your own log: --data FILE")
        else:
            done = simulated.run_simulated(current_settings(), say, dagster_instance)
            settings = done.settings
            print_blocks(months_table(done.states), done.new_items)
            marks = {True: Badge("as expected", "good"), False: Badge("NOT as expected", "bad")}
            rows = [(f.fault, f.planted, f.found, marks[f.as_expected]) for f in done.findings]
            print_blocks(table(("planted", "where", "found", ""), rows))
            as_expected = all(f.as_expected for f in done.findings)
        if serve_ui:
            settings, services = demo_services.services(settings)
            serve_until_interrupted(Stack(settings, Database(settings), services=services))
    if not as_expected:
        raise typer.Exit(1)
