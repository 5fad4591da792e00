"""The command `irt simulate`."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.cli.console import out
from irt_assets.simulation.files import write
from irt_assets.simulation.response_log import simulate as simulate_log
from irt_assets.simulation.scenario import demo_scenario

app = typer.Typer()


@app.command(epilog="Example: irt simulate log --seed 7 --learners 500")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 1,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Assign items by the ability in the first session.")
    ] = False,
    scored: Annotated[bool, typer.Option("--scored", help="Score some items 0 to 3, 0 to 2, or 0 and 2.")] = False,
    learners: Annotated[int, typer.Option(min=1, help="New learners per month.")] = 1500,
) -> None:
    """Simulate a log with planted faults: write import files and truth.json."""
    scenario = replace(
        demo_scenario(datetime.now(UTC), seed, scored=scored),
        learners_per_month=learners,
        assignment="adaptive" if adaptive else "linear",
    )
    log, truth = simulate_log(scenario)
    files = write(log, truth, folder)
    out.print(
        f"{log.n_attempts:,} answers of {len(log.user_ids):,} learners in {folder}; the truth is in {files.truth}"
    )
