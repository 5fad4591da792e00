"""Pages, plots and sentences of DIF, and the groups of an attribute's values."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.drift.dif_month import rows_of
from irt_assets.drift.dif_page import dif_summary, groups_table, items_blocks
from irt_assets.drift.plots import differences_plot
from irt_assets.drift.rows import DifRow
from irt_assets.responses.learner_groups import group_of
from irt_psychometrics.dif import Dif, Group, Wald
from psychometrics_testbed.chart_parts import points
from tests.helpers.drift_facts import WHOLE
from tests.helpers.sentences import missing_sentences


def row(item: str, severity: str | None, ets_class: str | None, *, large: bool, why_not: str = "") -> DifRow:
    wald = {"severity": severity, "wabc": 0.12, "delta_b": 0.6, "delta_b_se": 0.1, "delta_a": 0.0, "delta_a_se": 0.1}
    mh = {"delta": -1.9, "se": 0.4}
    details = {
        "large": large, "why_not": why_not, "low_power": False, "wald": wald if severity else None,
        "within_forms": {"mantel_haenszel": mh, "logistic": {"delta_r2": 0.04}} if ets_class else None,
    }  # fmt: skip
    q = 0.01 if severity else None
    return DifRow(item, "lang", "ko", "en", q, ets_class, details)


def whole_row(**others: object) -> DifRow:
    return DifRow("", "lang", "ko", "", None, None, WHOLE | others)


def test_class_c_item_is_listed_and_not_counted_if_the_wald_test_is_not_significant() -> None:
    found = [
        whole_row(),
        row("alone", "none", "C", large=False),
        row("both", "high", "C", large=True),
        row("fine", "none", "A", large=False),
        row("small", "small", "A", large=False),
    ]
    assert dif_summary(found) == "lang: large DIF in 1 of 4 items: both, smaller in 1"
    lines = {line.split("|")[2].strip(): line for line in markdown(*items_blocks({"default": found})).splitlines()[2:]}
    assert list(lines) == ["both", "alone", "small"]
    assert lines["alone"].endswith("| within forms alone |")
    assert lines["both"].endswith("| **large** |")


def test_attributes_that_were_not_tested_are_shown_with_the_reason() -> None:
    found = [whole_row(why_not="2 of 9 groups are a|b"), row("a", None, None, large=False, why_not="because")]
    assert "lang not tested (2 of 9 groups are a|b)" in dif_summary(found)
    table = markdown(groups_table({"default": found}))
    assert (
        missing_sentences(
            table,
            "3 smaller groups",
            "12 | | | left out, 5 of them with a value that is not a group",
            "2 of 9 groups are a\\|b",
        )
        == []
    )
    assert markdown(*items_blocks({"default": found})) == "none"
    assert differences_plot(found[0], found[1:]) is None


def test_sentence_on_dif_warns_if_items_were_assigned_by_level() -> None:
    sound, one = np.zeros(6), np.zeros((1, 6))
    wald = Wald(
        item_ids=tuple("abcdef"), groups=("ko", "en"), mean=np.zeros(2), sd=np.ones(2), anchors=tuple("abcdef"),
        df=np.full(6, 2), wald=sound, p=sound + 1, q=sound + 1, delta=np.zeros((1, 6, 2)), se=np.ones((1, 6, 2)),
        wabc=one, shift=one, shift_se=one + 1, unestimated=({}, {}),
    )  # fmt: skip
    groups = tuple(Group(name, 900, np.full(6, 900)) for name in wald.groups)
    for by_level in (False, True):
        made = rows_of(Dif("lang", wald.item_ids, groups, 0, wald, None), 0, by_level, "")
        assert ("assigned by level" in dif_summary([*map(DifRow.from_row, made)])) is by_level


@pytest.mark.parametrize("names", [1, 3, 60])
def test_plot_of_differences_is_drawn_for_any_number_of_items(names: int) -> None:
    """60 names do not fit. Dagster handles metadata of up to 150 kB well."""
    rows = [row(f"[$x^2$] {k:03d} 한국", "high", "C", large=True) for k in range(names)]
    picture = differences_plot(whole_row(), rows)
    (chart,) = picture.charts
    assert [(part.name, len(part.xs)) for part in points(chart)] == [("large", names)]
    assert len(picture.to_markdown("DIF")) < 150_000


@pytest.mark.parametrize(
    ("value", "group"),
    [
        ("ko", "ko"), ("  ko \n KR ", "ko KR"), (3, "3"), (3.0, "3"), (2.5, "2.5"), (True, "true"), (False, "false"),
        ("", None), ("   ", None), (None, None), ([], None), (["ko"], None), ({"a": 1}, None), ("x" * 100, "x" * 100),
        ("x" * 101, None), (10**400, None),
    ],
)  # fmt: skip
def test_attribute_value_names_a_group_if_the_value_is_a_short_text_or_a_number(
    value: object, group: str | None
) -> None:
    assert group_of(value) == group


def test_table_shows_the_difference_of_expected_scores_if_difficulty_is_extrapolated() -> None:
    far = row("far", "high", "C", large=True)
    far.details["wald"] |= {"delta_b": None, "delta_b_se": None, "shift": -0.1234, "shift_se": 0.0213}
    table = markdown(*items_blocks({"default": [whole_row(), far, row("near", "high", "C", large=True)]}))
    assert missing_sentences(table, "| score −0.123 ± 0.021 |", "| +0.60 ± 0.10 |") == []
    assert differences_plot(whole_row(), [far]) is None, "there is no difference of difficulty to draw"
