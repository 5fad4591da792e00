"""The page of a form: SAT12's scores and item 32 with the figures of R's psych, and an item with known parameters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from pypdfium2 import PdfDocument

from irt_assets.blocks import Document, Figure, Figures, Section, html, pdf, plain
from irt_assets.item_analysis.stored import FormRow, ItemRow as Classical, OptionRow
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.reports import form_blocks, item_sheet
from irt_assets.reports.form_facts import FormFacts
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow
from psychometrics_testbed.chart_parts import boxes, lines, points
from tests.helpers.sat12 import FORM, ITEM_32, OPTIONS

SOUND = replace(ITEM_32, item_id="item_1", position=1, item_rest=0.3, omitted=0, options=(), flags=())
ITEMS = (SOUND, replace(ITEM_32, position=2, flags=("min_item_rest", "above_key")))
FACTS = FormFacts(
    scale=Scale("default"),
    month="2026-10",
    form=FORM,
    items=ITEMS,
    values={"item_1": ItemRow(1.2, 0.5)},
    fit=None,
)


def figures(*titles: str) -> list[Figure]:
    sections = [block for block in form_blocks.form_blocks(FACTS) if isinstance(block, Section)]
    shown = [block for section in sections if section.title in titles for block in section.blocks]
    return [figure for block in shown if isinstance(block, Figures) for figure in block.figures]


def test_key_figures_of_a_complete_form_include_reliability_with_its_interval() -> None:
    known = dict(form_blocks.key_figures(FACTS).rows)
    assert known["mean and SD"] == "18.20, SD 5.05"
    assert known["Cronbach's α"] == "0.798 (0.774 to 0.820)"
    assert known["SEM"] == "2.27 points"
    assert known["median and range"] == "18.0, 0 to 2"


def test_form_whose_learners_answered_different_items_has_no_sum_scores() -> None:
    facts = replace(FACTS, form=FormRow(form_id="", n=600, n_items=2, max_score=2))
    known = dict(form_blocks.key_figures(facts).rows)
    assert known["sum scores"] == "none: not all learners have a score on all items"
    assert "SEM" not in known


def test_key_check_names_only_items_whose_key_an_option_beats() -> None:
    (section,) = form_blocks.keys(FACTS)
    (found,) = section.blocks[0].items
    assert plain(found).startswith("item_32: Option 3 (chosen by 44 %, r = 0.20) beats the key 5")
    unflagged = replace(ITEM_32, options=tuple(replace(option, flags=()) for option in OPTIONS))
    (section,) = form_blocks.keys(replace(FACTS, items=(unflagged,)))
    assert plain(section.blocks[0].text) == "No option beats a key."
    assert not list(form_blocks.keys(replace(FACTS, items=(replace(SOUND, key=None),))))


def test_charts_show_scores_discrimination_of_flagged_items_and_omissions_by_position() -> None:
    histogram, discrimination, omissions = (figure.chart for figure in figures("Scores and items"))
    assert [part.top for part in boxes(histogram)] == [[120, 300, 180]]
    flagged = [part for part in points(discrimination) if part.name == "flagged"]
    assert [(part.xs, part.ys) for part in flagged] == [([0.162], [0.037])]
    omitted, not_reached = (part.ys for part in omissions.parts)
    assert omitted == pytest.approx([0, 7 / 600])
    assert not_reached == [0, 0]


def test_precision_of_a_2pl_item_follows_birnbaums_formula() -> None:
    curve, information, error, reliability = (lines(figure.chart)[0] for figure in figures("Precision"))
    p = 1 / (1 + np.exp(-1.2 * (np.array(curve.xs) - 0.5)))
    assert curve.ys == pytest.approx(p)
    assert information.ys == pytest.approx(1.2**2 * p * (1 - p))
    known = 1 / np.sqrt(np.interp(error.xs, information.xs, information.ys))
    assert error.ys == pytest.approx(known)
    assert reliability.ys == pytest.approx(np.maximum(1 - 1 / np.array(information.ys), 0))


def test_document_for_a_committee_has_no_links_to_pages_of_the_dashboard() -> None:
    written = html.page(form_blocks.document(FACTS, datetime(2026, 11, 2, 9, tzinfo=UTC)))
    assert "Form SAT12, 2026-10" in written
    assert "?view=" not in written
    assert "?view=item" in html.part(*form_blocks.form_blocks(FACTS))


def sheet(items: tuple[Classical, ...]) -> Document:
    estimates = {"item_32": FittedItem(ItemRow(0.13, 12.75), 600, (), {})}
    return item_sheet.document(replace(FACTS, items=items), estimates, datetime(2026, 11, 2, 9, tzinfo=UTC))


def test_item_sheet_begins_with_suspect_keys_and_has_choices_and_curve_of_each_item() -> None:
    flagged = replace(SOUND, item_id="item_2", flags=("max_facility",))
    made = sheet((SOUND, flagged, *ITEMS[1:]))
    text, figures = made.blocks
    assert isinstance(figures, Figures)
    assert plain(text.text).startswith("three items, two flagged items.")
    shown = [(figure.chart.heading, figure.caption) for figure in figures.figures]
    assert [name for name, _ in shown] == ["item_32", "item_32", "item_2", "item_2", "item_1", "item_1"]
    assert shown[0][1] == "p 0.162, r 0.037, key 5; low item-rest r; above the key"
    assert [caption for _, caption in shown[1::2]] == ["a 0.13, b 12.75", "no values", "a 1.20, b 0.50"]
    assert lines(figures.figures[1].chart)[0].ys[40] == pytest.approx(1 / (1 + np.exp(0.13 * 12.75)))


@pytest.mark.parametrize(("options", "pages"), [(OPTIONS, 3), ((), 3)], ids=["choices", "curves"])
def test_item_sheet_has_six_items_on_each_page(options: tuple[OptionRow, ...], pages: int) -> None:
    items = tuple(replace(ITEM_32, item_id=f"item_{k}", options=options) for k in range(13))
    made = pdf.typeset(sheet(items))
    assert len(PdfDocument(made)) == pages
