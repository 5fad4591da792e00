"""The page of the invariants: `python -m irt_assets.invariants.page > docs/reference/invariants.md`."""

from __future__ import annotations

import sys

from irt_assets.invariants.registry import INVARIANTS

HEAD = """# Invariants

Made from `irt_assets/invariants/registry.py`. Each is a function that only reads, and names every subject that
violates it. They run every night as checks of the asset `invariant_report`, and at any time with
`irt invariants run [--strict] [--json]` (exit code 0: all hold; 1: one is violated, with `--strict` also a warning or
something untested; 2: one could not be evaluated).

What cannot be tested (too few answers, no groups, no history yet) is listed first and makes the report *incomplete*;
it closes no violation and makes no month red. A violation that persists is one row of `invariant_result`, from the
run that opened it to `resolved_at`, and one alert.
"""


def markdown() -> str:
    """Every invariant: what it protects, its severity, how to fix it."""
    parts = [HEAD]
    for one in INVARIANTS:
        advice = f"Severity {one.severity}; it names {one.kind}. To fix it: {one.fix}"
        parts.append("\n\n".join(filter(None, [f"## `{one.name}`", one.protects, one.note, f"{advice}\n"])))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
