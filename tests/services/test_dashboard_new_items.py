"""The pages of new items, of an item and of a scale show the stage, the progress and the forecast of new items."""

from __future__ import annotations

import asyncio
import io
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html import unescape
from pathlib import Path
from typing import cast

import dagster as dg
import pandas as pd
import pytest
from starlette.responses import StreamingResponse

from irt_assets.blocks import DASH
from irt_assets.blocks.markdown import markdown
from irt_assets.common.partitions import month_of
from irt_assets.decisions.deciding import decide
from irt_assets.decisions.proposals import Reference
from irt_assets.new_items.decided import REJECT, SEED, ItemsRequest, SeedLimits
from irt_assets.new_items.progress import ACCUSED
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.reports.scale_blocks import sections
from irt_assets.reports.scale_facts import scale_facts
from irt_assets.scales.scale import read_scales
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, DecisionKind, decide as decide_on_page, review
from services.dashboard.downloads import download
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.jwt_verifier.tokens import Identity
from tests.helpers.new_items import NIGHT, pipeline_item, store_pipeline
from tests.helpers.rooms import SCALE, add_items, call, run_sql
from tests.helpers.score_world import SIGNED, build_exam
from tests.helpers.sentences import missing_sentences

VIEWER = Identity("Vic", "org", ("viewer",), frozenset(), math.inf)
PAT = Identity("Pat", "org", ("psychometrician",), frozenset(), math.inf)


@pytest.fixture
def reader(settings: Settings) -> Iterator[Reader]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Reader(settings, instance)


@pytest.fixture
def queue(database: Database, tmp_path: Path) -> Database:
    """An exam with new items: slow is at a quarter of the precision, ready is publishable, wrong is accused, out is
    rejected, and draft is seeded without an answer."""
    build_exam(database, tmp_path / "exam", learners=40)
    add_items(database, dict.fromkeys(["slow", "ready", "wrong", "out", "draft"]))
    run_sql(database, "UPDATE question SET topic_id = 'algebra' WHERE item_id IN ('slow', 'ready', 'wrong')")
    decide(database, SEED, ItemsRequest(["draft"], SeedLimits(max_answers=77)), **SIGNED)
    decide(database, REJECT, ItemsRequest(["out"]), **SIGNED)
    store_pipeline(
        database,
        pipeline_item("slow", 0.5, measured_at=NIGHT - timedelta(days=3)),
        pipeline_item("ready", 0.2, publishable=True, publishable_at=NIGHT - timedelta(days=2), ready_at=NIGHT.date()),
        pipeline_item("wrong", 0.25, accused=True, flags=["misfit"], stuck=ACCUSED.reason),
    )
    return database


def page(reader: Reader, view: str = "new_items", status: int = 200, by: Identity = VIEWER, **fields: str) -> str:
    found, shown = make_page(ViewRequest(view, fields, by, reader))
    assert found == status
    return unescape(f"{shown.title}\n{shown.body}")


def buttons(text: str) -> set[str]:
    """Return the kinds of the buttons on a page."""
    return {*re.findall(r'<button [^>]*id="(\w+)"', text)}


def told(reader: Reader, form: DecisionForm, by: Identity = PAT) -> tuple[bool, str]:
    """Review a decision, and make it if it is possible. Returns whether it is, and the effect."""
    request = ViewRequest("new_items", {}, by, reader)
    outcome = review(request, form)
    if outcome.ok:
        assert decide_on_page(request, form, outcome).ok
    return outcome.ok, " ".join(outcome.sentences)


def row_of(text: str, item: str) -> str:
    return text.partition(f">{item}</a>")[2].partition("</tr>")[0]


def listed(text: str) -> set[str]:
    return {item for item in ("slow", "ready", "wrong", "out", "draft", "i1") if row_of(text, item)}


