"""The dashboard's bank, item, month and comparison pages and downloads show the stored numbers at any address."""

from __future__ import annotations

import asyncio
import io
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape, unescape
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from dagster import DagsterInstance
from htmltools import TagList
from psycopg.types.json import Jsonb
from starlette.responses import Response

from irt_assets.abilities.batch import measure
from irt_assets.blocks import number, signed_number
from irt_assets.calibration.linking_history import read_history
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month
from irt_assets.decisions.bank import BankItem, bank_items
from irt_assets.decisions.closing import close_months
from irt_assets.decisions.origin import OriginSummary
from irt_assets.decisions.proposals import Proposal, Reference, proposals, waiting_proposals
from irt_assets.decisions.release import reject
from irt_assets.drift.month import ScaleDrift
from irt_assets.gates import gates
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.gates.month_status import ledger_states, unsettled_months
from irt_assets.invariants.open_violations import OpenViolation
from irt_assets.item_analysis.stored import FormRow, OptionCurve, OptionInformation, write_analysis
from irt_assets.ledger.fit_spec import Spread
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.linked_windows import newest_window
from irt_assets.ledger.origin_fit import OriginFit
from irt_assets.ledger.publications import publications_in_force
from irt_assets.ledger.relations import ORIGIN_WINDOW
from irt_assets.ledger.steps import steps
from irt_assets.reports import item_history_blocks
from irt_assets.reports.drift_facts import observed_of
from irt_assets.reports.item_facts import item_facts, observed_proportions
from irt_assets.responses.snapshot import current_snapshot, read_snapshot, snapshot_of
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.truth import Truth
from irt_psychometrics.items import ItemRow
from jobs.launching.launched_by import LAUNCHED_BY
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, decide, review
from services.dashboard.downloads import TYPES, document, download
from services.dashboard.figures import render_blocks as shown_on_page
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.release_status import shorten_reason, verdict
from services.dashboard.server import make_page
from services.dashboard.views import health, months
from services.dashboard.views.bank import PAGE_SIZE
from services.jwt_verifier.tokens import Identity, Role
from tests.helpers import rooms
from tests.helpers.dagster_private import create_run_for_test
from tests.helpers.sat12 import ITEM_32
from tests.helpers.sentences import missing_sentences

Faulty = tuple[Settings, Truth, dict[str, list[ScaleDrift]]]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def read_bank(faulty: Faulty, at: datetime = NOW) -> list[BankItem]:
    with Database(faulty[0]).connect() as connection:
        return bank_items(connection, read_scales(connection)[rooms.SCALE], at)


