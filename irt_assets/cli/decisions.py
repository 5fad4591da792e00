"""The commands of `irt decisions`: list the decisions of people, and undo one after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from dataclasses import asdict
from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, Yes, print_blocks, print_json
from irt_assets.cli.deciding import confirm_undo
from irt_assets.cli.installation import By, Reason, current_database, current_settings
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.reports.decision_blocks import decisions_table

app = typer.Typer()


@app.callback(invoke_without_command=True, epilog="Example: irt decisions --subject A21")
def decisions(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", help="Kind, as in the list.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="Scale.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Item, test, form or month.")] = None,
    person: Annotated[str | None, typer.Option("--person", help="Person who decided.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the decisions of people, the newest first, and undo one."""
    if context.invoked_subcommand:
        return
    wanted = {"kind": kind, "by": person}
    found = [
        decision
        for decision in current_database().call(newest_decisions, scale_id=scale)
        if all(value in (None, getattr(decision, name)) for name, value in wanted.items())
        and subject in (None, decision.item_id, decision.window, decision.subject)
    ]
    if as_json:
        print_json([asdict(decision) for decision in found])
    else:
        print_blocks(decisions_table(found, current_settings().irt_time_zone, numbers=True))


@app.command(epilog='Example: irt decisions undo 17 --by Kim --reason "decided on the wrong item"')
def undo(
    number: Annotated[int, typer.Argument(help="Number of the decision.")], by: By, reason: Reason, yes: Yes = False
) -> None:
    """Undo a decision, by a new decision that names it."""
    confirm_undo(number, by=by, reason=reason, yes=yes)
