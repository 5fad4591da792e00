"""The page of the engines: `python -m irt_assets.engines.reference > docs/reference/engine-table.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from irt_assets.engines import registry
from irt_assets.engines.spec import EngineSpec

HEADINGS = ("engine", "estimates", "models", "runs in", "needs", "fits a month", "asset", "kind", "pool")

INTRODUCTION = """# Engines

Made from the specs in `irt_assets/engines`. What a month does with them is in [engines.md](../how-to/engines.md).
"""


def markdown() -> str:
    """Every engine, in the order in which a month runs them."""
    rows = [
        INTRODUCTION,
        _line(HEADINGS),
        _line("---" for _ in HEADINGS),
        *(_line(_cells(spec)) for spec in registry.ENGINES),
    ]
    return "\n".join(rows) + "\n"


def _cells(spec: EngineSpec) -> tuple[str, ...]:
    needs = [f"`{package.name}` ({package.install})" for package in spec.python_packages]
    needs += [f"R package `{package.name}` ({package.install})" for package in spec.r_packages]
    if spec.r_packages:
        needs.append("or the R IRT service")
    has_asset = spec.for_comparison or spec.name == registry.DEFAULT
    if spec.name == registry.DEFAULT:
        months = "always"
    else:
        months = f"where IRT_ENGINES={spec.name}" if spec.for_comparison else "of scales that it publishes"
    return (
        f"`{spec.name}`",
        spec.method + ("; draws are kept" if spec.has_draws else ""),
        ", ".join(spec.models),
        spec.runs_in,
        ", ".join(needs) or ("the service" if spec.runs_in == "R IRT service" else "nothing"),
        months,
        f"`{registry.asset_of(spec.name)}`" if has_asset else "",
        spec.kind if has_asset else "",
        f"`{spec.pool}`" if has_asset else "",
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
