"""The dashboard's bank, its items and its downloads: the numbers are the rooms' own, whatever the address holds."""

from __future__ import annotations

import asyncio
import io
import math
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import numpy as np
import pandas as pd
import pytest
from dagster import DagsterInstance
from htmltools import TagList
from starlette.responses import Response

from irt_assets.common.partitions import Month
from irt_assets.decisions.bank import bank_items
from irt_assets.decisions.proposals import Reference, latest_waiting, proposals, waiting_proposals
from irt_assets.drift.month import ScaleDrift
from irt_assets.ledger.fit_spec import Spread
from irt_assets.ledger.linked_windows import newest_window
from irt_assets.ledger.publications import publications_in_force
from irt_assets.ledger.relations import ORIGIN_WINDOW
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.simulation.truth import Truth
from irt_assets.reports import item_shown
from irt_assets.reports.drift_facts import observed_of
from irt_assets.reports.item_facts import item_facts, observed_in
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import read_snapshot, snapshot_of
from irt_assets.responses.window import scored_responses_of
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.deciding import Form, decide, review
from services.dashboard.downloads import TYPES, download
from services.dashboard.figures import shown as shown_on_page
from services.dashboard.page import Asked
from services.dashboard.reader import Reader
from services.dashboard.server import make_page
from services.dashboard.views.bank import PAGE_SIZE
from services.jwt_verifier.tokens import Identity, Role
from tests.helpers import rooms

