"""A month as people read it in its drift report: its answers, what was published, and its fit.

What does not belong here: what drift found (drift_sections.py), and how the month was linked (drift_linking.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from irt_assets.blocks import Block, Moment, Paragraph, Span, Text, table
from irt_assets.common.wording import counted, with_capital
from irt_assets.ledger.linked_windows import Linked
from irt_assets.ledger.steps import Step
from irt_assets.psychometrics.eligibility.attempts import Reason
from irt_assets.responses.scales import Scale


def answers(fit: Linked | None, counts: Mapping[str, int]) -> Iterator[Block]:
    """How many answers were fitted, and which were left out and why. counts: answers of the scale by their reason."""
    why = {str(reason): reason.explanation for reason in Reason}
    left_out = {reason: n for reason, n in counts.items() if n and reason in why}
    total = sum(counts.values())
    fitted = "No fit of the month is on the scale."
    if fit:
        fitted = f"{fit.n_responses:,} answers of {fit.n_persons:,} learners to {fit.n_items:,} items were fitted."
    if not total:
        yield Paragraph(fitted)
        return
    yield Paragraph(f"{fitted} {sum(left_out.values()):,} of {total:,} answers of the month were left out.")
    yield table(
        ("reason", "answers", "share", "why"),
        [
            (reason.replace("_", " "), n, n / total, why[reason])
            for reason, n in sorted(left_out.items(), key=lambda entry: -entry[1])
        ],
        numbers={"answers": ",", "share": ".1%"},
        caption="Answers that were left out",
    )


def published(step: Step | None, proposed: Mapping[str, int]) -> Iterator[Block]:
    """What publication did with the month's items. proposed: why items were only proposed, and how many."""
    if step is None:
        yield Paragraph("Nothing was published: the month has not come as far as publication.")
        return
    if step.state != "done":
        yield Paragraph(f"Nothing was published: {step.why}.")
        return
    first = with_capital(counted(step.n_published, "item"))
    yield Paragraph(
        f"{first} published for the first time, {step.n_proposed:,} proposed and {step.n_held:,} held back."
    )
    yield table(
        ("what", "items", "why"),
        [
            ("published for the first time", step.n_published, "in force from the end of the month"),
            *(("proposed", n, why) for why, n in proposed.items()),
            ("held back", step.n_held, "item gates did not pass" if step.n_held else ""),
        ],
        numbers={"items": ","},
        caption="Items by what publication did with them",
    )


def fit_facts(fit: Linked, scale: Scale, ui_url: str = "", zone: str = "UTC") -> dict[str, Text | None]:
    """Where the numbers of a month's fit come from. ui_url: of Dagster, for a link to the run."""
    run = f"{ui_url.rstrip('/')}/runs/{fit.run_id}" if ui_url and fit.run_id else ""
    return {
        "fit": Span(fit.fit_id, "code"),
        "engine": f"{fit.engine} {fit.engine_version}, model {fit.model}, {fit.iterations} iterations, log-likelihood "
        f"{fit.loglik:.2f}",
        "fitted": Moment(fit.fitted_at, zone),
        "software": settings_in_words(fit.spec.software),
        "priors": settings_in_words(fit.spec.priors or {}),
        "hash of the answers": Span(fit.data_hash, "code"),
        "hash of the snapshot": Span(fit.snapshot_hash, "code"),
        "anchor set": (f"version {scale.anchor_version}, ", Span(fit.anchor_hash, "code")),
        "linking": fit.constants.method,
        "code of the fit": Span(fit.code_version, "code"),
        "run": fit.run_id and Span(fit.run_id, "code", run),
    }


def settings_in_words(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
