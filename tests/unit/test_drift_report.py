"""The drift report of made-up facts: its first page, escaping, and the same content in HTML and PDF."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pypdfium2
import pytest

from irt_assets.blocks import Figure
from irt_assets.blocks.html import page as page_of, part
from irt_assets.blocks.pdf import typeset
from irt_assets.charts import USED_OFF_0
from irt_assets.decisions.proposals import Proposal as Change, State as State_
from irt_assets.decisions.release_impact import Impact
from irt_assets.drift.blocks import drift_summary
from irt_assets.drift.rows import AlertRow, DifRow, InformationRow
from irt_assets.gates.anchor_shifts import AnchorShift
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.decisions import Decision
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.linked_windows import LinkedFitRecord
from irt_assets.reports.drift_charts import kind_of_anchor
from irt_assets.reports.drift_facts import Item
from irt_assets.reports.drift_linking import jump_in_words, linking
from irt_assets.reports.drift_report import document, items_to_review, verdict
from irt_assets.reports.item_blocks import details
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow
from resources.version import code_version
from tests.helpers.drift_facts import (
    ANCHOR,
    BAD,
    FIT,
    LEAK,
    LEAKED,
    NOW,
    SOUND,
    TEST,
    WHOLE,
    drift_row,
    html,
    made_up_facts,
    made_up_item,
)
from tests.helpers.fit_specs import CONSTANTS
from tests.helpers.pictures import Picture
from tests.helpers.sentences import missing_sentences


class Page(HTMLParser):
    """The text, tags and addresses of a page, parsed as by a browser."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_green_month_is_safe_and_lists_items_to_check_in_the_order_of_urgency() -> None:
    facts = made_up_facts(SOUND, ANCHOR, LEAKED)
    sentence = verdict(facts)
    assert sentence.mark == "yes"
    assert (
        sentence.in_short == "2026-10 of scale default is safe to release. "
        "Look at two items: retire one and find out whether to drop one from the anchors."
    )
    assert [item.item_id for item in items_to_review(facts)] == ["B1", "K2"]


@pytest.mark.parametrize(("state", "mark"), [(State.RED, "no"), (State.STALE, "not yet"), (State.PENDING, "not yet")])
def test_report_gives_the_reason_if_a_month_is_not_green(state: State, mark: str) -> None:
    reason = "anchors_agree: 30 anchors disagree"
    facts = made_up_facts(SOUND, state=MonthState("2026-10", "default", state, reason))
    assert verdict(facts).mark == mark
    page = Page(html(facts, NOW)).text
    assert f"Safe to release: {mark}." in page
    assert reason in page


def test_report_of_a_month_without_a_fit_gives_the_reason(picture: Picture) -> None:
    facts = made_up_facts(fit=None, linkings=(), not_compared="2026-10 has no linked fit: too few anchors")
    picture(html(facts, NOW), "no_fit", version=re.escape(code_version()))


HELD = {
    "anchors_used": ["a1", "a2"],
    "anchors_dropped": {"a3": "It lies off the line: b by +0.72", "a10": "it is not in this month"},
    "suspects": {"a3": {"delta_b": 0.73, "delta_a": -0.4, "z": 5.6, "parameter": "b"}},
    "diagnosis": "moved against the others: a3 (b +0.73)",
    "q": 38.4,
    "q_df": 36,
    "q_p": 0.361,
    "share_kept": 0.63,
}
"""Linking of a month in which only two of four anchors agree, which are too few."""


def linking_of(**changed: Any) -> tuple[str, list[str]]:
    """Return the text of the section on the linking, and the captions of its figures."""
    constants = LinkingConstants.from_json(CONSTANTS | HELD | changed, "fit")
    shifts = [
        AnchorShift(item, 0.1, 0.1, item in constants.suspects, constants.anchors_dropped.get(item, ""))
        for item in (*constants.anchors_used, *constants.suspects)
    ]
    blocks = [*linking(constants, Scale("default"), shifts, (), ())]
    text = Page(str(part(*blocks))).text
    return text, [block.caption for block in blocks if isinstance(block, Figure)]