def test_queue_shows_stage_progress_forecast_and_remedy_of_each_item(reader: Reader, queue: Database) -> None:
    text = page(reader)
    assert listed(text) == {"slow", "ready", "wrong", "draft"}
    assert not missing_sentences(row_of(text, "slow"), ">measured<", "algebra", ">120<", ">25%<", ">0.50<", ">0.20<")
    assert "2026-08-21 (2026-08-16 to 2026-08-29)" in row_of(text, "slow")
    assert not missing_sentences(row_of(text, "ready"), ">publishable<", ">100%<", "since 2026-07-30")
    remedy = "irt items rekey wrong --key OPTION"
    assert not missing_sentences(row_of(text, "wrong"), ACCUSED.reason, remedy, "misfit")
    assert not missing_sentences(row_of(text, "draft"), ">draft<", "seeded, with 77 answers at most")
    assert "Four items are not published yet: one of them is publishable" in text
    assert ">one is stuck</a>" in text


def test_queue_names_the_first_day_of_an_item_that_a_person_published(reader: Reader, queue: Database) -> None:
    decide(queue, PUBLISH, PublishRequest(["ready"]), **SIGNED)
    text, first = page(reader), month_of(datetime.now(UTC)).end
    assert f"counts from {first:%Y-%m-%d}" in row_of(text, "ready")
    assert "none of them are publishable; one will count from the next month on" in text


def test_filters_choose_by_stage_topic_and_stuck(reader: Reader, queue: Database) -> None:
    assert listed(page(reader, stage="rejected")) == {"out"}
    assert listed(page(reader, stage="measured")) == {"slow"}
    assert listed(page(reader, search="ALGEBRA")) == {"slow", "ready", "wrong"}
    assert listed(page(reader, stuck="1")) == {"wrong"}
    assert "i1" in listed(page(reader, stage="published"))
    assert "no stage 'open'" in page(reader, status=404, stage="open")


def test_a_bank_without_new_items_says_how_they_begin(reader: Reader, database: Database, tmp_path: Path) -> None:
    build_exam(database, tmp_path / "exam", learners=40)
    text = page(reader)
    assert not missing_sentences(text, "There are no new items.", "irt import questions FILE", "irt items seed ITEM")
    assert "its origin comes first" not in text


def test_a_scale_without_published_items_says_that_the_origin_comes_first(reader: Reader, database: Database) -> None:
    add_items(database, {"n1": None})
    text = page(reader)
    assert "its origin comes first" in text
    assert f"irt scale init --scale {SCALE}" in text
    assert ">draft<" in row_of(text, "n1")


@pytest.mark.parametrize(("kind", "read"), [("csv", pd.read_csv), ("xlsx", partial(pd.read_excel, engine="calamine"))])
def test_files_contain_the_chosen_items_with_their_values(
    reader: Reader, queue: Database, tmp_path: Path, kind: str, read: object
) -> None:
    fields = {"what": "pipeline", "to": kind, "search": "algebra"}
    response = cast("StreamingResponse", download(ViewRequest("", fields, VIEWER, reader)))
    assert response.status_code == 200

    async def body() -> bytes:
        return b"".join([cast("bytes", piece) async for piece in response.body_iterator])

    frame = read(io.BytesIO(asyncio.run(body()))).set_index("item_id")  # type: ignore[operator]
    assert {*frame.index} == {"slow", "ready", "wrong"}
    assert frame["stage"].to_dict() == {"slow": "measured", "ready": "publishable", "wrong": "seeded"}
    assert frame["progress"].to_dict() == pytest.approx({"slow": 0.25, "ready": 1.0, "wrong": 1.0})
    assert frame["b_se"].to_dict() == pytest.approx({"slow": 0.5, "ready": 0.2, "wrong": 0.25})


def test_page_of_an_item_shows_stage_steps_and_the_decisions_of_the_stage(reader: Reader, queue: Database) -> None:
    text = page(reader, "item", item="slow")
    steps = text.partition("How it got there")[2]
    assert not missing_sentences(text, ">measured<", "since 2026-07-29", "publishable around 2026-08-21", "25 %")
    assert steps.index("first answer") < steps.index(">measured<")
    assert buttons(text) == set()
    draft = page(reader, "item", item="draft")
    assert not missing_sentences(draft, "seed items, ", "it has no answers yet")
    assert not missing_sentences(page(reader, "item", item="wrong"), f"It is stuck: {ACCUSED.reason}.")
    rejected = page(reader, "item", item="out")
    assert not missing_sentences(rejected, ">rejected<", "reject items, ")
    published = page(reader, "item", item="i1")
    assert not missing_sentences(published, ">published<", "first published values in force")
    offered = {
        item: buttons(page(reader, "item", by=PAT, item=item)) for item in ("slow", "ready", "draft", "out", "i1")
    }
    assert offered == {
        "slow": {"seed", "reject_item"},
        "ready": {"publish", "seed", "reject_item"},
        "draft": {"seed", "stop", "reject_item"},
        "out": {"bring_back"},
        "i1": {"retire"},
    }


