"""Blocks about an adaptive test: its policy in words, its simulated properties against its promises, and its versions.

The dashboard's page of a test and `irt tests show` show them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import psycopg

from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import (
    TestSimulation,
    broken_promises,
    precision,
    read_simulations,
    simulate_test,
)
from irt_assets.adaptive.versions import TestVersion, read_versions, version_in_force
from irt_assets.adaptive.yaml_lines import Limits
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
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import sentence
from irt_psychometrics.plots import Chart
from resources.version import code_version

SIMULEES_FOR_A_PAGE = 2_000
ITEMS_SHOWN = 10
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
        stored: whether the simulation is stored.
    """

    version: TestVersion
    versions: tuple[TestVersion, ...]
    simulation: TestSimulation
    stored: bool


def adaptive_facts(connection: psycopg.Connection, test_id: str, at: datetime) -> AdaptiveFacts:
    """Read a test. Raises PermanentFailure if it is not in force at `at`."""
    own, versions = version_in_force(connection, test_id, at), tuple(read_versions(connection, test_id))
    stored = read_simulations(connection, version=own.version)
    if stored:
        return AdaptiveFacts(own, versions, stored[-1], True)
    return replace(simulate_version(connection, own, at), versions=versions)


def simulate_version(
    connection: psycopg.Connection, own: TestVersion, at: datetime, n: int = SIMULEES_FOR_A_PAGE
) -> AdaptiveFacts:
    """Simulate a version with the set in force at `at`, without other versions. Stores nothing."""
    return AdaptiveFacts(own, (), simulate_test(connection, own, at, n=n), False)


def document(facts: AdaptiveFacts, at: datetime, zone: str) -> Document:
    """Return the test's page as a document."""
    title, scale = f"Adaptive test {facts.version.test_id}", facts.version.scale_id
    return Document(
        title=title,
        subtitle=f"scale {scale} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=title,
        language="en",
        kind="bank",
        blocks=without_page_links(tuple(adaptive_blocks(facts, zone))),
    )


def adaptive_blocks(facts: AdaptiveFacts, zone: str = "UTC") -> Iterator[Block]:
    """Yield all blocks about the test."""
    policy, simulation = facts.version.policy, facts.simulation
    yield List(tuple(map(sentence, policy_in_words(policy))))
    yield promises(facts)
    if "why" not in simulation.summary:
        yield key_figures(facts)
        yield Section("Precision", tuple(_precision(simulation)), "precision")
        yield Section("Length", tuple(_length(simulation)), "length")
        yield Section("Exposure", tuple(_exposure(simulation, policy)), "exposure")
        if simulation.summary["limits"]:
            yield Section("Content", (_content(simulation, policy),), "content")
    if facts.versions:
        yield Section("Versions", (versions_table(facts.versions, zone),), "versions")


def policy_in_words(policy: Policy) -> Iterator[str]:
    """Yield the rules of a policy."""
    length, exposure = policy.length, policy.exposure
    least = f"{length.min} to {length.max}" if length.min < length.max else f"{length.max}"
    ends = f", and it ends at a standard error of {length.se:g}" if length.se else ""
    yield f"the test has {least} items{ends}"
    if policy.classify:
        cut = "the scale's pass mark" if policy.classify.cut is None else f"θ = {policy.classify.cut:g}"
        rule = "a sequential test (SPRT)" if policy.classify.rule == "sprt" else "the interval of θ"
        yield f"it decides on pass or fail at {cut} by {rule}, and ends as soon as the decision is certain"
    choice = f", drawn from the best {exposure.randomesque}" if exposure.randomesque > 1 else ""
    yield f"the next item is {METHODS[policy.method]}{choice}; θ is estimated by {policy.estimator.upper()}"
    start = "the population" if policy.start == "population" else "the learner's θ of now"
    yield f"the first items are chosen from {start}; the score uses the answers of the session and the population"
    groups = [f"{name} {own.min} to {own.max or length.max}" for name, own in _groups(policy)]
    groups += [f"at most one of {', '.join(own)}" for own in policy.enemies]
    if groups or policy.testlets:
        held = "shadow tests" if policy.content == "shadow" else "priority"
        together = ["items of a testlet together"] * policy.testlets
        yield f"content, held by {held}: {'; '.join([*groups, *together])}"
    if exposure.max is not None:
        cuts = ", ".join(f"{cut:g}" for cut in exposure.theta_cuts)
        where = f", in each interval of θ between {cuts}" if cuts else ""
        yield f"at most {percent(exposure.max)} of the learners are given an item{where}"
    if policy.unscored:
        yield f"{percent(policy.unscored)} of the places are for items without published values, which do not count"
    if policy.look_back_days:
        yield f"no learner is given an item again within {policy.look_back_days} days"


