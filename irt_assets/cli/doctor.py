"""The command `irt doctor`.

Exit codes: 0 no errors were found; 1 some were; 2 the settings cannot be read.
"""

import typer

from irt_assets.blocks import Badge, table
from irt_assets.cli.console import AsJson, exit_with_failure, print_blocks, print_json
from irt_assets.cli.installation import current_settings
from irt_assets.engines.diagnosis import engine_findings
from resources.doctor import diagnose

app = typer.Typer()


@app.command(epilog="Example: irt doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check what is installed, reachable and misconfigured."""
    settings = current_settings()
    findings = diagnose(settings, engine_findings(settings))
    if as_json:
        print_json([{"subject": f.subject, "state": f.state, "detail": f.detail, "fix": f.fix} for f in findings])
    else:
        marks = {"ok": Badge("ok", "good"), "warn": Badge("warn", "warning"), "error": Badge("error", "bad")}
        rows = [(marks.get(f.state), f.subject, f.detail + (f"\n→ {f.fix}" if f.fix else "")) for f in findings]
        print_blocks(table(("", "what", "detail"), rows))
    exit_with_failure(any(f.state == "error" for f in findings))
