"""The page of an adaptive test: the policy in words, promises, exposure and content of given numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest

from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import TestSimulation, broken_promises
from irt_assets.adaptive.versions import TestVersion
from irt_assets.blocks import Box, List, Pairs, Section, Table, html, plain, walk
from irt_assets.reports import adaptive_blocks
from irt_psychometrics.adaptive import AdaptiveTest, SimulatedTests
from psychometrics_testbed.chart_parts import lines

POLICY = """
test: exam
start: theta-now
length: {min: 5, max: 20, se: 0.3}
classify: {cut: 0.5, false_pass: 0.05}
topics: {algebra: {min: 2}, geometry: {max: 4}}
enemies: [[i1, i2]]
testlets: true
exposure: {max: 0.25, theta_cuts: [-1, 1], randomesque: 5}
unscored: 0.1
"""
AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
BY_THETA = {
    "n": [500.0, 500.0],
    "theta": [-1.0, 1.0],
    "bias": [0.1, -0.1],
    "rmse": [0.33, 0.31],
    "mean_se": [0.3, 0.3],
    "length": [14.0, 16.0],
}
SUMMARY: dict[str, Any] = {
    "n": 1000,
    "learners": "the learners of 2026-10",
    "bias": 0.0,
    "rmse": 0.3,
    "mean_se": 0.297,
    "capitalisation": 0.99,
    "overlap": 0.2,
    "accuracy": 0.94,
    "error_rates": {"false_pass": 0.05, "false_fail": 0.03},
    "length": 15.0,
    "lengths": {"14": 500, "16": 500},
    "stops": {"max-se": 0.98, "max-items": 0.02},
    "precise": 0.98,
    "max_exposure": 0.24,
    "max_item": "i2",
    "max_rate": [0.27, "i2", 400.0],
    "limits": {"topic algebra": 1.0, "topic geometry": 1.0, "enemies i1, i2": 1.0},
    "pass_rate": 0.4,
    "by_theta": BY_THETA,
}
ITEMS = {f"i{k}": {"eligible": [500.0, 500.0], "given": [60.0 * k, 60.0 * k]} for k in range(4)}


def facts(**changes: Any) -> adaptive_blocks.AdaptiveFacts:
    stored = Policy.from_yaml(POLICY).model_dump(mode="json")
    version = TestVersion(3, "exam", "default", stored, None, AT, "Ann", "June", AT)
    undone = replace(version, version=4, undoes=3, stored=None)
    simulation = TestSimulation("2026-10", 3, "exam", "default", "hash", SUMMARY | changes, ITEMS)
    return adaptive_blocks.AdaptiveFacts(version, (version, undone), simulation)


def test_policy_in_words_contains_every_rule() -> None:
    [block] = [block for block in adaptive_blocks.adaptive_blocks(facts()) if isinstance(block, Pairs)][:1]
    found = "; ".join(f"{name} {plain(value)}" for name, value in block.rows)
    for part in (
        *("5 to 20 items", "standard error is 0.3", "θ = 0.5", "(SPRT)", "drawn from the best 5", "score EAP"),
        *("the learner's θ of now", "topic algebra: 2 to 20", "topic geometry: 0 to 4", "enemies i1, i2: 0 to 1"),
        *("testlet together", "exposure 25 %", "between -1, 1", "places without a score 10 %", "within 365 days"),
    ):
        assert part in found, part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precise": 0.94}, "94 % of the tests reach the standard error 0.3"),
        ({"rmse": 0.36}, "the real error 0.360 is larger than the reported 0.297"),
        ({"max_rate": [0.33, "i9", 400.0]}, "item i9 is given to 33 % of the learners"),
        ({"limits": {"topic algebra": 0.9}}, "topic algebra is met in 90 % of the tests"),
        ({"stops": {"no-item": 0.1}}, "10 % of the tests end because no item can be given"),
        ({"error_rates": {"false_pass": 0.09}}, "9 % of the learners at the lower end of the indifference region pass"),
        ({"error_rates": {"false_fail": 0.08}}, "and false_fail is 5 %; raise length.max, classify.indifference or"),
        ({"why": "empty"}, "it cannot be given: empty"),
    ],
)
def test_broken_promise_is_named_with_its_number(change: dict[str, Any], words: str) -> None:
    [found] = broken_promises(Policy.from_yaml(POLICY), SUMMARY | change)
    assert words in found


def test_promises_are_kept_within_the_error_of_the_simulation() -> None:
    """A rate of .31 in 400 tests is within 3·√(.25·.75/400) = .065 of .25."""
    assert broken_promises(Policy.from_yaml(POLICY), SUMMARY | {"max_rate": [0.31, "i2", 400.0]}) == []
    assert isinstance(adaptive_blocks.promises(facts()), Box)
    assert adaptive_blocks.promises(facts()).tone == "good"
    assert adaptive_blocks.promises(facts(precise=0.5)).tone == "warning"


def test_page_has_the_exposure_curve_with_its_limit_and_the_content_of_each_group() -> None:
    shown = {
        block.title: block.blocks for block in adaptive_blocks.adaptive_blocks(facts()) if isinstance(block, Section)
    }
    figures = shown["Exposure"][1].figures
    curve = next(line for line in lines(figures[0].chart) if len(line.ys) > 2)
    assert [float(y) for y in curve.ys] == [0.36, 0.24, 0.12, 0.0]
    assert "the limit of 25 %" in figures[0].caption
    assert plain(shown["Exposure"][0].text) == "Never given: 1 of 4 items."
    [content] = shown["Content"]
    assert [row[1:3] for row in content.rows] == [(2, None), (0, 4), (0, 1)]
    [versions] = shown["Versions"]
    assert [row[0] for row in versions.rows] == [4, 3]
    assert versions.rows[0][2] == "undoes version 3"
    written = html.page(adaptive_blocks.document(facts(), AT, "UTC"))
    assert "Adaptive test exam" in written
    assert "?view=item" not in written


def test_test_that_cannot_be_given_shows_its_policy_and_reason_alone() -> None:
    own = facts()
    own = replace(own, simulation=replace(own.simulation, summary={"why": "nothing is published"}, items={}))
    blocks = [*adaptive_blocks.adaptive_blocks(own)]
    assert [block.title for block in blocks if isinstance(block, Section)] == ["Versions"]
    texts = [plain(x) for _, block in walk(blocks) if isinstance(block, List) for x in block.items]
    assert texts[-1] == "It cannot be given: nothing is published."


def test_list_of_tests_links_to_their_pages() -> None:
    found = adaptive_blocks.tests_table([facts().version])
    assert isinstance(found, Table)
    [(name, version, length)] = found.rows
    assert (name.link, version) == ("?view=test&test=exam", 3)
    assert plain(length) == "5 to 20 items, until the standard error is 0.3"


def test_every_method_and_stop_has_words() -> None:
    assert set(adaptive_blocks.METHODS) == set(get_args(get_type_hints(AdaptiveTest)["method"]))
    assert set(adaptive_blocks.STOPS) == set(filter(None, SimulatedTests.STOPS))