def _groups(policy: Policy) -> Iterator[tuple[str, Limits]]:
    """Yield the groups by topic and by format, and their limits."""
    for kind, limits in (("topic", policy.topics), ("format", policy.formats)):
        yield from ((f"{kind} {name}", own) for name, own in limits.items())


def promises(facts: AdaptiveFacts) -> Box:
    """Return whether the simulation keeps the promises of the policy."""
    simulation, policy = facts.simulation, facts.version.policy
    n = simulation.summary.get("n", 0)
    source = f"the set at the end of {simulation.month}" if facts.stored else "the set in force now"
    if found := broken_promises(policy, simulation.summary):
        lead = Paragraph(f"By {source}, the tests do not keep all promises of the policy:")
        return Box((lead, List(tuple(map(sentence, found)))), "warning")
    return notice(f"By {source}, {n:,} simulated tests keep the promises of the policy.", "good")


def key_figures(facts: AdaptiveFacts) -> Block:
    """Return the results over all learners."""
    found = facts.simulation.summary
    return pairs(
        {
            "simulated learners": f"{found['n']:,} of {found['learners']}",
            "real error (RMSE)": f"{number(found['rmse'], 3)}, bias {number(found['bias'], 3)}",
            "reported standard error": number(found["mean_se"], 3),
            "standard error reached": percent(found["precise"]) if found["precise"] is not None else None,
            "mean length": f"{number(found['length'], 1)} items",
            "largest exposure": f"{percent(found['max_exposure'])}, item {found['max_item']}",
            "overlap of two tests": percent(found["overlap"]),
            "passes": percent(found["pass_rate"]) if found["pass_rate"] is not None else None,
            "right decisions": percent(found["accuracy"]) if found["accuracy"] is not None else None,
        },
        small=True,
    )


def _precision(simulation: TestSimulation) -> Iterator[Block]:
    found = simulation.summary
    excess, noise = 1 / found["capitalisation"] - 1, Z95 / np.sqrt(2 * found["n"])
    verdict = (
        f"It is {percent(excess)} larger than the reported one: an adaptive test prefers items whose values are too "
        "favourable by chance."
        if excess > noise
        else f"It is not larger than the reported one by more than the error of this simulation, {percent(noise)}."
    )
    yield Paragraph(f"The real error is the difference from the true θ if the items' values have errors. {verdict}")
    yield precision(found)


def _length(simulation: TestSimulation) -> Iterator[Block]:
    lengths = {int(n): count for n, count in simulation.summary["lengths"].items()}
    reasons = [f"{STOPS[name]}: {percent(share)}" for name, share in simulation.summary["stops"].items()]
    yield List(tuple(map(sentence, reasons)))
    if len(lengths) > 1:
        at, n = np.array([*lengths]), np.array([*lengths.values()])
        described = f"Tests by length, {at.min()} to {at.max()} items."
        chart = Chart((at.min() - 1, at.max() + 1), (0, 1.08 * n.max()), "items", "simulated tests", described)
        yield Figure(chart.boxes(at - 0.45, np.zeros(n.size), at + 0.45, n), described)


def _exposure(simulation: TestSimulation, policy: Policy) -> Iterator[Block]:
    shares = simulation.exposure
    values, most, unused = np.array([*shares.values()]), policy.exposure.max, sum(x == 0 for x in shares.values())
    yield Paragraph(f"Never given: {unused} of {len(shares)} items.")
    top = 1.08 * max(float(values.max()), most or 0.0)
    described = "Exposure by item."
    chart = Chart((0, len(values) + 1), (0, top), "items, the most exposed first", "share of the tests", described)
    if most is not None:
        chart.level(most)
    limit = "" if most is None else f" Line: the limit of {percent(most)}."
    first = [*shares.items()][:ITEMS_SHOWN]
    rows = [(page_link(item, "item", scale=simulation.scale_id, item=item), share) for item, share in first]
    yield Figures((Figure(chart.line(range(1, len(values) + 1), values, steps=True), described + limit),))
    yield table(("item", "exposure"), rows, numbers={"exposure": ".1%"}, caption="The most exposed items")


def _content(simulation: TestSimulation, policy: Policy) -> Table:
    known = dict(_groups(policy))
    rows = [
        (name, known[name].min, known[name].max, share) if name in known else (name, 0, 1, share)
        for name, share in simulation.summary["limits"].items()
    ]
    formats = {"min": ",", "max": ",", "met in": ".1%"}
    return table(("group", *formats), rows, numbers=formats, caption="Items of each group in a test")


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
        (page_link(each.test_id, "test", test=each.test_id), each.version, sentence(next(policy_in_words(each.policy))))
        for each in versions
    ]
    return table(("test", "version", "length"), rows, numbers={"version": ""}, caption="Adaptive tests")
