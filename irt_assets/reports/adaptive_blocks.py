"""Blocks about an adaptive test: its policy in words, its simulated properties against its promises, and its versions.

The dashboard's page of a test and `irt tests show` show them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import (
    TestSimulation,
    broken_promises,
    precision,
    read_simulations,
    simulate_test,
)
from irt_assets.adaptive.versions import TestVersion, read_versions
from irt_assets.blocks import (
    Block,
    Box,
    Document,
    Figure,
    Figures,
    List,
    Moment,
    Paragraph,
    Section,
    Table,
    notice,
    number,
    pairs,
    percent,
    table,
    without_page_links,
)
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import sentence
from irt_psychometrics.plots import Chart
from resources.version import code_version

SIMULEES_FOR_A_PAGE = 2_000
ITEMS_SHOWN = 10
REAL_ERROR = (
    "The real error is the difference from the true θ if the items' values have errors. It can be larger than the "
    "reported one, because an adaptive test prefers items whose values are too favourable by chance."
)
METHODS = {
    "maximum-information": "the item with the most information at the current θ",
    "expected-information": "the item with the most information at the current θ, less for items with large errors",
    "kullback-leibler": "the item with the most Kullback-Leibler information",
    "posterior-variance": "the item after which the variance of θ is expected to be smallest",
    "progressive": "at random at first, and by information towards the end",
}
STOPS = {
    "max-items": "maximum length reached",
    "max-se": "standard error reached",
    "classified": "decision certain",
    "no-item": "no item can be given",
}


@dataclass(frozen=True)
class AdaptiveFacts:
    """A test.

    Attributes:
        version: the version in force.
        versions: all versions, oldest first.
        simulation: the newest stored simulation of the version, or else one by the present set.
    """

    version: TestVersion
    versions: Sequence[TestVersion]
    simulation: TestSimulation


def adaptive_facts(
    connection: psycopg.Connection, own: TestVersion, at: datetime, n: int | None = None
) -> AdaptiveFacts:
    """Read about a version of a test. If `n` is given, n tests are simulated with the set in force at `at`.

    Stores nothing.
    """
    stored = [] if n else read_simulations(connection, version=own.version)
    simulation = stored[-1] if stored else simulate_test(connection, own, at, n=n or SIMULEES_FOR_A_PAGE)
    return AdaptiveFacts(own, read_versions(connection, own.test_id), simulation)


def document(facts: AdaptiveFacts, at: datetime, zone: str) -> Document:
    """Return the test's page as a document."""
    own, title = facts.version, f"Adaptive test {facts.version.test_id}"
    return Document(
        title=title,
        subtitle=f"scale {own.scale_id} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=title,
        language="en",
        kind="bank",
        blocks=without_page_links(tuple(adaptive_blocks(facts, zone))),
    )


def adaptive_blocks(facts: AdaptiveFacts, zone: str = "UTC") -> Iterator[Block]:
    """Yield all blocks about the test."""
    policy, simulation, summary = facts.version.policy, facts.simulation, facts.simulation.summary
    yield policy_in_words(policy)
    yield promises(facts)
    if "why" not in summary:
        yield key_figures(summary)
        yield Section("Precision", (Paragraph(REAL_ERROR), precision(summary)), "precision")
        stops = [f"{STOPS[name]}: {percent(share)}" for name, share in summary["stops"].items()]
        yield Section("Length", (List(tuple(map(sentence, stops))),), "length")
        yield Section("Exposure", tuple(_exposure(simulation, policy.exposure.max)), "exposure")
    if met := summary.get("limits"):
        rows = [(own.name, own.least, own.most, met[own.name]) for own in policy.declaration({}, 0.0).limits]
        formats = {"min": ",", "max": ",", "met in": ".1%"}
        content = table(("group", *formats), rows, numbers=formats, caption="Items of each group in a test")
        yield Section("Content", (content,), "content")
    if facts.versions:  # a policy that is tried may be new
        yield Section("Versions", (versions_table(facts.versions, zone),), "versions")


