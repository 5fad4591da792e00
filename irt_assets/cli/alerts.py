"""The commands of `irt alerts`.

Exit codes: 0 done; 1 a channel did not accept the message, or a test found no configured channel; 2 the request is
wrong.
"""

import getpass
import os
import socket
from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, exit_with_failure, print_json, say
from irt_assets.cli.installation import current_settings
from resources.alerts.notifier import send_test
from resources.alerts.unit_failure import VIOLATION_STATUS, send_unit_failure

app = typer.Typer(no_args_is_help=True)


@app.command("test", epilog="Example: irt alerts test")
def send_test_alert(as_json: AsJson = False) -> None:
    """Send a test alert and its resolution to every configured channel, and print which arrived."""
    arrived = send_test(current_settings(), f"{getpass.getuser()}@{socket.gethostname()}")
    if as_json:
        print_json([{"channel": name, "arrived": why is None, "why": why} for name, why in arrived.items()])
    else:
        _print(arrived)
    exit_with_failure(not arrived or any(arrived.values()))


@app.command("unit-failed", epilog="Example: irt alerts unit-failed irt-daemon.service")
def unit_failed(unit: Annotated[str, typer.Argument(help="systemd unit, e.g. irt-daemon.service.")]) -> None:
    """Alert every configured channel that systemd gave up on a unit, with its result and last log lines.

    This is for `OnFailure=` and needs no database. Nothing is sent if
    irt-invariants ended because invariants are violated: they have alerts of
    their own.
    """
    if unit.startswith("irt-invariants") and os.environ.get("MONITOR_EXIT_STATUS") == str(VIOLATION_STATUS):
        say(f"{unit}: the violated invariants have alerts of their own")
        return
    arrived = send_unit_failure(current_settings(), unit)
    _print(arrived)
    exit_with_failure(any(arrived.values()))


def _print(arrived: dict[str, str | None]) -> None:
    say(*(f"{name}: {why or 'arrived'}" for name, why in arrived.items()))
    if not arrived:
        say(
            "no channel is configured: set SLACK_WEBHOOK_URL, DISCORD_WEBHOOK_URL, ALERT_EMAIL, PD_ROUTING_KEY or "
            "ALERT_WEBHOOK_URL"
        )