def test_report_does_not_claim_that_anchors_disagree_if_anchors_are_only_too_few() -> None:
    text, _ = linking_of()
    assert "The used anchors agree: Q = 38.4 on 36 df, p = 0.361" in text
    assert "They are too few: 63% of the anchors with enough responses, and a month needs 5 anchors and 70%." in text
    assert "DISAGREE" not in text
    scattered, _ = linking_of(anchors_used=["a1", "a2", "a4", "a5", "a6"], share_kept=1.0, tau=0.25, tau_low=0.2)
    assert "The used anchors DISAGREE" in scattered
    assert "too few" not in scattered


def test_change_of_a_moved_anchor_has_the_same_size_everywhere_on_the_page() -> None:
    text, _ = linking_of()
    assert text.count("+0.73") == 2, "moved by, and change in b"
    for second in ("+0.72", "Diagnosis"):
        assert second not in text
    assert "it is not in this month" in text


def test_caption_of_the_anchors_names_only_marks_that_are_drawn() -> None:
    (caption,) = linking_of()[1]
    assert "triangles" in caption
    assert "crosses" not in caption
    (caption,) = linking_of(suspects={})[1]
    assert "triangles" not in caption


def test_markup_in_names_of_items_topics_and_reasons_is_escaped_in_the_page() -> None:
    """The item's name is in two charts, three tables and several captions."""
    leaked = made_up_item(BAD, drift_row(BAD, "2026-10", -0.9, "high", change=LEAK), is_anchor=True, held=(BAD,))
    facts = made_up_facts(
        replace(leaked, topic=BAD),
        scale=Scale(BAD, initialised=True),
        state=MonthState("2026-10", BAD, State.RED, BAD),
        dif=(DifRow(BAD, BAD, BAD, BAD, 1e-9, "C", {"large": True}),),
        alerts=(AlertRow(BAD, "leak", "high", "2026-10", None),),
        decisions=(Decision("2026-10", "default", BAD, "reject", BAD, BAD, None, NOW),),
        proposed={BAD: 1},
    )
    sound = Page(html(made_up_facts(SOUND, LEAKED), NOW))
    page = Page(html(facts, NOW))
    assert page.tags.count("script") == sound.tags.count("script") == 1, "the page's own"
    assert page.text.count("alert('x')") >= 8, "and it is shown as it is written"


def test_page_has_no_links_to_external_files() -> None:
    page = Page(html(made_up_facts(SOUND, LEAKED, ANCHOR), NOW))
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"link", "iframe", "img"} & set(page.tags)


@pytest.mark.parametrize("items", [(), (SOUND, LEAKED, ANCHOR)])
def test_every_link_in_the_page_has_a_target(items: tuple[Item, ...]) -> None:
    written = html(made_up_facts(*items), NOW)
    for address in Page(written).addresses:
        assert f'id="{address[1:]}"' in written, address


def linked_month(month: str, intercept: float, **changes: Any) -> LinkedFitRecord:
    constants = FIT.constants.model_copy(update={"intercept": intercept} | changes)
    return replace(FIT, month=month, spec=FIT.spec.model_copy(update={"linking_constants": constants}))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (linked_month("2026-10", 0.12), ""),
        (
            linked_month("2026-10", 0.4),
            "The anchors agree with each other, so the learners are the cause: their mean ability differs.",
        ),
        (
            linked_month("2026-10", 0.4, share_kept=0.6),
            "Anchors that moved against the others may be the cause: decide on them first.",
        ),
        (
            linked_month("2026-10", 0.1, slope=1.5),
            "The slope jumped from 1.05 in 2026-09 to 1.50, 10.6 standard errors.",
        ),
    ],
)
def test_report_gives_the_likely_cause_if_the_linking_constants_jumped(now: LinkedFitRecord, message: str) -> None:
    """Both SEs are 0.03, so the difference has an SE of 0.042: a jump of 0.02 is noise and 0.3 is seven SEs."""
    facts = made_up_facts(SOUND, fit=now, linkings=(linked_month("2026-09", 0.1), now))
    found = jump_in_words(facts)
    assert bool(found) == bool(message)
    assert message in found
    assert found in Page(html(facts, NOW)).text
    assert jump_in_words(made_up_facts(SOUND)) == "", "there is no month before"