def test_bank_page_lists_parameters_in_force_and_drifted_items(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        in_force = publications_in_force(connection, rooms.SCALE, NOW)
        bank = [i for (i,) in connection.execute("SELECT item_id FROM question WHERE scale_id = %s", (rooms.SCALE,))]
        flagged = {
            item
            for (item,) in connection.execute(
                "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'", (rooms.MONTHS[1],)
            )
        }
    found = read_bank(faulty)
    assert [item.item_id for item in found] == sorted(bank)
    assert {i.item_id: i.values for i in found if i.since} == {one.item_id: one.values for one in in_force}
    assert {item.item_id for item in found if item.drifted} == flagged != set()


def test_bank_counts_answers_of_the_origin_window_if_no_month_is_fitted(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        assert newest_window(connection, scale) == rooms.MONTHS[-1]
        start = Month(rooms.MONTHS[0]).start
        connection.execute("UPDATE mirt_fit_meta SET superseded_at = now() WHERE window_start <> %s", (start,))
        connection.execute("UPDATE mirt_fit_meta SET kind = 'origin' WHERE superseded_at IS NULL")
        answered = dict(
            connection.execute(
                """SELECT item_id, i.n_responses FROM mirt_item_params i JOIN mirt_fit_meta m USING (fit_id)
                   WHERE m.superseded_at IS NULL"""
            ).fetchall()
        )
        assert newest_window(connection, scale) == ORIGIN_WINDOW
        assert {item.item_id: item.n for item in bank_items(connection, scale, NOW) if item.n} == answered != {}
        connection.rollback()


def test_figures_of_an_item_with_a_single_month_have_an_axis_of_days(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        facts = item_facts(connection, scale, waiting_proposals(connection)[0].item_id, NOW)
    alone = replace(facts, months=facts.months[:1], publications=())
    (month,) = alone.months
    drawn = unescape(str(shown_on_page(item_history_blocks.history(alone, "b"))))
    first, last = (int(ms) / 1000 for ms in re.findall(r'range":\[(\d+),(\d+)\],"type":"date', drawn)[0])
    assert first < month.start.timestamp() < last == month.end.timestamp()


@pytest.mark.parametrize("month", rooms.MONTHS)
def test_observed_proportions_of_an_item_equal_proportions_of_the_whole_snapshot(faulty: Faulty, month: str) -> None:
    settings = faulty[0]
    store = rooms.folder_store(settings)
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        item = waiting_proposals(connection)[0].item_id
        facts = item_facts(connection, scale, item, NOW)
        fitted = next(one for one in facts.months if one.month == month)
        seen = observed_proportions(connection, store, facts, fitted)
        snapshot = snapshot_of(connection, month, fitted.snapshot_hash)
        responses, _ = scored_responses_of(read_snapshot(store, snapshot), scale.scale_id)
        rows = connection.execute("SELECT item_id, params FROM mirt_item_params WHERE fit_id = %s", (fitted.fit_id,))
        latent = Spread.from_json(fitted.latent, fitted.fit_id)
        expected = observed_of(responses, {name: ItemRow.if_known(values) for name, values in rows}, latent, [item])[
            item
        ]
    assert (seen.n.tolist(), seen.n.sum()) == (expected.n.tolist(), fitted.n)
    np.testing.assert_allclose(seen.theta, expected.theta, atol=1e-12)  # sums differ in their order
    np.testing.assert_array_equal(seen.proportion, expected.proportion)


def view_request(settings: Settings, view: str, role: Role = "viewer", **fields: str) -> ViewRequest:
    with DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
    reader.now = lambda: NOW  # type: ignore[method-assign]
    return ViewRequest(view, fields, Identity("pat", "demo", (role,), frozenset(), math.inf), reader)


def show_page(settings: Settings, view: str, **fields: str) -> tuple[int, str]:
    """Status and text of a page."""
    status, page = make_page(view_request(settings, view, **fields))
    return int(status), f"{page.title}\n{TagList(page.body)}"


def rows_of(html: str) -> list[str]:
    """Returns the items of the bank's table in the page's order."""
    return re.findall(r'view=item&amp;scale=default&amp;item=([^"]+)"', html)


def test_bank_page_shows_fifty_items_in_the_requested_order(faulty: Faulty) -> None:
    items = read_bank(faulty)
    hardest = sorted((i for i in items if i.values), key=lambda i: -i.values.b)
    unpublished = [i for i in items if not i.values]
    status, html = show_page(faulty[0], "bank", sort="-b")
    assert "c ± SE" not in html  # no item of a 2PL has a c above 0
    first_page = [i.item_id for i in [*hardest, *unpublished]][:PAGE_SIZE]
    assert (status, rows_of(html), 'aria-sort="descending"' in html) == (200, first_page, True)
    drifted = [i.item_id for i in items if i.drifted]
    status, html = show_page(faulty[0], "bank", flag="drift")
    assert rows_of(html) == drifted != []
    assert f"{len(drifted)} drifted" in html
    one = drifted[0]
    assert rows_of(show_page(faulty[0], "bank", search=one.lower())[1]) == [
        i.item_id for i in items if one in i.item_id
    ]


@pytest.mark.parametrize(
    ("view", "fields"),
    [
        ("bank", {"scale": "x"}),
        ("bank", {"sort": "-"}),
        ("bank", {"sort": "--b"}),
        ("bank", {"status": "x"}),
        ("bank", {"flag": "<script>"}),
        ("bank", {"page": "0"}),
        ("bank", {"page": "9" * 30}),
        ("bank", {"page": "²"}),
        ("item", {}),
        ("item", {"item": "\0"}),
        ("item", {"item": "x" * 10_000}),
        ("item", {"item": "A01", "scale": "x"}),
        ("item", {"item": "FIRST", "month": "2026-13"}),
    ],
)
def test_pages_for_unknown_views_or_fields_return_404(faulty: Faulty, view: str, fields: dict[str, str]) -> None:
    if fields.get("item") == "FIRST":
        fields = fields | {"item": rooms.call(Database(faulty[0]), waiting_proposals)[0].item_id}
    status, html = show_page(faulty[0], view, **fields)
    assert status == 404
    assert "<script>" not in html


def test_item_page_shows_whether_the_item_is_sound_and_which_decision_waits(faulty: Faulty) -> None:
    items = read_bank(faulty)
    drifted = next(i for i in items if i.drifted and i.proposal)
    sound = next(i for i in items if i.since and not i.drifted and not i.proposal and not i.dif)
    status, html = show_page(faulty[0], "item", item=drifted.item_id)
    assert (status, "It has drifted since" in html, "A decision waits" in html) == (200, True, True)
    assert urlencode({"proposal": f"{drifted.proposal and drifted.proposal.reference}"}) in html
    status, html = show_page(faulty[0], "item", item=sound.item_id, scale=rooms.SCALE, month=rooms.MONTHS[0])
    assert (status, "No decision on it waits" in html) == (200, True)
    assert f"a = {sound.values.a:.2f} and b = {sound.values.b:.2f}".replace("-", "−") in html
    assert html.count("data-figure") == 4  # curve, information, b and a by month
    assert ("<dt>b</dt>" in html, "<dt>c</dt>" in html) == (True, False)  # a 2PL has no c


def test_pages_of_an_item_and_of_its_form_name_an_option_that_beats_the_key(faulty: Faulty) -> None:
    item = next(item for item in read_bank(faulty) if not item.anchor).item_id
    period = rooms.MONTHS[-1]
    with Database(faulty[0]).connect() as connection:
        row = replace(ITEM_32, item_id=item, position=7)
        forms = [FormRow(form_id=form, n=600, n_items=1, max_score=1) for form in ("", "booklet")]
        curves = tuple(
            OptionCurve(option=name, is_key=name == "5", slope=slope, slope_se=None, intercept=0.0, intercept_se=0.1)
            for name, slope in (("5", 0.3), ("3", -0.3))
        )
        row = replace(row, curves=curves, information=(OptionInformation(0.0, 0.25, 0.5),))
        of_booklet = replace(row, form_id="booklet", omitted=30, curves=(), no_curves="they need 200 learners, got 9")
        items = [row, of_booklet]
        write_analysis(connection, rooms.SCALE, period, forms, items)
    status, html = show_page(faulty[0], "item", item=item)
    text = unescape(re.sub(r"<[^>]*>", "", html))
    assert status == 200
    assert not missing_sentences(text, "Option 3 (chosen by 44 %", "beats the key 5", "booklet at 7", "600 of 600")
    assert "7 (1.2 %)" in text  # omitted, of all answers
    assert "At 0 SD, which wrong option was chosen adds 0.50 to the information in right and wrong, 0.25." in text
    assert "no curves of options" not in text
    assert f"?{urlencode({'view': 'rekey', 'scale': rooms.SCALE, 'item': item})}" in unescape(html)
    of_form = show_page(faulty[0], "item", item=item, form="booklet")[1]
    assert "30 (5.0 %)" in of_form
    assert "There are no curves of options by model, because they need 200 learners, got 9." in of_form
    assert "7 (1.2 %)" in show_page(faulty[0], "item", item=item, form="of another month")[1]
    status, html = show_page(faulty[0], "forms", scale=rooms.SCALE)
    assert (status, "form=booklet" in html) == (200, True)
    status, html = show_page(faulty[0], "form", scale=rooms.SCALE, form="booklet")
    assert (status, "beats the key 5" in html, "Marginal reliability" in html) == (200, True, True)
    assert show_page(faulty[0], "form", scale=rooms.SCALE, form="other")[0] == HTTPStatus.NOT_FOUND
    for view, fields in {"item": {"item": item}, "form": {"form": "booklet"}}.items():
        request = view_request(faulty[0], view, scale=rooms.SCALE, to="html", **fields)
        written = body_of(document(request)).decode()
        assert ("beats the key 5" in written, "?view=" in written) == (True, False)
    assert "document?view=items" in unescape(html)
    sheet = view_request(faulty[0], "items", scale=rooms.SCALE, form="booklet", to="html")
    written = body_of(document(sheet)).decode()
    assert f"Items of form booklet, {period}" in written
    assert written.count("<figure>") == 2  # choices and curve of the only item
    assert "published" in written


def test_item_page_states_that_answers_are_missing_from_the_object_store(faulty: Faulty, tmp_path: Path) -> None:
    settings = faulty[0].model_copy(update={"irt_home": tmp_path})
    item = rooms.call(Database(settings), waiting_proposals)[0].item_id
    status, html = show_page(settings, "item", item=item)
    assert (status, "is missing from the object store" in html) == (200, True)


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_downloaded_file_contains_the_items_of_the_page(faulty: Faulty, kind: str) -> None:
    response = download(view_request(faulty[0], "", what="bank", to=kind, flag="drift", sort="-b"))
    content = body_of(response)
    items = rows_of(show_page(faulty[0], "bank", flag="drift", sort="-b")[1])
    assert int(response.headers["content-length"]) == len(content)
    assert response.headers["content-disposition"] == f'attachment; filename="bank_2026-12-01.{kind}"'
    assert response.media_type == TYPES[kind]
    if kind == "xlsx":
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            assert not missing_sentences(book.read("xl/sharedStrings.xml").decode(), *(f">{item}<" for item in items))
    else:
        frame = (pd.read_csv if kind == "csv" else pd.read_parquet)(io.BytesIO(content))
        assert frame.item_id.tolist() == items


def test_learner_downloads_require_analyst_role_and_files_have_safe_names(faulty: Faulty) -> None:
    refused = download(view_request(faulty[0], "", what="abilities"))
    assert (refused.status_code, b"the role analyst" in bytes(refused.body)) == (403, True)
    given = download(view_request(faulty[0], "", role="analyst", what="abilities", to="parquet"))
    assert (given.status_code, "theta" in pd.read_parquet(io.BytesIO(body_of(given)))) == (200, True)
    unknown = {"what": "users"}, {"what": "bank", "to": "exe"}, {"what": "flags", "scale": 'x"\r\nSet-Cookie: a'}
    assert [download(view_request(faulty[0], "", **fields)).status_code for fields in unknown] == [404] * 3
    named = download(view_request(faulty[0], "", what="parameters", scale=rooms.SCALE))
    assert len(pd.read_csv(io.BytesIO(body_of(named)))) > 0
    assert f'"parameters_{rooms.SCALE}_2026-12-01.csv"' in named.headers["content-disposition"]


def test_items_can_be_withdrawn_and_restored_by_users_who_may_decide(faulty: Faulty) -> None:
    items = read_bank(faulty)
    anchor = next(i.item_id for i in items if i.anchor)
    name = next(i.item_id for i in items if i.since and not i.anchor)
    form = DecisionForm("withdraw", (Reference("", name),), "it is on the web", "2027-01-01")
    pat = view_request(faulty[0], "item", role="psychometrician", item=name)

    def told(form: DecisionForm, by: ViewRequest = pat) -> tuple[bool, str]:
        outcome = review(by, form)
        assert decide(by, form).ok is outcome.ok
        return outcome.ok, " ".join(outcome.sentences)

    assert told(form, view_request(faulty[0], "item", role="analyst"))[0] is False
    assert "expired" in told(form, replace(pat, identity=replace(pat.identity, exp=0.0)))[1]
    for unfit, reason in (
        (replace(form, reason=" "), "reason"),
        (replace(form, since="2026-11-30"), "is not in the future"),
        (replace(form, since="soon"), "must be a day"),
        (replace(form, references=(Reference("", anchor),)), "is an anchor"),
        (replace(form, references=(Reference("", "nobody"),)), "the bank has no item"),
        (replace(form, kind="restore"), "is not withdrawn"),
    ):
        assert (told(unfit)[0], reason in told(unfit)[1]) == (False, True)
    assert "Take it out of use" in f"{make_page(pat)[1].body}"
    withdrawn = (
        f"Item {name} is out of use from 2027-01-01 00:00 UTC on: answers from then on count towards no ability, and "
        "nothing about it asks for a decision. What was reported until then stays as it is."
    )
    assert told(form) == (True, withdrawn)
    assert "withdrawn from 2027-01-01 on by pat: it is on the web" in show_page(faulty[0], "item", item=name)[1]
    assert "withdrawn from 2027-01-01 on" in show_page(faulty[0], "bank", search=name)[1]
    assert rows_of(show_page(faulty[0], "bank", status="withdrawn")[1]) == []
    later = read_bank(faulty, datetime(2027, 1, 1, tzinfo=UTC))
    assert [i.item_id for i in later if i.status == "withdrawn"] == [name]
    assert told(replace(form, kind="restore", reason="replaced there", since=""))[0]
    html = show_page(faulty[0], "item", item=name)[1]
    assert html.index("replaced there") < html.index("it is on the web")


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "<script>alert(1)</script>", "a/b?c&d#🎓 ", "@" + "y" * 10_000])
def test_item_ids_with_markup_or_formulas_are_escaped_on_pages_and_in_files(faulty: Faulty, name: str) -> None:
    rooms.add_items(Database(faulty[0]), {name: None})
    status, html = show_page(faulty[0], "bank", search=name)
    assert (status, rows_of(html)) == (200, [quote_plus(name)])
    status, html = show_page(faulty[0], "item", item=name, scale=rooms.SCALE)
    body = html.partition("\n")[2]
    assert (status, "is not in use: no month has estimated it yet." in body) == (200, True)
    assert "<script>" not in body
    assert "y" * 100 not in re.sub(r"<[^>]*>", "", body)
    content = body_of(download(view_request(faulty[0], "", what="bank", to="csv", search=name)))
    assert pd.read_csv(io.BytesIO(content)).item_id.tolist() == [f"'{name}" if name[0] in "=@" else name]


def body_of(response: Response) -> bytes:
    async def read() -> bytes:
        return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[attr-defined]

    return asyncio.run(read())


# -- months ------------------------------------------------------------------------------------------

JUNE, JULY = rooms.MONTHS
IN_AUGUST = datetime(2026, 8, 20, 12, 30, tzinfo=UTC)


class FixedReader(Reader):
    """A reader in August that shows the states in `shown`, or otherwise the small world's two months."""

    shown: list[MonthState] | None = None

    def month_states(self) -> list[MonthState]:
        if self.shown is not None:
            return self.shown
        with self.connect() as connection:
            return ledger_states(connection, rooms.MONTHS, unsettled_months(self.instance))

    def now(self) -> datetime:
        return IN_AUGUST


@dataclass
class World:
    reader: FixedReader
    database: Database
    instance: dg.DagsterInstance
    drift: dict[str, list[ScaleDrift]]

    def page(self, **fields: str) -> str:
        """Returns the HTML of a page that exists."""
        status, html = self.answer(**fields)
        assert status == HTTPStatus.OK, html
        return html

    def answer(self, **fields: str) -> tuple[HTTPStatus, str]:
        status, page = make_page(ViewRequest(fields.pop("view"), fields, DEMO, self.reader))
        return status, f"<h1>{escape(page.title)}</h1>{TagList(page.body).get_html_string()}"

    def showing(self, states: list[MonthState]) -> World:
        """Returns the same world with these states of months."""
        other = World(FixedReader(self.reader.settings, self.instance), self.database, self.instance, self.drift)
        other.reader.shown = states
        return other

    @property
    def waiting(self) -> list[Proposal]:
        return rooms.call(self.database, waiting_proposals)

    @contextmanager
    def with_failed_gates(self, month: str, **failing: str) -> Iterator[None]:
        """Fail these gates of the month meanwhile; `failing`: reason by gate."""
        ((stored,),) = rooms.rows(self.database, "SELECT gates FROM month_verdict WHERE month = %s", (month,))
        failed = {name: stored[name] | {"passed": False, "why": why} for name, why in failing.items()}
        try:
            self.store_gates(month, stored | failed)
            yield
        finally:
            self.store_gates(month, stored)

    def store_gates(self, month: str, stored: dict[str, Any] | None) -> None:
        value = stored if stored is None else Jsonb(stored)
        rooms.run_sql(self.database, "UPDATE month_verdict SET gates = %s WHERE month = %s", (value, month))


@pytest.fixture(scope="module")
def world(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    settings, _, drift = faulty
    with dg.DagsterInstance.ephemeral() as instance:
        database = Database(settings)
        found = World(FixedReader(settings, instance), database, instance, drift)
        for month in rooms.MONTHS:
            measure(database, month, f"run of {month}")
        yield found


# -- months --------------------------------------------------------------------------------------------


def test_first_page_shows_whether_the_last_month_is_safe_to_release(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(p.window == JULY for p in world.waiting) > 1
    monkeypatch.setattr(months, "daemon_state", lambda _: (True, IN_AUGUST))
    html = world.page(view="months")
    assert html.index(f">{JULY}</a>") < html.index(f">{JUNE}</a>")
    assert not missing_sentences(
        html,
        f"{JULY} is green and safe to release; ",
        "2026-08-20 12:30 UTC",
        f"?view=decisions&amp;month={JULY}&amp;scale={rooms.SCALE}",
        "The daemon runs, no schedule is late, and no invariant is violated.",
    )


@pytest.mark.parametrize(
    ("severities", "partitions", "sentence"),
    [
        (["error", "error"], [JUNE], f" are violated, for {JUNE} and not for {JULY}, as of "),
        (["warning", "warning"], [JUNE, JULY], " are violated (only warnings, which do not prevent a release), as of "),
        (["error", "warning"], [""], " are violated (one error: settle it before a release), as of "),
    ],
)
def test_violated_invariants_below_the_verdict_state_whether_they_block_a_release(
    world: World, monkeypatch: pytest.MonkeyPatch, severities: list[str], partitions: list[str], sentence: str
) -> None:
    violations = [OpenViolation(f"rule_{k}", severity, 1, "x", partitions) for k, severity in enumerate(severities)]
    monkeypatch.setattr(months, "open_violations", lambda _: violations)
    html = world.page(view="months")
    assert not missing_sentences(html, f"{JULY} is green and safe to release; ", f"two invariants</a>{sentence}")


@pytest.mark.parametrize(
    ("year", "sentence", "then"),
    [
        (2000, f", before {JUNE} and {JULY} were recomputed", " (one violated then): "),
        (2100, f"one invariant</a> is violated, for {JUNE} and not for {JULY}, as of ", "2100-01-01 00:00 UTC"),
    ],
)
def test_invariants_are_marked_out_of_date_if_a_month_was_recomputed_since(
    world: World, monkeypatch: pytest.MonkeyPatch, year: int, sentence: str, then: str
) -> None:
    violation = OpenViolation("every_month_is_green", "error", 1, "x", [JUNE])
    monkeypatch.setattr(months, "open_violations", lambda _: [violation])
    monkeypatch.setattr(months, "last_evaluated", lambda _: datetime(year, 1, 1, tzinfo=UTC))
    html = world.page(view="months")
    assert not missing_sentences(html, sentence, then)


def test_a_red_month_links_to_its_page_and_only_this_page_has_the_long_reason(world: World) -> None:
    reason = "3 of 15 anchors moved against the others: A01 (b +0.80), A02 (b +0.75); decide"
    with world.with_failed_gates(JULY, anchors_agree=reason):
        html = world.page(view="months")
        assert not missing_sentences(
            html,
            "3 of 15 anchors moved against the others",
            f"{JULY} is red and not safe to release",
            "What it published before stays in force.",
        )
        assert "A01 (b +0.80)" not in html
        passed = f"{len(gates.SET_GATES) - 1} of {len(gates.SET_GATES)} gates passed"
        what_to_do = "leave the month red"  # the gate's own wording
        assert not missing_sentences(world.page(view="month", month=JULY), "<b>No. </b>", reason, passed, what_to_do)


def test_every_page_loads_while_a_backfill_runs_and_shows_the_running_month(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of the backfill holds locks on the tables it writes; pages read the rows from before it."""
    monkeypatch.setattr(health, "read_schedules", lambda *_: ())  # an ephemeral instance stores no schedules
    owned = {"month": JULY, "scale_id": rooms.SCALE}
    tags = {"dagster/partition": JULY, "dagster/backfill": "abcdefgh", LAUNCHED_BY: "ann"}
    with dg.DagsterInstance.ephemeral() as instance, world.database.connect() as writing:
        busy = World(FixedReader(world.reader.settings, instance), world.database, instance, world.drift)
        create_run_for_test(instance, MONTHLY_JOB, status=dg.DagsterRunStatus.STARTED, tags=tags)
        advisory_lock(writing, "ledger", rooms.SCALE)
        warehouse.lock_rows(writing, tables.item_drift, owned)
        for table in ("item_drift", "item_parameter_proposal", "month_verdict"):
            writing.execute(f"DELETE FROM {table} WHERE month = %(month)s AND scale_id = %(scale_id)s".encode(), owned)
        (july,) = (state for state in busy.reader.month_states() if state.month == JULY)
        assert july.state is State.RUNNING
        assert f"{JULY} is not settled yet" in busy.page(view="months")
        for view in ("month", "compare", "bank", "decisions", "learners", "kpis", "reports", "health"):
            busy.page(view=view)
        assert ">ann<" in busy.page(view="health")
        waiting = str(busy.waiting[0].reference)
        assert waiting in busy.page(view="decisions")
        assert "Publish the new values" in busy.page(view="proposal", proposal=waiting)
        writing.rollback()


def test_months_page_shows_a_grid_if_there_are_several_scales(world: World) -> None:
    seen = world.reader.month_states()
    other = [replace(state, scale_id="math / <b>") for state in seen]
    other[1] = replace(other[1], state=State.RED, why="linked: fit x is not on the scale: too few anchors")
    both = [state for pair in zip(seen, other, strict=True) for state in pair]
    html = world.showing(both).page(view="months")
    assert not missing_sentences(html, "math / &lt;b&gt;", "scale=math+%2F+%3Cb%3E", f"default: {JULY} is green")
    assert (html.count('<th scope="col"'), html.count("<tr>")) == (3, 3)


@pytest.mark.parametrize("scales", [(rooms.SCALE,), (rooms.SCALE, "other")])
def test_months_in_a_row_without_answers_share_a_line(world: World, scales: tuple[str, ...]) -> None:
    seen = world.reader.month_states()
    empty = [MonthState(f"2025-{k:02}", rooms.SCALE, State.EMPTY, "no answers") for k in range(1, 13)]
    later = [MonthState(month, rooms.SCALE, State.EMPTY, "no answers") for month in ("2026-08", "2026-09")]
    states = [replace(state, scale_id=scale) for state in empty + seen + later for scale in scales]
    world = world.showing(states)
    html = world.page(view="months")
    assert html.count("<tr>") == 1 + len(seen) + 2
    assert not missing_sentences(
        html, "2025-01…2025-12", "2026-08…2026-09: no answers.", f"{JULY} is green and safe to release"
    )
    assert "2026-09 has no answers." in world.page(view="month", scale=rooms.SCALE)
    assert "2026-09" not in world.page(view="reports")
    assert "2026-09" in world.page(view="reports", month="2026-09")


def test_missing_months_share_a_link_that_launches_them_in_dagster(world: World) -> None:
    assert "backfill" not in world.page(view="months")
    seen = world.reader.month_states()
    missing = [MonthState(month, rooms.SCALE, State.MISSING, "it was never fitted") for month in ("2026-03", "2026-05")]
    html = world.showing(missing + seen).page(view="months")
    assert not missing_sentences(
        html,
        f"""href="{world.reader.settings.ui_url}{months.backfill_path(["2026-03", "2026-05"])}">""",
        "Two months missing: ",
    )
    assert months.backfill_path(["2026-03", "2026-05"]).endswith("?default_range=2026-03,2026-05")
    assert months.backfill_path(["2026-03", "2026-04", "2026-05"]).endswith("?default_range=[2026-03...2026-05]")
    assert "irt backfill --from 2026-03 --to 2026-05" in html


@pytest.mark.parametrize("scales", [(rooms.SCALE,), (rooms.SCALE, "other")])
def test_months_of_the_origin_window_share_a_line_with_the_first_month_of_drift(
    world: World, scales: tuple[str, ...]
) -> None:
    seen, reason = world.reader.month_states(), f"part of the origin window, and drift begins after it, in {JUNE}"
    window = [MonthState(f"2026-{k:02}", rooms.SCALE, State.ORIGIN, reason) for k in range(1, 6)]
    states = [replace(state, scale_id=scale) for state in window + seen for scale in scales]
    world = world.showing(states)
    html = world.page(view="months")
    assert html.count("<tr>") == 1 + len(seen) + 1
    assert "2026-01…2026-05" in html
    assert html.count(reason) == len(scales)
    assert f"2026-05 is {reason}." in world.page(view="month", month="2026-05", scale=rooms.SCALE)
    assert "irt report drift --month 2026-05" in world.page(view="month", month="2026-05", scale=rooms.SCALE)
    assert "2026-05" not in world.page(view="reports")
    assert "not written yet" in world.page(view="reports", month="2026-05")


def test_months_page_shows_the_origin_windows_fit_and_excluded_items(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "left out" not in world.page(view="months"), "the anchors are the bank's"
    start, end = Month(JUNE).bounds
    (scale,) = rooms.call(world.database, read_scales).values()
    fit = rooms.call(world.database, linked_fit, scale.scale_id, "monthly", start, scale.engine)
    left_out = {next(iter(fit.items)): "SE(b) = 1.09 is above 1", "<b>": "30 responses are fewer than 125"}
    window = OriginFit(start, end, "", "", "", scale.engine, 478, 20_897)
    monkeypatch.setattr(months, "read_origin", lambda *_: OriginSummary(window, fit, left_out))
    assert not missing_sentences(
        world.page(view="months"),
        "it begins with the first month after it",
        "2026-06-01 to 2026-07-01",
        "20,897 of 478 learners",
        f">{len(fit.items) - 1} items</a>",
        "two items",
        "&lt;b&gt;: 30 responses are fewer than 125",
        "items that share more than the ability (Q3)",
    )


def test_months_page_explains_the_first_step_if_there_is_no_month(world: World) -> None:
    world = world.showing([])
    assert "irt import questions FILE" in world.page(view="months")
    assert [world.answer(view=view)[0] for view in ("month", "compare")] == [HTTPStatus.NOT_FOUND] * 2


# -- a month -------------------------------------------------------------------------------------------


def test_numbers_on_the_month_page_equal_the_stored_numbers(world: World) -> None:
    html = world.page(view="month", month=JULY, scale=rooms.SCALE)
    with world.database.connect() as connection:
        history = read_history(connection, read_scales(connection)[rooms.SCALE], JULY)
        step = steps(connection, rooms.SCALE)[JULY]
        snapshot = current_snapshot(connection, JULY)
        fitted = connection.execute(
            "SELECT n_responses, n_persons, data_hash FROM mirt_fit_meta WHERE window_start = %s AND kind = 'monthly'",
            (Month(JULY).start,),
        ).fetchone()
        theta = connection.execute(
            "SELECT count(*), avg(theta) FROM mirt_ability WHERE window_end = %s AND kind = 'monthly'",
            (Month(JULY).end,),
        ).fetchone()
    now, counts = history[-1].constants, snapshot.counts[rooms.SCALE]
    assert not missing_sentences(
        html,
        f"= {number(now.slope, 3)} ± {number(now.slope_se, 3)} · θ of the fit",
        f"{signed_number(now.intercept, 3)} ± {number(now.intercept_se, 3)}",
        f"{theta[0]:,} learners were measured at its end: mean θ {number(theta[1])}",
        f"{fitted[0]:,} answers of {fitted[1]:,} learners",
        fitted[2],
        f"{step.n_proposed:,} proposed and {step.n_held:,} held back",
        f"of {sum(counts.values()):,} answers of the month were left out",
        f">{counts['repeat']:,}<",
        f"{len(gates.SET_GATES)} of {len(gates.SET_GATES)} gates passed",
    )


def test_month_page_links_every_item_that_drifted(world: World) -> None:
    (drift,) = world.drift[JULY]
    drifted = [*drift.items("high"), *drift.items("medium")]
    assert drifted
    links = [f"?view=item&amp;item={item}&amp;scale={rooms.SCALE}" for item in drifted]
    how_many = f"{len(drifted)} drifted ({len(drift.items('high'))} of them high"
    assert not missing_sentences(world.page(view="month", month=JULY), how_many, *links)


def test_gates_of_a_month_that_an_earlier_release_judged_are_shown_as_not_evaluated(world: World) -> None:
    with world.with_failed_gates(JULY):
        world.store_gates(JULY, None)
        html, n = world.page(view="month", month=JULY), len(gates.SET_GATES)
    assert (f"0 of {n} gates passed" in html, html.count(">not evaluated<")) == (True, n)


def test_recorded_decision_is_shown_on_the_month_page_with_name_and_reason(world: World) -> None:
    item = next(p.item_id for p in rooms.call(world.database, proposals, windows=[JUNE]) if p.state == "open")
    reject(world.database, [Reference(JUNE, item)], by="Ann <b>", reason="wait & see")
    assert not missing_sentences(
        world.page(view="month", month=JUNE),
        "One decision so far.",
        ">rejected</td>",
        "Ann &lt;b&gt;",
        "wait &amp; see",
        f"?view=proposal&amp;proposal={JUNE}%2F{item}",
    )
    assert "Decisions on the month" not in world.page(view="month", month=JULY)


@pytest.mark.parametrize("month", ["2026-05", "2026-13", "'; DROP TABLE question --", "x" * 10_000, "2026-07\x00"])
def test_unknown_month_in_the_address_returns_404_with_the_existing_months(world: World, month: str) -> None:
    status, html = world.answer(view="month", month=month)
    assert (status, f"{JUNE} to {JULY}" in html, len(html) < 2_000) == (HTTPStatus.NOT_FOUND, True, True)
    assert world.answer(view="compare", first=month)[0] == HTTPStatus.NOT_FOUND


def test_unknown_scale_in_the_address_returns_404_with_the_existing_scales(world: World) -> None:
    for view in ("month", "compare"):
        status, html = world.answer(view=view, scale="<script>alert(1)</script>")
        assert (status, rooms.SCALE in html, "<script>alert" in html) == (HTTPStatus.NOT_FOUND, True, False)


@pytest.mark.parametrize("view", ["months", "month", "compare"])
def test_month_pages_do_not_read_the_response_log(world: World, view: str) -> None:
    with world.database.connect() as connection:
        connection.execute(
            "LOCK TABLE response_log IN ACCESS EXCLUSIVE MODE"
        )  # a query that reads the table waits and is cancelled
        assert world.answer(view=view)[0] == HTTPStatus.OK


# -- two months ----------------------------------------------------------------------------------------


def test_compare_page_shows_two_months_with_the_changes_of_their_items(world: World) -> None:
    html = world.page(view="compare", first=JUNE, second=JULY)
    fits = {
        month: rooms.call(world.database, linked_fit, rooms.SCALE, "monthly", Month(month).start, "em").values
        for month in rooms.MONTHS
    }
    both = fits[JUNE].keys() & fits[JULY].keys()
    assert f"{len(both):,} items were put on the scale by both months" in html
    (drift,) = world.drift[JULY]
    high = drift.items("high")[0]
    change = number(fits[JULY][high].b - fits[JUNE][high].b)
    error = np.hypot(*(fits[month][high].b_se for month in rooms.MONTHS))
    assert f"{change} ± {number(error)}" in html
    assert not missing_sentences(html[html.index("Flagged items, new and gone") :], f"item={high}&amp;", "drift: high")


def test_compare_page_shows_the_last_two_months_unless_the_address_names_two_months(world: World) -> None:
    assert f"What changed from {JUNE} to {JULY}?" in world.page(view="compare")
    backwards = world.page(view="compare", first=JULY, second=JUNE)
    assert "Choose two different months." in world.page(view="compare", first=JULY, second=JULY)
    chosen = f'<option value="{JULY}" selected="">', 'name="view" value="compare"'
    assert not missing_sentences(backwards, f"What changed from {JULY} to {JUNE}?", *chosen)


# -- in words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        (
            "anchors_agree: 2 of 9 anchors moved against the others: A1 (b +1); …",
            "2 of 9 anchors moved against the others",
        ),
        ("never materialised: `irt calibrate --month 2026-06`", "never materialised"),
        ("88 items first published, 30 proposed, 2 held back", "88 items first published, 30 proposed, 2 held back"),
        ("a run ended early, materialise again (not evaluated: linked)", "a run ended early, materialise again"),
        (f"converged: {'word ' * 50}", f"{('word ' * 20).strip()} …"),
    ],
)
def test_short_reason_is_the_first_clause(reason: str, short: str) -> None:
    assert shorten_reason(reason) == short


@pytest.mark.parametrize(
    ("state", "reason", "waiting", "sentence"),
    [
        (State.GREEN, "2 items first published", 0, "is green and safe to release; nothing waits for a decision."),
        (State.GREEN, "2 items first published", 1, "is green and safe to release; one decision waits."),
        (
            State.RED,
            "converged: no maximum",
            2,
            "is red and not safe to release: no maximum. Nothing of it was published.",
        ),
        (State.STALE, "its answers have changed since: …", 0, "is not safe to release yet: its answers have"),
        (State.PENDING, "waits for 2026-05, not settled yet", 0, "is not released yet: it waits for 2026-05"),
        (State.RUNNING, "a run of the month is queued", 0, "is not settled yet: a run of the month is queued."),
        (State.MISSING, "never materialised: `irt`", 0, "has not been calibrated: never materialised."),
    ],
)
def test_verdict_of_a_month_is_a_sentence_that_depends_on_its_state(
    state: State, reason: str, waiting: int, sentence: str
) -> None:
    assert f"{JUNE} {sentence}" in verdict(MonthState(JUNE, rooms.SCALE, state, reason), waiting, None)


def test_closed_month_can_be_reopened_by_users_who_may_decide(world: World) -> None:
    form = DecisionForm("reopen", (Reference(JUNE, ""),), "a paper form")
    decider, other = (
        ViewRequest("month", {"month": JUNE}, replace(DEMO, roles=(role,)), world.reader)
        for role in ("psychometrician", "analyst")
    )
    assert "Reopen the month" not in world.page(view="month", month=JUNE)
    assert "is not closed: there is nothing to reopen" in " ".join(review(decider, form).sentences)
    try:
        assert JUNE in [one.month for one in close_months(world.database, IN_AUGUST)]
        assert "Reopen the month" in world.page(view="month", month=JUNE)
        rooms.run_sql(world.database, """UPDATE month_state SET came = '{"answers": 100, "late": 7}'""")
        late = "It has closed; answers since then: 7 late (7.0% of its answers)."
        assert not missing_sentences(world.page(view="month", month=JUNE), late)
        assert "see the answers after it closed" in world.page(view="months")
        assert not decide(other, form).ok
        since, again = review(decider, form).sentences
        assert since.endswith("no answer has changed since.")
        assert again.startswith(("To be calibrated again", "Nothing has to be calibrated again"))
        assert decide(decider, form).sentences[0].startswith("Recorded as decision")
        assert not missing_sentences(world.page(view="month", month=JUNE), "a paper form", f"by {DEMO.sub}")
    finally:
        rooms.run_sql(world.database, "DELETE FROM month_state")
