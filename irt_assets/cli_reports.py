"""`irt report`: parse, call, print."""

from __future__ import annotations

import typer

app = typer.Typer()
