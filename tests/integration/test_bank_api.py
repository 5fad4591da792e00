"""The bank over HTTP: values equal the ledger's, pages have no gaps, and refusals name remedies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from math import exp
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from pydantic import SecretStr

from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.drift.rows import read_compared_items, read_dif
from irt_assets.ledger.findings import findings_of
from irt_assets.ledger.publications import in_force, publications_of, publish
from irt_assets.ledger.steps import Step, write_step
from irt_assets.reports.artifacts import Artifact, record_files
from irt_assets.scales.scale import read_scales
from irt_assets.scores.releases import release_table
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.theta_api.access import build_access
from services.theta_api.app import build_app
from services.theta_api.bank import BANK_PATH
from services.theta_api.bank_schemas import EXAMPLES
from services.theta_api.parameter_cache import Ledger
from tests.helpers import rooms, score_world
from tests.helpers.asking import kind, unless_busy
from tests.helpers.decided import WITHDRAWN
from tests.helpers.door import serve_in_thread
from tests.helpers.typed import Irt
from tests.helpers.written_commands import ROOT, fenced_blocks, logical_lines
from tests.testbed.issuer import Issuer
from tests.testbed.stack_harness import wait_for

TOKEN = "a-service-token-of-32-characters"
NOW, MONTH, HELD = score_world.NOW, score_world.MONTH, rooms.MONTHS[1]
ODD, LATER = "a/b?c&d ö", NOW + timedelta(days=17)
"""An item that is not published, and the first day of the values that come into force later."""


class BankApi:
    def __init__(self, url: str, ledger: Ledger, database: Database) -> None:
        self.url, self.ledger, self.database = url, ledger, database

    def get(self, path: str, token: str = TOKEN, **sent: str) -> requests.Response:
        """The response to a path below the bank's path, or to a path in `next`."""
        address = self.url + (path if path.startswith(BANK_PATH) else f"{BANK_PATH}/{path}")
        headers = {"Authorization": f"Bearer {token}"} | {name.replace("_", "-"): text for name, text in sent.items()}
        return unless_busy(lambda: requests.get(address, headers=headers, timeout=30))

    def read(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def pages(self, path: str) -> list[list[dict[str, Any]]]:
        found = []
        while path:
            page = self.read(path)
            found.append(page["items"])
            path = page["next"]
        return found


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Issuer().settings(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def api(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory, issuer: dict[str, Any]
) -> Iterator[BankApi]:
    """A bank of 30 items on two forms, with coming values of i1, i2 withdrawn, an unpublished item, and two months."""
    folder = tmp_path_factory.mktemp("bank")
    with rooms.copied(postgres.start(), migrated_template, "bank_api", folder) as settings:
        database = Database(settings)
        score_world.build_exam(database, folder, learners=40)
        score_world.make_tables(database)
        release_table(database, rooms.SCALE, "F1", **score_world.SIGNED)
        _change_bank(database)
        access = build_access(Settings(_env_file=None, irt_theta_token=SecretStr(TOKEN), **issuer))
        ledger = Ledger(database, 2, clock=lambda: NOW)
        listening = socket.create_server(("127.0.0.1", 0))
        with serve_in_thread(build_app(access, ledger, 2), [listening]):
            found = BankApi(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, database)
            wait_for("the API to be ready", lambda: ledger.ready, pause=0.02)
            yield found


def _change_bank(database: Database) -> None:
    rooms.run_sql(
        database, "INSERT INTO question (item_id, scale_id, topic_id) VALUES (%s, %s, 'other')", (ODD, rooms.SCALE)
    )
    rooms.run_sql(
        database,
        WITHDRAWN,
        ("i2", NOW - timedelta(days=3)),
    )
    with database.connect() as connection:
        [first] = publications_of(connection, rooms.SCALE, "i1")
        values = {"values": ItemRow(1.5, 0.25, a_se=0.1, b_se=0.1), "rule": "decision", "decided_by": "Ann"}
        publish(connection, [type(first)(**vars(first) | values | {"effective_from": LATER, "publication_id": None})])
        for month, state in ((MONTH, "done"), (HELD, "held")):
            write_step(connection, Step(month=month, scale_id=rooms.SCALE, fit_id=None, state=state, why="why"), None)
        window = f"{MONTH}/{rooms.SCALE}"
        record_files(connection, [Artifact("file:///r.html", "0" * 64, "html", window=window)])
        for item, severity in (("i3", "high"), ("i4", "none")):
            connection.execute(
                """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, wabc, severity, details)
                   VALUES (%s, %s, %s, 'em', -0.6, 0.2, %s, '{"change": {"kind": "easier"}}')""",
                (MONTH, rooms.SCALE, item, severity),
            )
        for item in ("", "i4", "i5"):
            connection.execute(
                """INSERT INTO dif_analysis (month, scale_id, item_id, attribute, focal_group, reference_group, details)
                   VALUES (%s, %s, %s, 'gender', 'f', 'm', '{"large": true}')""",
                (MONTH, rooms.SCALE, item),
            )


# -- who may read ------------------------------------------------------------------------------------

CALLERS: dict[str, tuple[dict[str, Any], int]] = {
    "a viewer": ({"sub": "eve", "roles": ["viewer"], "scope": ""}, 200),
    "an analyst": ({"sub": "eve", "roles": ["analyst"], "scope": ""}, 200),
    "a service with the scope": ({"sub": "bank", "roles": [], "scope": "bank:read"}, 200),
    "a service without the scope": ({"sub": "exam", "roles": [], "scope": "exam:write attempts:write"}, 403),
    "a learner": ({"sub": "ann", "roles": [], "scope": "openid"}, 403),
    "a scope that only begins so": ({"sub": "ann", "roles": [], "scope": "bank:reader"}, 403),
}
PATHS = ("items", "item?item_id=i1", "curves?item_id=i1", "months", f"months/{MONTH}/items", "score-tables")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", CALLERS)
def test_bank_is_read_with_a_role_or_the_scope_only(who: str, path: str, api: BankApi) -> None:
    claims, status = CALLERS[who]
    response = api.get(path, Issuer().token(**claims))
    assert response.status_code == status
    if status == 403:
        assert "bank:read" in response.json()["detail"]


@pytest.mark.parametrize("path", PATHS)
def test_bank_refuses_requests_without_a_token_and_writes(path: str, api: BankApi) -> None:
    response = requests.get(f"{api.url}{BANK_PATH}/{path}", timeout=30)
    assert kind(response) == (401, "no_token")
    written = requests.post(f"{api.url}{BANK_PATH}/{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
    assert kind(written) == (405, "wrong_method")


# -- values ------------------------------------------------------------------------------------------


def test_items_have_the_values_of_the_ledger(api: BankApi) -> None:
    with api.database.connect() as connection:
        expected = in_force(connection, rooms.SCALE, NOW).items
    items = {item["item_id"]: item for item in api.read("items")["items"]}
    assert {name: ItemRow(**item["values"]) for name, item in items.items() if item["values"]} == expected
    assert {name for name, item in items.items() if item["status"] == "not published"} == {ODD}
    assert {name for name, item in items.items() if item["status"] == "withdrawn"} == {"i2"}
    assert items["i1"]["to_come"] == "a = 1.50, b = 0.25 from 2026-08-01 on"
    assert [item["item_id"] for item in api.read("items?topic_id=other")["items"]] == [ODD]
    assert [item["item_id"] for item in api.read("items?status=withdrawn")["items"]] == ["i2"]


def test_history_of_an_item_has_its_former_and_coming_values(api: BankApi) -> None:
    item = api.read("item?item_id=i1")
    history = item["publications"]
    with api.database.connect() as connection:
        stored = {row.publication_id: row for row in publications_of(connection, rooms.SCALE, "i1")}
    assert item["since"] == history[1]["effective_from"] < history[0]["effective_from"]
    assert {each["publication_id"]: ItemRow(**each["values"]) for each in history} == {
        number: row.values for number, row in stored.items()
    }
    assert history[0]["effective_from"] == "2026-08-01T00:00:00Z"
    assert api.read(f"item?item_id={quote(ODD, safe='')}")["publications"] == []


def test_curves_equal_the_formulas_of_the_two_parameter_model(api: BankApi) -> None:
    theta = [-1.5, 0.0, 2.0]
    found = api.read("curves?item_id=i1&item_id=i7&" + "&".join(f"theta={each}" for each in theta))
    assert found["theta"] == theta
    for item in found["items"]:
        values = score_world.item_values()[item["item_id"]]
        p = [1 / (1 + exp(-values["a"] * (each - values["b"]))) for each in theta]
        assert item["probability"] == pytest.approx(p, abs=1e-12)
        assert item["information"] == pytest.approx([values["a"] ** 2 * each * (1 - each) for each in p], abs=1e-12)
    assert api.read("curves?item_id=i1")["theta"][::8] == [-4.0, 0.0, 4.0]


def test_months_show_their_state_and_link_to_their_report(api: BankApi) -> None:
    months = api.read("months")["items"]
    assert [(month["month"], month["state"], month["answers"]) for month in months] == [
        (MONTH, "done", "open"),
        (HELD, "held", "open"),
    ]
    number = rooms.rows(api.database, "SELECT artifact_id FROM report_file")[0][0]
    assert [month["report"] for month in months] == [f"http://localhost:3000/reports/{number}", None]


def test_findings_of_a_month_equal_the_stored_drift_and_dif(api: BankApi) -> None:
    with api.database.connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        drift = {row.item_id: row.delta_b for row in read_compared_items(connection, scale, MONTH)}
        dif = {row.item_id for row in read_dif(connection, scale, MONTH) if row.item_id}
        findings = findings_of(connection, rooms.SCALE, MONTH)
    items = api.read(f"months/{MONTH}/items")["items"]
    assert (
        {item["item_id"]: item["drift"]["delta_b"] for item in items if item["drift"]}
        == drift
        == {"i3": -0.6, "i4": -0.6}
    )
    assert {item["item_id"] for item in items if item["dif"]} == dif == {"i4", "i5"}
    assert {item["item_id"]: item["findings"] for item in items if item["findings"]} == findings
    assert api.read("months/newest/items")["items"] == items
    [only] = api.read(f"months/{MONTH}/items?item_id=i4")["items"]
    assert (only["dif"][0]["details"], only["dif"][0]["focal_group"]) == ({"large": True}, "f")


def test_score_tables_are_the_released_ones(api: BankApi) -> None:
    [table] = api.read("score-tables")["items"]
    stored = score_world.make_tables(api.database)["F1"].table
    assert (table["form_id"], table["month"], len(table["scores"])) == ("F1", MONTH, 21)
    for name in ("raw", "theta", "se", "scaled"):
        assert [score[name] for score in table["scores"]] == pytest.approx(getattr(stored, name).tolist())
    assert [score["passes"] for score in table["scores"]] == stored.passes.tolist()


def test_items_follow_the_ledger_after_the_parameters_are_read_again(api: BankApi) -> None:
    assert api.read("item?item_id=i9")["topic_id"] == "topic"
    rooms.run_sql(api.database, "UPDATE question SET topic_id = 'moved' WHERE item_id = 'i9'")
    api.ledger.refresh()
    assert api.read("item?item_id=i9")["topic_id"] == "moved"


# -- pages and ETags ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 31, 500])
def test_pages_together_contain_each_item_once(limit: int, api: BankApi) -> None:
    pages = api.pages(f"items?limit={limit}&scale_id={rooms.SCALE}")
    names = [item["item_id"] for page in pages for item in page]
    assert names == sorted([*score_world.item_values(), ODD])
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert len(pages) == -(-31 // limit)


@pytest.mark.parametrize("path", PATHS)
def test_unchanged_responses_are_304_without_a_body(path: str, api: BankApi) -> None:
    first = api.get(path)
    tag = first.headers["ETag"]
    for sent in (tag, f'"x", W/{tag}', "*"):
        again = api.get(path, If_None_Match=sent)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert api.get(path, If_None_Match='"x"').content == first.content


def test_etag_changes_if_the_response_changes(api: BankApi) -> None:
    tags = {api.get(f"items?limit={limit}").headers["ETag"] for limit in (1, 2, 3)}
    assert len(tags) == 3


# -- refusals ----------------------------------------------------------------------------------------

REFUSALS = {
    "item?item_id=nope": (404, "unknown_item", "lists them"),
    f"months/{MONTH}/items?item_id=nope": (404, "unknown_item", "lists them"),
    "items?scale_id=nope": (404, "unknown_scale", f"The bank has {rooms.SCALE}"),
    "months/2031-01/items": (404, "unknown_month", "/months lists"),
    f"months/{HELD}/items": (409, "month_held", "Choose another month"),
    f"curves?item_id={quote(ODD, safe='')}": (409, "nothing_published", "omit the item"),
    "months/2026-13/items": (400, "bad_request", "See /openapi.json"),
    "curves": (400, "bad_request", "item_id"),
    "curves?item_id=i1&theta=nan": (400, "bad_request", "theta"),
    "curves?item_id=i1&theta=11": (400, "bad_request", "theta"),
    "items?limit=0": (400, "bad_request", "limit"),
    "items?limit=501": (400, "bad_request", "limit"),
    "item?item_id=%00": (400, "bad_request", "item_id"),
    "nothing": (404, "no_such_page", "/openapi.json"),
}


@pytest.mark.parametrize("path", REFUSALS)
def test_refusals_say_what_to_do(path: str, api: BankApi) -> None:
    status, name, words = REFUSALS[path]
    response = api.get(path)
    assert kind(response) == (status, name)
    assert words in response.json()["detail"]


def test_examples_of_the_description_are_complete_valid_responses() -> None:
    """They have every field, because OpenAPI pages leave out null."""
    for model, example in EXAMPLES.items():
        assert json.loads(model.model_validate(example).model_dump_json()) == example


# -- export ------------------------------------------------------------------------------------------


def test_statement_writes_the_changed_values_into_a_table_of_the_company(
    database: Database, irt: Any, tmp_path: Path
) -> None:
    """Keys of the item that are not parameters stay; former parameters go, also if they are not published."""
    rooms.add_items(database, score_world.item_values())
    rooms.run_sql(database, "INSERT INTO question (item_id, scale_id) VALUES (%s, %s)", (ODD, rooms.SCALE))
    initialise(database, rooms.SCALE, first_month=MONTH)
    rooms.run_sql(database, "CREATE SCHEMA shop")
    rooms.run_sql(
        database,
        """CREATE TABLE shop."Items" AS SELECT item_id, CASE WHEN item_id = 'i1'
           THEN '{"key": "B", "irt": {"a": 9, "D": 1.7, "model": "2pl"}}' ELSE NULL END::jsonb AS meta FROM question""",
    )
    command: Irt = irt(database.settings)
    printed = command("export", "parameters", "--sql", "shop.Items")
    assert printed.code == 0, printed.err
    assert rooms.rows(database, """SELECT count(*) FROM shop."Items" WHERE meta->'irt' ? 'b'""") == [(0,)]
    rooms.run_sql(database, printed.out.replace("%", "%%"))
    stored = dict(rooms.rows(database, """SELECT item_id, meta FROM shop."Items" """))
    for item, values in score_world.item_values().items():
        assert {name: stored[item]["irt"][name] for name in ("a", "b", "a_se")} == {
            name: values[name] for name in ("a", "b", "a_se")
        }
    assert stored["i1"]["key"] == "B"
    assert (stored["i1"]["irt"]["model"], stored["i1"]["irt"].get("D")) == ("2pl", None)
    assert stored[ODD] is None


def test_export_since_a_time_has_only_the_values_that_changed(database: Database, irt: Any, tmp_path: Path) -> None:
    rooms.add_items(database, score_world.item_values())
    initialise(database, rooms.SCALE, first_month=MONTH)
    since = Month(MONTH).start + timedelta(days=9)
    rooms.run_sql(database, "UPDATE item_parameter_publication SET published_at = effective_from")
    with database.connect() as connection:
        [first] = publications_of(connection, rooms.SCALE, "i1")
        changed = vars(first) | {"values": ItemRow(2.0, 0.5), "publication_id": None}
        later, early = since + timedelta(days=2), since - timedelta(days=2)
        publish(connection, [type(first)(**changed | {"effective_from": later})])
        publish(connection, [type(first)(**changed | {"item_id": "i2", "effective_from": early})])
        connection.execute("UPDATE item_parameter_publication SET published_at = %s WHERE item_id = 'i1'", (early,))
    command: Irt = irt(database.settings)
    out = tmp_path / "changed.csv"
    until = ("--as-of", f"{later + timedelta(days=1):%Y-%m-%d}")
    done = command("export", "parameters", "--since", f"{since:%Y-%m-%d}", *until, "--out", out)
    assert "2 rows" in done.out
    assert [line.split(",")[1] for line in out.read_text().splitlines()[1:]] == ["i1", "i2"]
    sql = command("export", "parameters", "--since", f"{since:%Y-%m-%d}", *until, "--sql", "question").out
    assert sorted(word for word in ("'i1'", "'i2'", "'i3'") if word in sql) == ["'i1'", "'i2'"]
    assert json.loads(sql.split("('i1', '")[1].split("'")[0]) == {"a": 2.0, "b": 0.5, "c": 0.0}
    nothing = command("export", "parameters", "--since", "2100-01-01", "--sql", "question").out
    assert nothing == "-- no parameters have changed since 2100-01-01 00:00 UTC\n"
    ending = tmp_path / "ending.csv"
    done = command("export", "parameters", "--to", ending, "--json")
    assert done.json == {"file": f"{ending}", "rows": len(ending.read_text().splitlines()) - 1}
    for words, message in {
        ("--to", "xls"): "got xls; did you mean xlsx?",
        ("--to", "b.zip"): "--to must be csv, xlsx, parquet or a file with one of these endings, got b.zip",
        ("--to", "b.csv", "--out", "c.csv"): "--to must be csv if --out names the file, got b.csv",
    }.items():
        refused = command("export", "parameters", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    refused = command("export", "parameters", "--sql", "question", "--form", "mirt")
    assert (refused.code, "omit --form and --out" in refused.err) == (2, True)


def test_commands_of_the_page_read_the_bank(api: BankApi) -> None:
    """The page's item and months are replaced by items and months of this bank."""
    page = (ROOT / "docs/how-to/read-the-bank.md").read_text("utf-8")
    names = {"http://127.0.0.1:8001": api.url, "A02": "i3", "2026-10": MONTH, "2026-08": HELD}
    for written, own in names.items():
        page = page.replace(written, own)
    lines = [line for _, block in fenced_blocks(page) for line in logical_lines(block)]
    [*setting] = [line for line in lines if line.startswith(("auth=", "bank="))]
    commands = [line for line in lines if line.startswith("curl ")]
    assert (len(setting), len(commands)) == (2, 9)
    for command in commands:
        answered = subprocess.run(
            ["bash", "-c", "\n".join([*setting, command + ' -sS -w "\\n%{http_code}"'])],
            env={**os.environ, "IRT_THETA_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert answered.endswith("409" if HELD in command else "200"), (command, answered)