def policy_in_words(policy: Policy) -> Block:
    """Return the rules of a policy."""
    rules, exposure, most = policy.classify, policy.exposure, policy.length.max
    cut = "the pass mark of the scale" if rules is None or rules.cut is None else f"θ = {rules.cut:g}"
    by = "the interval of θ" if rules and rules.rule == "interval" else "a sequential test (SPRT)"
    cuts = ", ".join(f"{cut:g}" for cut in exposure.theta_cuts)
    groups = [f"{own.name}: {own.least} to {own.most or most}" for own in policy.declaration({}, 0.0).limits]
    content = "; ".join(groups + ["items of a testlet together"] * policy.testlets)
    return pairs(
        {
            "length": _length(policy),
            "pass or fail": f"at {cut} by {by}; the test ends as soon as the decision is certain" if rules else None,
            "next item": METHODS[policy.method],
            "drawn from the best": f"{exposure.randomesque} items" if exposure.randomesque > 1 else None,
            "first items by": "the population" if policy.start == "population" else "the learner's θ of now",
            "score": f"{policy.estimator.upper()} from the answers of the session and "
            + ("the population" if policy.score_by == "session" else "the learner's θ of now"),
            "content": content,
            "content held by": content and ("shadow tests" if policy.content == "shadow" else "priority"),
            "largest exposure": f"{percent(exposure.max)} of the learners" if exposure.max else None,
            "in each interval of θ between": cuts,
            "places without a score": f"{percent(policy.unscored)}, for items without published values"
            if policy.unscored
            else None,
            "no item again within": f"{policy.look_back_days} days" if policy.look_back_days else None,
        },
        small=True,
    )


def _length(policy: Policy) -> str:
    own = policy.length
    least = f"{own.min} to " if own.min < own.max else ""
    return f"{least}{own.max} items" + (f", until the standard error is {own.se:g}" if own.se else "")


def promises(facts: AdaptiveFacts) -> Box:
    """Return whether the simulation keeps the promises of the policy."""
    simulation = facts.simulation
    if found := broken_promises(facts.version.policy, simulation.summary):
        lead = Paragraph(f"By the set of {simulation.month}, the tests do not keep all promises of the policy:")
        return Box((lead, List(tuple(map(sentence, found)))), "warning")
    tests = f"{simulation.summary['n']:,} simulated tests with the set of {simulation.month}"
    return notice(f"{tests} keep the promises of the policy.", "good")


def key_figures(found: Mapping[str, Any]) -> Block:
    """Return the results over all learners."""
    return pairs(
        {
            "simulated learners": f"{found['n']:,} of {found['learners']}",
            "real error (RMSE)": f"{number(found['rmse'], 3)}, bias {number(found['bias'], 3)}",
            "reported standard error": number(found["mean_se"], 3),
            "standard error reached": percent(found["precise"]) if found["precise"] is not None else None,
            "reported / real error": number(found["capitalisation"], 2),
            "mean length": f"{number(found['length'], 1)} items",
            "largest exposure": f"{percent(found['max_exposure'])}, item {found['max_item']}",
            "overlap of two tests": percent(found["overlap"]),
            "passes": percent(found["pass_rate"]) if found["pass_rate"] is not None else None,
            "right decisions": percent(found["accuracy"]) if found["accuracy"] is not None else None,
            "at the ends of the indifference region": ", ".join(
                f"{name.replace('_', ' ')} {percent(share)}" for name, share in found.get("error_rates", {}).items()
            )
            or None,
        },
        small=True,
    )


def _exposure(simulation: TestSimulation, limit: float | None) -> Iterator[Block]:
    shares = simulation.exposure
    top = 1.08 * max(*shares.values(), limit or 0.0)
    columns, rows = "items, the most exposed first", "share of the tests"
    chart = Chart((0, len(shares) + 1), (0, top), columns, rows, "Exposure by item.").level(limit or 0.0)
    chart.line(range(1, len(shares) + 1), [*shares.values()], steps=True)
    yield Paragraph(f"Never given: {sum(x == 0 for x in shares.values())} of {len(shares)} items.")
    described = "Exposure by item." + ("" if limit is None else f" Line: the limit of {percent(limit)}.")
    yield Figures((Figure(chart, described),))
    most = [
        (page_link(item, "item", scale=simulation.scale_id, item=item), share)
        for item, share in [*shares.items()][:ITEMS_SHOWN]
    ]
    yield table(("item", "exposure"), most, numbers={"exposure": ".1%"}, caption="The most exposed items")


def versions_table(versions: Sequence[TestVersion], zone: str) -> Table:
    """Return the versions of a test, the newest first."""
    rows = [
        (
            each.version,
            Moment(each.effective_from, zone),
            f"undoes version {each.undoes}" if each.undoes else "not offered" if each.stored is None else "policy set",
            each.decided_by,
            each.reason,
        )
        for each in reversed(versions)
    ]
    columns = "version", "in force from", "decision", "by", "reason"
    return table(columns, rows, numbers={"version": ""}, caption="Versions of the policy")


def tests_table(versions: Sequence[TestVersion]) -> Table:
    """Return the tests in force, with links to their pages."""
    rows = [
        (page_link(each.test_id, "test", test=each.test_id), each.version, _length(each.policy)) for each in versions
    ]
    return table(("test", "version", "length"), rows, numbers={"version": ""}, caption="Adaptive tests")
