"""What is known of a proposal, in words: the same on the command line and on pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irt_assets.decisions.proposals import Proposal


def evidence(proposal: Proposal) -> list[tuple[str, str]]:
    """Names and values, the question's own first."""
    drift, fit = proposal.drift, proposal.fit
    change = drift.get("change") or {}
    return [
        ("state", proposal.standing),
        ("proposed", f"{proposal.new} from {proposal.n or 0:,} answers"),
        ("published", f"{proposal.old}, since {proposal.old_since:%Y-%m-%d}" if proposal.old else "nothing"),
        ("area between the curves", "–" if proposal.wabc is None else f"wABC = {proposal.wabc:.3f}"),
        ("drift", proposal.severity + (f", Δb = {drift['delta_b']:+.2f}" if drift.get("delta_b") is not None else "")),
        ("kind of change", _change(change) if change else "–"),
        ("fit", ", ".join(f"{k} {fit[k]:.3f}" for k in ("infit", "outfit", "rmsd") if fit[k] is not None) or "–"),
        ("DIF", "not tested" if proposal.dif is None else "; ".join(proposal.dif) or "none found"),
        ("not published by itself", proposal.why),
        ("fit id", proposal.fit_id),
    ]


def drift_in_a_word(proposal: Proposal) -> str:
    return proposal.severity + (f" ({proposal.kind})" if proposal.kind else "")


def remarks(proposal: Proposal) -> list[str]:
    """What to look at, a few words each."""
    return ["anchor"] * proposal.anchor + [*proposal.fit["flags"], *(proposal.dif or ())]


def _change(change: Mapping[str, Any]) -> str:
    size = f", size {change['size']:.2f}" if change.get("size") is not None else ""
    return f"{change.get('kind', 'unclear')}{size}" + (f", from {change['onset']} on" if change.get("onset") else "")