def test_page_of_new_items_offers_the_decisions_on_the_listed_items(reader: Reader, queue: Database) -> None:
    assert buttons(page(reader)) == set()
    assert buttons(page(reader, by=PAT)) == {"publish", "seed", "stop", "reject_item"}
    assert buttons(page(reader, by=PAT, stage="rejected")) == {"stop", "bring_back"}
    assert buttons(page(reader, by=PAT, search="nothing")) == set()


def test_users_who_may_decide_move_items_between_stages(reader: Reader, queue: Database) -> None:
    seed = DecisionForm("seed", (), "field trial", options=("slow", "ready"))
    limits = {"max_answers": "60", "max_per_day": "", "first_day": "2026-09-01", "last_day": ""}
    assert told(reader, seed, VIEWER)[0] is False
    for unfit, reason in (
        (replace(seed, options=()), "no item is named"),
        (replace(seed, options=("slow", "i1")), "i1 is published"),
        (replace(seed, limits={"max_answers": "many"}), "max_answers: "),
        (replace(seed, limits=limits | {"last_day": "2026-08-31"}), "must not be before 2026-09-01"),
        (replace(seed, kind="publish", options=("wrong",)), "has a key that another option beats"),
        (replace(seed, kind="bring_back"), "only rejected and retired items"),
    ):
        done, text = told(reader, unfit)
        assert (done, reason in text) == (False, True), text
    done, text = told(reader, replace(seed, limits=limits))
    assert done
    assert not missing_sentences(
        text, *(f"Item {item} is seeded, with 60 answers at most from 2026-09-01." for item in seed.options)
    )
    assert not missing_sentences(row_of(page(reader), "ready"), "seeded, with 60 answers at most from 2026-09-01")
    kinds: tuple[tuple[DecisionKind, str, str], ...] = (
        ("stop", "slow", "not seeded"),
        ("reject_item", "slow", ">rejected<"),
        ("bring_back", "slow", ">measured<"),
        ("retire", "i1", ">retired<"),
        ("publish", "ready", "publish new items"),
    )
    for kind, item, shown in kinds:
        done, text = told(reader, DecisionForm(kind, (Reference("", item),), "read"))
        assert done, text
        assert shown in page(reader, "item", item=item) + row_of(page(reader), item)


def test_a_rejected_item_is_not_stuck_before_the_next_night(reader: Reader, queue: Database) -> None:
    decide(queue, REJECT, ItemsRequest(["wrong"]), **SIGNED)
    assert listed(page(reader, stuck="1")) == set()
    assert "It is stuck" not in page(reader, "item", item="wrong")


def test_page_of_a_scale_forecasts_the_size_of_the_bank_by_topic(reader: Reader, queue: Database) -> None:
    store_pipeline(
        queue,
        pipeline_item("slow", 0.5),
        pipeline_item("ready", 0.2, publishable=True),
        pipeline_item("wrong", 0.25, stuck=ACCUSED.reason),
        pipeline_item("out", 0.2, publishable=True),
        replace(pipeline_item("draft", 0.5), ready_at=NIGHT.date() + timedelta(days=70)),
    )
    facts = call(queue, scale_facts, call(queue, read_scales)[SCALE], NIGHT + timedelta(days=1))
    [section] = [part for part in sections(facts) if part.title == "Size of the bank to come"]
    in_use = len(facts.in_use)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown(*section.blocks).splitlines()]
    found = {row[0]: row[1:] for row in cells if row}
    assert found["algebra"] == [DASH, "0", "1", "2", "2", "2", "1"]
    assert found["all"] == [DASH, *map(str, (in_use, in_use + 1, in_use + 2, in_use + 2, in_use + 3)), "1"]
    assert in_use > 0
    text = page(reader, "scale")
    assert not missing_sentences(text, "Size of the bank to come", "has a minimum of a topic", "Retired items")
