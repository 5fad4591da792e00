"""Who may ask the page for what: browsers on foreign pages, forms, rebound names, and people."""

from __future__ import annotations

from typing import Any

import pytest

from resources.serving.guard import Guard
from resources.settings import Settings
from tests.helpers.asgi import ask, echo, open_socket

JSON = {"content-type": "application/json"}
EVIL = "http://evil.example"


def guard(prefix: str = "", **settings: Any) -> Guard:
    """Around an application that takes everything."""
    names = Settings(_env_file=None, **settings).ui_names
    return Guard(echo, names, prefix=prefix)


def test_a_person_s_requests_go_through() -> None:
    for path in ("/", "/assets/abilities", "/graphql", "/logs/run/compute_logs/step/err", "/server_info"):
        assert ask(guard(), "GET", path).text == "the page"
    own = {"content-type": "application/json; charset=utf-8", "origin": "http://localhost:3000"}
    assert ask(guard(), "POST", "/graphql", own).text == "the page"
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize("path", ["/report_asset_materialization/x", "/report_asset_check/a/b", "/report_asset_new"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_nobody_reports_events_from_outside(method: str, path: str) -> None:
    answer = ask(guard(), method, path, JSON)
    assert answer.status == 403
    assert answer.text == "Materialisations and checks come from runs; they cannot be reported from outside.\n"


def test_debug_files_are_refused_with_the_command_that_writes_them() -> None:
    refused = ask(guard(), "GET", "/download_debug/0b1c")
    assert (refused.status, "dagster debug export RUN_ID FILE" in refused.text) == (403, True)


@pytest.mark.parametrize("query", ["query={version}", "a=1&query=mutation{x}", "%71uery=x", "query", "query="])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_query_by_get_is_refused(method: str, query: str) -> None:
    answer = ask(guard(), method, "/graphql", {"accept": "text/html"}, query)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_page_of_the_ui_may_have_a_query_of_its_own() -> None:
    assert ask(guard(), "GET", "/runs", query="query=status:FAILURE").status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json",
        "application/graphql",
        "application/json-patch+json",
        "application/jsonx",
        "",
        None,
    ],
)
def test_what_a_form_can_send_is_refused(content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert ask(guard(), "POST", "/graphql", headers).status == 415


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([("content-type", "application/json"), ("content-type", "text/plain")], 415),
        ([*JSON.items(), ("host", "localhost"), ("host", "evil.example")], 403),
        ([*JSON.items(), ("origin", "http://localhost:3000"), ("origin", EVIL)], 403),
    ],
)
def test_a_header_that_is_there_twice_counts_as_none(sent: list[tuple[str, str]], status: int) -> None:
    assert ask(guard(), "POST", "/graphql", sent).status == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("POST", "/graphql/"), ("PUT", "/graphql"), ("DELETE", "/x"), ("OPTIONS", "/")]
)
def test_only_graphql_takes_what_writes(method: str, path: str) -> None:
    answer = ask(guard(), method, path, JSON)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0:3000",
        "",
        "a b",
    ],
)
def test_a_foreign_host_is_refused_everywhere_but_by_the_probe(host: str) -> None:
    """A name that its owner has let point here: the browser takes the page for a page of that name."""
    named = {"host": host}
    assert ask(guard(), "GET", "/", named).status == 403
    assert ask(guard(), "POST", "/graphql", {**JSON, **named, "origin": f"http://{host}"}).status == 403
    assert open_socket(guard(), "/graphql", named).status == 403
    assert ask(guard(), "GET", "/server_info", named).status == 200
    assert ask(guard(), "POST", "/server_info", {**JSON, **named}).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4711", "127.9.9.9", "[::1]:3000", "[::1]"])
def test_this_machine_s_own_names_are_answered_at_any_port(host: str) -> None:
    own = {**JSON, "host": host, "origin": f"http://{host}"}
    assert ask(guard(), "POST", "/graphql", own).status == 200
    assert open_socket(guard(), "/graphql", own).status == 101


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:8080", "http://localhost", "file://", "http://localhost:3000.evil.example"],
)
def test_a_foreign_page_neither_writes_nor_listens(origin: str) -> None:
    assert ask(guard(), "POST", "/graphql", {**JSON, "origin": origin}).status == 403
    assert open_socket(guard(), "/graphql", {"origin": origin}).status == 403


def test_a_program_that_names_no_origin_is_let_in() -> None:
    assert ask(guard(), "POST", "/graphql", JSON).status == 200
    assert open_socket(guard(), "/graphql").status == 101


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("irt.example.org", "https://irt.example.org", 200),
        ("IRT.example.org:443", "https://irt.example.org", 200),
        ("127.0.0.1:3000", "https://irt.example.org", 200),  # a proxy that names its backend
        ("irt.example.org", "https://irt.example.org:8443", 403),
        ("irt.example.org", "http://irt.example.org:8080", 403),
        ("irt.example.org", EVIL, 403),
        ("other.example.org", "https://irt.example.org", 403),
    ],
)
def test_behind_a_proxy_the_public_address_counts(host: str, origin: str, status: int) -> None:
    layer = guard(irt_ui_url="https://irt.example.org/")
    assert ask(layer, "POST", "/graphql", {**JSON, "host": host, "origin": origin}).status == status
    assert open_socket(layer, "/graphql", {"host": host, "origin": origin}).status == (101 if status == 200 else 403)


def test_under_a_path_prefix_every_rule_holds() -> None:
    layer = guard(prefix="/dagster", irt_ui_url="https://example.org/dagster")
    own = {"host": "example.org", "origin": "https://example.org"}
    assert ask(layer, "GET", "/dagster/runs", own).status == 200
    assert ask(layer, "POST", "/dagster/graphql", {**JSON, **own}).status == 200
    assert ask(layer, "POST", "/dagster/report_asset_check/x", {**JSON, **own}).status == 403
    assert ask(layer, "GET", "/dagster/graphql", own, "query=x").status == 405
    assert ask(layer, "POST", "/dagster/graphql", {**own, "content-type": "text/plain"}).status == 415
    assert ask(layer, "GET", "/dagster/download_debug/x", own).status == 403
    assert ask(layer, "GET", "/dagster/server_info", {"host": "10.1.2.3"}).status == 200
    assert ask(layer, "GET", "/dagster/runs", {"host": "10.1.2.3"}).status == 403


@pytest.mark.parametrize("path", ["/", "/graphql", "/report_asset_check/x"])
def test_no_answer_is_shown_inside_another_site_s_page(path: str) -> None:
    headers = ask(guard(), "GET", path).headers
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["cross-origin-resource-policy"] == "same-origin"
