"""The commands of `irt tests`: declare adaptive tests, show and simulate them. Decisions are recorded after a
confirmation."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.policy_decision import SET_POLICY, PolicyRequest, last_decision_on
from irt_assets.adaptive.simulations import broken_promises
from irt_assets.adaptive.versions import TestVersion, version_in_force, versions_in_force
from irt_assets.cli.console import AsJson, DryRun, Yes, print_blocks, print_json, say
from irt_assets.cli.deciding import confirm_decision, confirm_undo
from irt_assets.cli.installation import By, Reason, current_database, current_settings
from irt_assets.decisions.release import midnight
from irt_assets.reports.adaptive_blocks import (
    AdaptiveFacts,
    adaptive_blocks,
    adaptive_facts,
    tests_table,
)
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)
Test = Annotated[str, typer.Argument(help="Test.")]


@app.command("list", epilog="Example: irt tests list")
def list_(as_json: AsJson = False) -> None:
    """List the adaptive tests in force."""
    found = [*current_database().call(versions_in_force, datetime.now(UTC)).values()]
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        print_blocks(tests_table(found))
    else:
        say("no adaptive test is offered: `irt tests set FILE` declares one")


@app.command(epilog="Example: irt tests show placement")
def show(test: Test, as_json: AsJson = False) -> None:
    """Show the policy of a test, whether it keeps its promises, and all versions."""
    now = datetime.now(UTC)
    with current_database().connect() as connection:
        _print(adaptive_facts(connection, version_in_force(connection, test, now), now), as_json)


@app.command(epilog="Example: irt tests simulate placement new.yaml --n 5000")
def simulate(
    test: Test,
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="Policy. Default: the version in force.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=100, max=100_000, help="Number of simulated tests.")] = 2_000,
    as_json: AsJson = False,
) -> None:
    """Simulate a test with the set in force and the learners of the last month.

    True parameters are drawn from the posterior of the items, so that the
    real error includes the errors of the items. Stores nothing.
    """
    now = datetime.now(UTC)
    with current_database().connect() as connection:
        if file:
            policy = Policy.from_yaml(file.read_bytes())
            if policy.test != test:
                raise PermanentFailure(f"{file} is a policy of test {policy.test}, not of test {test}")
            own = TestVersion(0, test, policy.scale, policy.model_dump(mode="json"), None, now, "", "", now)
        else:
            own = version_in_force(connection, test, now)
        _print(adaptive_facts(connection, own, now, n), as_json)


@app.command("set", epilog='Example: irt tests set placement.yaml --by Kim --reason "shorter"')
def set_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Policy in YAML.")],
    by: By,
    reason: Reason,
    begin: Annotated[str | None, typer.Option("--from", help="First day of the policy, UTC. Default: now.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Declare an adaptive test, or change its policy for sessions that begin later.

    Before it asks, the command prints the differences from the policy in
    force, the promises that simulated tests do not keep, and simulated tests
    before and after. It refuses policies that the set in force cannot meet.
    """
    since = midnight(begin, "--from") if begin else None
    request = PolicyRequest.of(Policy.from_yaml(file.read_bytes()), since)
    confirm_decision(SET_POLICY, request, by=by, reason=reason, yes=yes, dry_run=dry_run)


@app.command(epilog='Example: irt tests undo placement --by Kim --reason "too short"')
def undo(test: Test, by: By, reason: Reason, yes: Yes = False) -> None:
    """Restore the policy before the last decision, for sessions that begin later."""
    confirm_undo(current_database().call(last_decision_on, test), by=by, reason=reason, yes=yes)


def _print(facts: AdaptiveFacts, as_json: bool) -> None:
    own, found = facts.version, facts.simulation
    if as_json:
        promises = broken_promises(own.policy, found.summary)
        print_json(asdict(own) | {"simulation": found.summary, "broken_promises": promises, "exposure": found.exposure})
    else:
        say(f"Adaptive test {own.test_id} of scale {own.scale_id}.")
        print_blocks(*adaptive_blocks(facts, current_settings().irt_time_zone))