def test_report_of_a_month_with_all_kinds_of_findings_is_unchanged(picture: Picture) -> None:
    """The DIF table has the reason alone if a comparison was not made, only the Wald test outside forms, and the
    difference of scores if groups have no difficulty. A leaked item is never offered for publication."""
    new = made_up_item("B7", drift_row("B7", "2026-09", 0.0, "none"), drift_row("B7", "2026-10", 0.9, "high"))
    lasting = made_up_item("B8", drift_row("B8", "2026-09", 0.9, "high"), drift_row("B8", "2026-10", 0.9, "high"))
    vanished = made_up_item("B9", drift_row("B9", "2026-09", 0.9, "high"), drift_row("B9", "2026-10", 0.0, "none"))
    waiting = Change(
        "2026-10", "default", "B2", "fit-1", ItemRow(1, 0.5, 0, 0.1, 0.1), 900, "it is published already",
        State_.OPEN, False, False, False, ItemRow(1, 0, 0, 0.1, 0.1), NOW, None, 0.12, NOW,
        {"severity": "high", "change": {"kind": "drift"}},
    )  # fmt: skip
    leaked = replace(waiting, item_id="B1", drift={"severity": "high", "change": {"kind": "leak"}})
    decided = Decision(
        "2026-12", "default", "K2", "drop_anchor", "Kim", "its text was edited", datetime(2026, 12, 1, tzinfo=UTC), NOW
    )
    wald = {"delta_a": 0.0, "delta_b": 1.2, "delta_b_se": 0.2, "wabc": 0.21}
    far = {"delta_b": None, "delta_b_se": None, "shift": -0.123, "shift_se": 0.021, "wabc": 0.21}
    forms = {"mantel_haenszel": {"delta": -1.75}, "logistic": {"delta_r2": 0.058}}
    tested = {"large": True, "why_not": "", "low_power": False, "n": {"focal": 496, "reference": 495}, "wald": wald}
    not_tested = {"large": False, "why_not": "186 learners, 200 are needed", "n": {"focal": 9, "reference": 8}}
    facts = made_up_facts(
        SOUND, ANCHOR, LEAKED, new, lasting, vanished,
        linkings=(linked_month("2026-09", 0.1), FIT),
        open_decisions=(waiting, leaked),
        effect=Impact("default", "2026-10", 2, learners=7, touched=5),
        decisions=(decided,),
        bank_size=120,
        dif=(
            DifRow("B2", "lang", "ko", "en", 3e-9, "C", tested | {"within_forms": forms}),
            DifRow("B2", "country", "KR", "GB", 3e-9, None, tested | {"within_forms": None}),
            DifRow("B3", "country", "KR", "GB", 3e-9, None, tested | {"wald": far, "within_forms": None}),
            DifRow("B2", "level", "free", "pro", None, None, not_tested | {"wald": None, "within_forms": None}),
        ),
        dif_attributes=(
            *(DifRow("", name, "ko", "", None, None, WHOLE) for name in ("lang", "country", "level")),
            DifRow("", "tier", "", "", None, None, WHOLE | {"why_not": "nobody has a tier"}),
        ),
        information={
            "": InformationRow("", {}, True, TEST),
            "B1": InformationRow("B1", {}, True, {"ratio": 0.6, "upper": 0.9}),
        },
        alerts=(
            AlertRow("B1", "leak", "high", "2026-10", None),
            AlertRow("B9", "drift", "high", "2026-08", "2026-10"),
        ),
    )  # fmt: skip
    page = page_of(document(facts, NOW, "https://irt.example.org/admin"))
    picture(page, "findings", version=re.escape(code_version()))


def test_anchor_that_is_used_although_its_interval_excludes_0_is_marked() -> None:
    shifts = {
        "": AnchorShift("A1", 0.5, 0.3, moved=False, left_out=""),
        USED_OFF_0: AnchorShift("A2", -0.6, 0.3, moved=False, left_out=""),
        "moved": AnchorShift("A3", 0.6, 0.1, moved=True, left_out="moved"),
        "left out": AnchorShift("A4", 0.6, 0.1, moved=False, left_out="too few answers"),
    }
    assert [kind_of_anchor(shift) for shift in shifts.values()] == [*shifts]