Faulty = tuple[Settings, Truth, dict[str, list[ScaleDrift]]]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_what_waits_is_what_asks_of_all_that_is_proposed(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        found, wanted = waiting_proposals(connection), latest_waiting(proposals(connection))
        assert [replace(p, wabc=None) for p in found] == [replace(p, wabc=None) for p in wanted] != []
        assert [p.wabc for p in found] == pytest.approx([p.wabc for p in wanted])  # up to the order of summing
        of_one = waiting_proposals(connection, rooms.SCALE, [found[0].item_id])
        assert [p.reference for p in of_one] == [found[0].reference]
        assert waiting_proposals(connection, "elsewhere") == []


def test_the_bank_is_what_is_in_force_and_what_drifted(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        found = bank_items(connection, scale, NOW)
        in_force = publications_in_force(connection, scale.scale_id, NOW)
        bank = [i for (i,) in connection.execute("SELECT item_id FROM question WHERE scale_id = %s", (rooms.SCALE,))]
        flagged = {
            item
            for (item,) in connection.execute(
                "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'", (rooms.MONTHS[1],)
            )
        }
    assert [item.item_id for item in found] == sorted(bank)
    assert {i.item_id: i.values for i in found if i.since} == {one.item_id: one.values for one in in_force}
    assert {item.item_id for item in found if item.drifted} == flagged != set()


def test_without_a_month_the_answers_of_the_bank_are_those_of_the_origin_window(faulty: Faulty) -> None:
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


def test_the_figures_of_an_item_with_one_month_have_an_axis_of_days(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        facts = item_facts(connection, scale, waiting_proposals(connection)[0].item_id, NOW)
    alone = replace(facts, months=facts.months[:1], publications=())
    (month,) = alone.months
    drawn = unescape(str(shown_on_page(item_shown.history(alone, "b"))))
    first, last = (int(ms) / 1000 for ms in re.findall(r'range":\[(\d+),(\d+)\],"type":"date', drawn)[0])
    assert first < month.start.timestamp() < last == month.end.timestamp()


@pytest.mark.parametrize("month", rooms.MONTHS)
def test_observed_proportions_are_those_of_the_whole_snapshot(faulty: Faulty, month: str) -> None:
    settings = faulty[0]
    store = rooms.folder_store(settings)
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        item = waiting_proposals(connection)[0].item_id
        facts = item_facts(connection, scale, item, NOW)
        fitted = next(one for one in facts.months if one.month == month)
        seen = observed_in(connection, store, facts, fitted)
        snapshot = snapshot_of(connection, month, fitted.snapshot_hash)
        responses, _ = scored_responses_of(read_snapshot(store, snapshot), scale.scale_id)
        rows = connection.execute("SELECT item_id, params FROM mirt_item_params WHERE fit_id = %s", (fitted.fit_id,))
        latent = Spread.from_json(fitted.latent, fitted.fit_id)
        wanted = observed_of(responses, {name: ItemRow.if_known(of) for name, of in rows}, latent, [item])[item]
    assert (seen.n.tolist(), seen.n.sum()) == (wanted.n.tolist(), fitted.n)
    np.testing.assert_allclose(seen.theta, wanted.theta, atol=1e-12)  # up to the order of summing
    np.testing.assert_array_equal(seen.proportion, wanted.proportion)


def asked(settings: Settings, view: str, role: Role = "viewer", **fields: str) -> Asked:
    with DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
    reader.now = lambda: NOW  # type: ignore[method-assign]
    return Asked(view, fields, Identity("pat", "demo", (role,), frozenset(), math.inf), reader)


def shown(settings: Settings, view: str, **fields: str) -> tuple[int, str]:
    """Status and text of a page."""
    status, page = make_page(asked(settings, view, **fields))
    return int(status), f"{page.title}\n{TagList(page.body)}"


def rows_of(html: str) -> list[str]:
    """The items of the bank's table, in its order."""
    return re.findall(r'view=item&amp;scale=default&amp;item=([^"]+)"', html)


def test_the_bank_shows_fifty_items_a_page_in_the_order_asked_for(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        items = bank_items(connection, read_scales(connection)[rooms.SCALE], NOW)
    hardest = sorted((i for i in items if i.values), key=lambda i: -i.values.b)
    unpublished = [i for i in items if not i.values]
    status, html = shown(faulty[0], "bank", sort="-b")
    assert status == 200
    assert rows_of(html) == [i.item_id for i in [*hardest, *unpublished]][:PAGE_SIZE]
    assert 'aria-sort="descending"' in html
    drifted = [i.item_id for i in items if i.drifted]
    status, html = shown(faulty[0], "bank", flag="drift")
    assert rows_of(html) == drifted != []
    assert f"{len(drifted)} drifted" in html
    one = drifted[0]
    assert rows_of(shown(faulty[0], "bank", search=one.lower())[1]) == [i.item_id for i in items if one in i.item_id]


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
def test_what_does_not_exist_is_not_found(faulty: Faulty, view: str, fields: dict[str, str]) -> None:
    if fields.get("item") == "FIRST":
        with Database(faulty[0]).connect() as connection:
            fields = fields | {"item": waiting_proposals(connection)[0].item_id}
    status, html = shown(faulty[0], view, **fields)
    assert status == 404
    assert "<script>" not in html


def test_an_item_says_whether_it_is_sound_and_what_waits(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        items = bank_items(connection, read_scales(connection)[rooms.SCALE], NOW)
    drifted = next(i for i in items if i.drifted and i.proposal)
    sound = next(i for i in items if i.since and not i.drifted and not i.proposal and not i.dif)
    status, html = shown(faulty[0], "item", item=drifted.item_id)
    assert (status, "It has drifted since" in html, "A decision waits" in html) == (200, True, True)
    assert urlencode({"proposal": f"{drifted.proposal and drifted.proposal.reference}"}) in html
    status, html = shown(faulty[0], "item", item=sound.item_id, scale=rooms.SCALE, month=rooms.MONTHS[0])
    assert (status, "No decision on it waits" in html) == (200, True)
    assert f"a = {sound.values.a:.2f} and b = {sound.values.b:.2f}".replace("-", "−") in html
    assert html.count("data-figure") == 3


def test_answers_that_are_gone_are_said_to_be(faulty: Faulty, tmp_path: Path) -> None:
    settings = faulty[0].model_copy(update={"irt_home": tmp_path})
    with Database(settings).connect() as connection:
        item = waiting_proposals(connection)[0].item_id
    status, html = shown(settings, "item", item=item)
    assert (status, "is missing from the object store" in html) == (200, True)


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_a_file_has_the_items_that_the_page_shows(faulty: Faulty, kind: str) -> None:
    response = download(asked(faulty[0], "", what="bank", to=kind, flag="drift", sort="-b"))
    content = body_of(response)
    items = rows_of(shown(faulty[0], "bank", flag="drift", sort="-b")[1])
    assert int(response.headers["content-length"]) == len(content)
    assert response.headers["content-disposition"] == f'attachment; filename="bank_2026-12-01.{kind}"'
    assert response.media_type == TYPES[kind]
    if kind == "xlsx":
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            texts, sheet = (book.read(f"xl/{part}.xml").decode() for part in ("sharedStrings", "worksheets/sheet1"))
        assert all(f">{item}<" in texts for item in items)
        assert "<f>" not in sheet
    else:
        frame = (pd.read_csv if kind == "csv" else pd.read_parquet)(io.BytesIO(content))
        assert frame.item_id.tolist() == items


def test_learners_data_are_for_analysts_and_files_have_safe_names(faulty: Faulty) -> None:
    refused = download(asked(faulty[0], "", what="abilities"))
    assert (refused.status_code, b"the role analyst" in bytes(refused.body)) == (403, True)
    given = download(asked(faulty[0], "", role="analyst", what="abilities", to="parquet"))
    assert (given.status_code, "theta" in pd.read_parquet(io.BytesIO(body_of(given)))) == (200, True)
    for fields in ({"what": "users"}, {"what": "bank", "to": "exe"}, {"what": "flags", "scale": 'x"\r\nSet-Cookie: a'}):
        assert download(asked(faulty[0], "", **fields)).status_code == 404
    named = download(asked(faulty[0], "", what="parameters", scale=rooms.SCALE))
    assert len(pd.read_csv(io.BytesIO(body_of(named)))) > 0
    assert f'"parameters_{rooms.SCALE}_2026-12-01.csv"' in named.headers["content-disposition"]


def test_an_item_is_withdrawn_and_restored_by_who_may_decide(faulty: Faulty) -> None:
    with Database(faulty[0]).connect() as connection:
        items = bank_items(connection, read_scales(connection)[rooms.SCALE], NOW)
    anchor = next(i.item_id for i in items if i.anchor)
    name = next(i.item_id for i in items if i.since and not i.anchor)
    form = Form("withdraw", (Reference("", name),), "it is on the web", "2027-01-01")
    pat = asked(faulty[0], "item", role="psychometrician", item=name)

    def told(form: Form, by: Asked = pat) -> tuple[bool, str]:
        outcome = review(by, form)
        assert decide(by, form).ok is outcome.ok
        return outcome.ok, " ".join(outcome.sentences)

    assert told(form, asked(faulty[0], "item", role="analyst"))[0] is False
    assert "expired" in told(form, replace(pat, identity=replace(pat.identity, exp=0.0)))[1]
    for unfit, why in (
        (replace(form, reason=" "), "reason"),
        (replace(form, since="2026-11-30"), "is not in the future"),
        (replace(form, since="soon"), "wants a day"),
        (replace(form, references=(Reference("", anchor),)), "is an anchor"),
        (replace(form, references=(Reference("", "nobody"),)), "the bank has no item"),
        (replace(form, what="restore"), "is not withdrawn"),
    ):
        assert (told(unfit)[0], why in told(unfit)[1]) == (False, True)
    assert "Take it out of use" in shown(faulty[0], "item", item=name)[1]
    withdrawn = (
        f"{name} is out of use from 2027-01-01 00:00 UTC on: answers from then on count towards no ability, and "
        "nothing about it asks for a decision. What was reported until then stays as it is."
    )
    assert told(form) == (True, withdrawn)
    assert "withdrawn from 2027-01-01 on by pat: it is on the web" in shown(faulty[0], "item", item=name)[1]
    assert "withdrawn from 2027-01-01 on" in shown(faulty[0], "bank", search=name)[1]
    assert rows_of(shown(faulty[0], "bank", status="withdrawn")[1]) == []
    with Database(faulty[0]).connect() as connection:
        later = bank_items(connection, read_scales(connection)[rooms.SCALE], datetime(2027, 1, 1, tzinfo=UTC))
    assert [i.item_id for i in later if i.status == "withdrawn"] == [name]
    assert told(replace(form, what="restore", reason="replaced there", since=""))[0]
    html = shown(faulty[0], "item", item=name)[1]
    assert html.index("replaced there") < html.index("it is on the web")


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "<script>alert(1)</script>", "a/b?c&d#🎓 ", "@" + "y" * 10_000])
def test_an_id_is_data_wherever_it_stands(faulty: Faulty, name: str) -> None:
    rooms.add_items(Database(faulty[0]), {name: None})
    status, html = shown(faulty[0], "bank", search=name)
    assert (status, rows_of(html)) == (200, [quote_plus(name)])
    status, html = shown(faulty[0], "item", item=name, scale=rooms.SCALE)
    body = html.partition("\n")[2]
    assert (status, "is not in use: nothing was ever published for it of" in body) == (200, True)
    assert "<script>" not in body
    assert "y" * 100 not in re.sub(r"<[^>]*>", "", body)
    for kind in ("csv", "parquet", "xlsx"):
        content = body_of(download(asked(faulty[0], "", what="bank", to=kind, search=name)))
        if kind == "xlsx":
            with zipfile.ZipFile(io.BytesIO(content)) as book:
                assert "<f>" not in book.read("xl/worksheets/sheet1.xml").decode()
        else:
            (told,) = (pd.read_csv if kind == "csv" else pd.read_parquet)(io.BytesIO(content)).item_id
            assert told == (f"'{name}" if kind == "csv" and name[0] in "=@" else name)


def body_of(response: Response) -> bytes:
    async def read() -> bytes:
        return b"".join([bytes(piece) async for piece in response.body_iterator])  # type: ignore[attr-defined]

    return asyncio.run(read())
