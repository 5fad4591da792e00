"""Blocks on a scale's origin window: items published and left out, and the fit of the model.

The drift report and the dashboard's page of a month in the window show them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta

from irt_assets.blocks import Block, List, Paragraph, number, table
from irt_assets.common.wording import in_words, join_names, quantity, sentence
from irt_assets.decisions.origin import OriginSummary
from irt_assets.drift import dif_page
from irt_assets.reports.drift_facts import Facts


def origin_in_words(origin: OriginSummary) -> str:
    """The window and the numbers of items published and left out, as a clause."""
    return f"the origin window ({days(origin)}): {published_counts(origin)}"


def days(origin: OriginSummary) -> str:
    """The first and the last day of the window, as text."""
    last = origin.window.window_end - timedelta(microseconds=1)
    return f"{origin.window.window_start:%Y-%m-%d} to {last:%Y-%m-%d}"


def published_counts(origin: OriginSummary) -> str:
    """The numbers of items that were published with the scale and left out, as a clause."""
    n, out = len(origin.published_items), len(origin.left_out)
    rest = f"{in_words(out)} {'was' if out == 1 else 'were'} left out" if out else "none was left out"
    return f"{n} of {quantity(n + out, 'item')} were published with the scale, {rest}"


def publication(origin: OriginSummary) -> Iterator[Block]:
    """Yield the number of published items, and a table of the items that were left out, with reasons."""
    yield Paragraph(sentence(published_counts(origin)))
    if origin.left_out:
        yield table(("left out", "why"), list(origin.left_out.items()), caption="Items that were left out")


def model_fit(origin: OriginSummary) -> Iterator[Block]:
    """Yield the fit statistics of the whole set, one sentence each."""
    statistics = origin.fit.model_spec.fit_statistics
    if statistics is not None:
        yield Paragraph(f"Reliability {number(statistics.reliability)}.")
    yield List(tuple(map(sentence, origin.in_words)))


def answers(origin: OriginSummary, counts: Mapping[str, int]) -> str:
    """The size of the fit, as sentences. `counts` are answers of the window by reason, empty if unknown."""
    window, total = origin.window, sum(counts.values())
    left_out = f" {total - window.n_responses:,} of {total:,} answers of the window were left out." if total else ""
    return (
        f"{window.n_responses:,} answers of {window.n_persons:,} learners to {quantity(len(origin.fit.items), 'item')} "
        f"were fitted.{left_out}"
    )


def key_figures(facts: Facts, origin: OriginSummary) -> list[tuple[str, str]]:
    """Key figures of the first page, as pairs of name and words."""
    window = origin.window
    flags = Counter(flag.replace("_", " ") for item in facts.items.values() for flag in item.flags)
    measured = f"; {facts.measured.learners:,} were measured" if facts.measured else ""
    flagged = join_names(f"{name} {n}" for name, n in flags.most_common()) or "no item"
    return [
        ("publication", published_counts(origin)),
        ("answers", f"{window.n_responses:,} of {window.n_persons:,} learners{measured}"),
        ("flagged by the engine", flagged),
        ("DIF", dif_page.dif_summary((*facts.dif_attributes, *facts.dif)) if facts.dif_attributes else "not tested"),
        ("drift", "begins after the window"),
    ]