def test_details_of_an_item_show_its_numbers_and_the_evidence_for_its_kind_of_change() -> None:
    shown = dict(details(LEAKED, "2026-10-09").rows)
    assert shown["Δb"] == "−0.90 (95 %: −1.10 to −0.70)"
    assert shown["published"] == "a 1.00 ± 0.10, b 0.00 ± 0.10, since 2026-08-01"
    assert shown["difference of curves"] == "0.180, q 1e−05"
    assert shown["kind of change"].startswith("leak: 0.30 of the learners know the answer, from 2026-10-09 on (gain in")
    assert "faster than usual (z −5.2)" in shown["kind of change"]


def test_details_show_the_proportion_correct_if_an_item_was_not_estimated() -> None:
    share = {
        "n": 90,
        "observed": 0.9,
        "expected": 0.5,
        "difference": 0.4,
        "se": 0.05,
        "z": 8.0,
        "why": "too few responses",
    }
    row = replace(
        drift_row("B3", "2026-10", 0.0, "high"), delta_b=None, delta_a=None, details={"proportion_correct": share}
    )
    item = replace(made_up_item("B3", row), values=None)
    facts = made_up_facts(SOUND, item)
    explanation = dict(details(item, None).rows)["not estimated"]
    assert explanation == "too few responses; 0.900 of 90 correct, expected 0.500 (z +8.0)"
    assert "too few responses" in Page(html(facts, NOW)).text


def test_pdf_shows_the_pages_findings_and_the_provenance_of_its_numbers() -> None:
    korean = made_up_item("문항-1", drift_row("문항-1", "2026-10", -0.9, "high", change=LEAK), onset="2026-10-09")
    made = pypdfium2.PdfDocument(typeset(document(made_up_facts(SOUND, korean, ANCHOR), NOW)))
    pages = [page.get_textpage().get_text_bounded() for page in made]
    assert missing_sentences(pages[0], "Safe to release: yes.", "문항-1", "drop from anchors") == []
    assert (
        missing_sentences(pages[-1], "fit-1", "data-hash", "anchor-hash", "0.1.0+gabc", "run-1", "em 0.1.0, model 2pl")
        == []
    )
    assert f"{len(pages)} / {len(pages)}" in pages[-1]


def test_details_show_curves_instead_of_parameters_if_the_published_model_differs() -> None:
    sentence = "compared by curves: published as 2PL, fitted as 3PL"
    curves = {"right": -0.081, "right_se": 0.012, "with_ability": 0.002, "with_ability_se": 0.01, "df": 2}
    across = drift_row(
        "K1", "2026-10", 0.0, "high", across_models=sentence, curves=curves, limits=None, delta_b_95=None
    )
    row = replace(across, delta_a=None, delta_b=None, wabc=0.09)
    facts = made_up_facts(made_up_item("K1", row))
    rows = dict(details(facts.items["K1"], None).rows)
    assert rows["models"] == sentence
    assert rows["right answers"] == "−0.081 ± 0.012 of the learners"
    assert "Δb" not in rows
    text = Page(html(facts, NOW)).text
    assert f"One item was {sentence}." in text
    assert "joint test of its curves" in text


# -- in words ----------------------------------------------------------------------------------------
# The sentence on a month's drift.


@pytest.mark.parametrize(("tau", "found"), [(0.18, "τ = 0.18"), (None, "they have no line in common")])
def test_sentence_on_drift_begins_with_item_variation_if_items_vary_too_much(tau: float | None, found: str) -> None:
    rows = [drift_row("i1", "2026-09", 0.6, "high", tau=tau), drift_row("i2", "2026-09", 0.1, "none", tau=tau)]
    sentence = drift_summary(rows)
    assert sentence.startswith(
        f"b of all items varies by more than drift allows for ({found}, item_variation_max = 0.1)"
    )
    assert sentence.endswith("; 1 high, 0 medium of two items compared: i1")


def test_sentence_on_drift_omits_item_variation_within_the_limit() -> None:
    assert drift_summary([drift_row("i1", "2026-09", 0.1, "none")]) == "0 high, 0 medium of one item compared"
