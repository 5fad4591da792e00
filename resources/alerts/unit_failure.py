"""The alert about a failed unit of systemd. It is sent without the outbox, because the database may be down."""

import socket
import subprocess
import zlib

from resources.alerts.notifier import Message, channels
from resources.alerts.outbox import Due
from resources.serving.logs import hide
from resources.settings import Settings

VIOLATION_STATUS = 3
"""Exit status of `irt job invariants` if an invariant is violated, which has its own alert."""
LOG_TAIL_LINES = 10
"""Lines of the journal in the alert."""
TIMEOUT_S = 20


def send_unit_failure(settings: Settings, unit: str) -> dict[str, str | None]:
    """Notify every channel that systemd gave up on `unit`.

    Returns for each channel None if the message arrived, else the reason why not.
    """
    due = Due(
        key=f"unit {unit}",
        alert_id=zlib.crc32(unit.encode()),  # the same at every failure, so that it opens one incident
        severity="error",
        what=f"{unit} failed on {socket.gethostname()}: {_output('systemctl', 'show', '-P', 'Result', unit)}",
        fix=f"systemctl status {unit}, journalctl -u {unit}; once fixed: systemctl reset-failed {unit}, then start it",
        kind="last lines",
        subjects=[hide(_output("journalctl", "-u", unit, "-n", str(LOG_TAIL_LINES), "-o", "cat", "--no-pager"))],
    )
    message = Message(due, settings.env_name, settings.ui_url)
    return {name: channel.send(message) for name, channel in channels(settings).items()}


def _output(*command: str) -> str:
    """The output of a command of systemd, or the reason why it failed."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({command[0]} gave no output: {error})"
    return ran.stdout.strip() or ran.stderr.strip() or "nothing"
