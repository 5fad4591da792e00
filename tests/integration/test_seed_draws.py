"""New items for places in sessions: over HTTP, in adaptive tests, and by many servers at the same time."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import requests
from psycopg.types.json import Jsonb

from irt_assets.abilities.online import read_measures
from irt_assets.adaptive.policy import Policy
from irt_assets.common.partitions import month_of
from irt_assets.decisions.deciding import decide, preview
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.new_items.draws import Places, fill_places
from irt_assets.new_items.pool import SeedPool, SeedPools, give_back
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.new_items.stages import item_stages
from irt_assets.scales.scale import change_rules
from resources.postgres.database import Database
from resources.settings import Settings
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.next_item import NEXT_ITEM_PATH
from services.theta_api.parameter_cache import Ledger
from services.theta_api.seeds import SEEDS_PATH
from tests.helpers.asking import kind, unless_busy
from tests.helpers.decided import WITHDRAWN, set_policy
from tests.helpers.door import serve_in_thread
from tests.helpers.erasing import erased_after
from tests.helpers.new_items import PUBLISHABLE
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.score_world import item_values
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("theta api")
TOKEN = "a-service-token-of-32-characters"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
NOW = datetime(2026, 8, 20, 9, tzinfo=UTC)
DAY = timedelta(days=1)
SIGNED = {"by": "Ann", "reason": "committee of June"}
SEED = """INSERT INTO decision (kind, scale_id, subject, value, effective_from, decided_at, decided_by, reason)
          VALUES ('seed items', 'default', %s, %s, %s, %s, 'Ann', 'new')"""
PIPELINE = """INSERT INTO item_pipeline (scale_id, item_id, model, parameters, n, first_at, last_at, publishable,
                                         accused, evaluated_at)
              VALUES ('default', %s, '2pl', %s, %s, '2026-08-01', '2026-08-19', %s, %s, %s)"""
NEW = tuple(f"n{k}" for k in range(1, 9))


def seed(database: Database, *items: str, **limits: Any) -> None:
    for item in items:
        run_sql(database, SEED, (item, Jsonb({"max_answers": 400} | limits), NOW - DAY, NOW - DAY))


def estimate(
    database: Database, item: str, b: float, se: float, n: int = 50, publishable: bool = False, accused: bool = False
) -> None:
    """Store an item's night, with the same error of ln a for all items."""
    values = {"a": 1.0, "b": b, "c": 0.0, "a_se": 0.2, "b_se": se, "cov_ab": 0.0}
    run_sql(database, PIPELINE, (item, Jsonb(values), n, publishable, accused, NOW - timedelta(hours=9)))


def set_rules(database: Database, **rules: float) -> None:
    change_rules(database, SCALE, rules)


def read_pool(database: Database, now: datetime = NOW) -> SeedPool:
    pools = SeedPools()
    with database.connect() as connection:
        pools.refresh(connection, read_measures(connection, now))
    return pools.by_scale[SCALE]


def draw(
    database: Database, pool: SeedPool, session: str, *positions: int, user: str = "", theta: float = 0.0, **others: Any
) -> dict[int, str]:
    places = Places(user or f"of {session}", session, None, positions or (1,))
    with database.connect() as connection:
        return fill_places(connection, pool, places, lambda: (theta, 0.4), others.pop("now", NOW), **others)


@pytest.fixture
def bank(database: Database) -> Database:
    """Thirty published items, and eight that have never been published."""
    add_items(database, item_values())
    initialise(database, SCALE, first_month=MONTHS[0])
    add_items(database, dict.fromkeys(NEW))
    return database


class Service:
    """A service that requests new items for sessions."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.url, self.ledger = url, ledger

    def ask(self, session: str = "s1", n: int = 1, user: str = "ann", **others: Any) -> requests.Response:
        body = {"user_id": user, "session_id": session, "n": n} | others
        return unless_busy(lambda: requests.post(self.url + SEEDS_PATH, json=body, headers=HEADERS, timeout=30))

    def seeds(self, *arguments: Any, **others: Any) -> dict[int, str]:
        answer = self.ask(*arguments, **others)
        assert answer.status_code == 200, answer.text
        return {item["position"]: item["item_id"] for item in answer.json()["items"]}

    def next(self, session: str, answers: list[Mapping[str, Any]]) -> dict[str, Any]:
        body = {"user_id": "ann", "session_id": session, "answers": answers}
        url = self.url + NEXT_ITEM_PATH.format(test="placement")
        answer = unless_busy(lambda: requests.post(url, json=body, headers=HEADERS, timeout=30))
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running(database: Database) -> Iterator[Service]:
    ledger = Ledger(database, 2, clock=lambda: NOW)
    listening = socket.create_server(("127.0.0.1", 0))
    with serve_in_thread(build_app(Access(TOKEN, None), ledger, 2), [listening]):
        wait_for("it to be ready", lambda: ledger.ready, pause=0.02)
        yield Service(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger)


def test_draws_are_stored_and_repeated_by_another_replica(bank: Database) -> None:
    seed(bank, *NEW)
    with running(bank) as service, running(bank) as replica:
        first = service.seeds("s1", 3, position=4)
        assert sorted(first) == [4, 5, 6]
        assert len({*first.values()} & {*NEW}) == 3
        assert replica.seeds("s1", 3, position=4) == first
        assert replica.seeds("s1", 1, position=5) == {5: first[5]}
        assert kind(replica.ask("s1", 1, user="bob")) == (409, "other_session")
        more = replica.seeds("s1", 3, position=5)
    assert more.items() >= {5: first[5], 6: first[6]}.items()
    stored = rows(bank, "SELECT position, item_id, probability, at_random, theta, theta_se FROM seed_draw")
    assert {place: item for place, item, *_ in stored} == first | more
    assert all(0 < probability <= 1 and theta == 0 and se == 1 for _, _, probability, _, theta, se in stored)


def test_items_that_the_learner_has_met_are_not_drawn(bank: Database) -> None:
    seed(bank, *NEW[:4])
    add_attempts(bank, [attempt("ann", "n1", NOW - 300 * DAY), attempt("ann", "n2", NOW - DAY)])
    with running(bank) as service:
        drawn = [*service.seeds("s1", 4).values(), *service.seeds("s2", 4).values()]
        assert sorted(drawn) == ["n3", "n4"]
        assert len(service.seeds("s3", 4, user="bob")) == 4


def test_draws_of_a_session_and_of_a_learners_day_are_limited(bank: Database) -> None:
    seed(bank, *NEW)
    set_rules(bank, seed_per_session=3, seed_per_learner_day=5)
    pool = read_pool(bank)
    drawn = [len(draw(bank, pool, session, *range(1, 9), user="ann")) for session in ("s1", "s2", "s3")]
    assert drawn == [3, 2, 0]
    assert len(draw(bank, pool, "s1", 9, user="ann", now=NOW + DAY)) == 0, "the session is full"
    assert len(draw(bank, pool, "s4", *range(1, 9), user="ann", now=NOW + DAY)) == 3


def test_best_item_for_the_ability_is_drawn_unless_the_draw_is_at_random(bank: Database) -> None:
    for item, b in zip(NEW[:4], (-2.0, 0.0, 2.0, 0.0), strict=True):
        estimate(bank, item, b, 0.1 if item == "n4" else 0.4)
    seed(bank, *NEW[:4])
    set_rules(bank, seed_random_share=0)
    pool = read_pool(bank)
    for theta, best in ((-2.0, "n1"), (0.0, "n2"), (2.0, "n3")):
        assert draw(bank, pool, f"at {theta}", theta=theta) == {1: best}
    set_rules(bank, seed_random_share=0.4)
    pool = read_pool(bank)
    items = Counter(draw(bank, pool, f"s{k}", theta=2.0)[1] for k in range(200))
    stored = rows(bank, "SELECT probability, at_random, item_id FROM seed_draw WHERE session_id LIKE 's%%'")
    assert {round(probability, 6) for probability, *_ in stored} == {0.1, 0.7}
    assert min(items.values()) >= 6, "binomial with n = 200, p = .1: 20 ± 4.2"
    assert 50 <= sum(at_random for _, at_random, _ in stored) <= 110, "n = 200, p = .4: 80 ± 6.9"


def test_draws_since_the_night_lower_the_gain_of_an_item(bank: Database) -> None:
    for item in NEW[:2]:
        estimate(bank, item, 0.0, 0.3)
    seed(bank, *NEW[:2])
    set_rules(bank, seed_random_share=0)
    pool = read_pool(bank)
    assert Counter(draw(bank, pool, f"s{k}")[1] for k in range(20)) == {"n1": 10, "n2": 10}
    assert (read_pool(bank).counts == pool.counts).all()


def test_open_items_have_the_most_answers_and_are_neither_publishable_nor_accused(bank: Database) -> None:
    seed(bank, *NEW)
    set_rules(bank, seed_open_items=2, seed_random_share=1)
    for item, n in (("n3", 70), ("n5", 60), ("n6", 20)):
        estimate(bank, item, 0.0, 0.3, n)
    estimate(bank, "n7", 0.0, 0.2, 150, publishable=True)
    estimate(bank, "n8", 0.0, 0.4, 90, accused=True)
    pool = read_pool(bank)
    assert pool.item_ids[:3] == ("n3", "n5", "n6")
    assert {*pool.item_ids} == {*NEW[:6]}
    assert {draw(bank, pool, f"s{k}")[1] for k in range(40)} == {"n3", "n5"}


def test_twenty_servers_never_exceed_a_limit(bank: Database) -> None:
    """Give each server a pool that does not see the other servers' draws; 300 sessions want 420 of 100 answers."""
    seed(bank, *NEW[:3], max_answers=20)
    seed(bank, *NEW[3:5], max_answers=400, max_per_day=20)
    pools = [read_pool(bank) for _ in range(20)]

    def sit(k: int) -> None:
        draw(bank, pools[k % 20], f"s{k}", *range(1, 3 if k % 5 < 2 else 2))

    with ThreadPoolExecutor(20) as servers:
        [*servers.map(sit, range(300))]
    held = dict(rows(bank, "SELECT item_id, count(*) FROM seed_draw GROUP BY 1"))
    assert max(held.values()) <= 20
    assert sum(held.values()) >= 50, "it was a race for the limits"
    for k in range(300, 420):
        draw(bank, pools[0], f"s{k}")
    assert dict(rows(bank, "SELECT item_id, count(*) FROM seed_draw GROUP BY 1")) == dict.fromkeys(NEW[:5], 20)
    assert draw(bank, read_pool(bank), "late") == {}


def test_simultaneous_requests_for_a_session_draw_the_same_items(bank: Database) -> None:
    seed(bank, *NEW)
    pools = [read_pool(bank) for _ in range(8)]
    with ThreadPoolExecutor(8) as servers:
        drawn = [*servers.map(lambda pool: draw(bank, pool, "s1", 1, 2, 3), pools)]
    assert len(drawn[0]) == 3
    assert drawn == [drawn[0]] * 8
    assert rows(bank, "SELECT count(*) FROM seed_draw") == [(3,)]


def test_unanswered_draws_are_given_back_after_a_day_and_late_answers_hold_again(bank: Database) -> None:
    seed(bank, "n1", max_answers=2)
    pool = read_pool(bank)
    for session in ("answered", "open"):
        assert draw(bank, pool, session, now=NOW) == {1: "n1"}
    assert draw(bank, pool, "full") == {}
    of_session = {"session_id": "answered"}
    add_attempts(bank, [attempt("of answered", "n1", NOW + timedelta(minutes=2), **of_session)])
    call(bank, give_back, NOW + timedelta(hours=23))
    held = "SELECT session_id FROM seed_draw WHERE given_back_at IS NULL ORDER BY 1"
    assert rows(bank, held) == [("answered",), ("open",)]
    call(bank, give_back, NOW + timedelta(hours=25))
    assert rows(bank, held) == [("answered",)]
    assert draw(bank, read_pool(bank, NOW + 2 * DAY), "next", now=NOW + 2 * DAY) == {1: "n1"}
    add_attempts(bank, [attempt("of open", "n1", NOW + 2 * DAY, session_id="open")])
    call(bank, give_back, NOW + 2 * DAY + timedelta(minutes=1))
    assert rows(bank, held) == [("answered",), ("next",), ("open",)]


def test_decision_to_publish_ends_the_draws_of_an_item(bank: Database) -> None:
    """Even if a later night finds that the item is not publishable any more."""
    seed(bank, "n1", "n2")
    for session in ("s1", "s2"):
        draw(bank, read_pool(bank), session, 1, 2)
    run_sql(bank, PUBLISHABLE, ("n1",))
    decide(bank, PUBLISH, PublishRequest(["n1"]), **SIGNED)
    run_sql(bank, "UPDATE item_pipeline SET publishable = false")
    assert read_pool(bank).item_ids == ("n2",)
    [stage] = call(bank, item_stages, items=["n1"])
    assert stage.why == f"it counts from {month_of(datetime.now(UTC)).end:%Y-%m-%d} on"
    call(bank, give_back, NOW + timedelta(hours=25))
    assert rows(bank, "SELECT item_id FROM seed_draw WHERE given_back_at IS NULL") == []


def test_preview_of_publishing_names_the_adaptive_tests_that_may_give_the_item(bank: Database) -> None:
    run_sql(bank, "UPDATE question SET topic_id = 'other' WHERE item_id = 'n2'")
    for test, topics in (("placement", "{}"), ("exit", "{other: {max: 0}}")):
        policy = f"test: {test}\nscale: {SCALE}\nlength: {{max: 8}}\ntopics: {topics}\n"
        set_policy(bank, Policy.from_yaml(policy), effective_from=NOW - DAY, **SIGNED)
    for item in ("n1", "n2"):
        run_sql(bank, PUBLISHABLE, (item,))
    sentences = call(bank, preview, PUBLISH, PublishRequest(["n1", "n2"])).sentences
    named = [sentence for sentence in sentences if "adaptive tests" in sentence]
    assert named == [
        "n1 may be given in adaptive tests: exit and placement",
        "n2 may be given in adaptive tests: placement",
    ]


def test_values_of_the_pipeline_have_the_errors_of_c_and_of_steps(bank: Database) -> None:
    """SE(logit c) = SE(c) / (c (1 − c)) = 0.05 / 0.16."""
    guessed = {"a": 1.0, "b": 0.0, "c": 0.2, "a_se": 0.2, "b_se": 0.2, "cov_ab": 0.0, "c_se": 0.05}
    scored = guessed | {"c": 0.0, "max_score": 2, "t0": 0.0, "t0_se": 0.0, "t1": 0.4, "t1_se": 0.3, "t2": 0, "t2_se": 0}
    del scored["c_se"]
    for item, values in (("n1", guessed), ("n2", scored)):
        run_sql(bank, PUBLISHABLE, (item,))
        run_sql(bank, "UPDATE item_pipeline SET parameters = %s WHERE item_id = %s", (Jsonb(values), item))
    decide(bank, PUBLISH, PublishRequest(["n1", "n2"], now=NOW), **SIGNED)
    errors = call(bank, set_with_errors, SCALE, NOW + 30 * DAY).errors
    further = errors.items.further_cov
    of_c, of_steps = (further[errors.items.item_ids.index(item)] for item in ("n1", "n2"))
    assert of_c[0, :3].tolist() == pytest.approx([0, 0, 0.3125**2])
    assert of_steps[:, 2:].diagonal().tolist() == pytest.approx([0, 0.09, 0])
    run_sql(bank, "UPDATE item_parameter_publication SET rule = 'origin'")
    unknown = call(bank, set_with_errors, SCALE, NOW + 30 * DAY).errors.items
    assert np.isnan(unknown.further_cov[unknown.item_ids.index("n1")]).all()


def test_items_under_an_embargo_or_withdrawn_are_not_drawn(bank: Database) -> None:
    seed(bank, "n1", first_day="2026-08-21")
    seed(bank, "n2", last_day="2026-08-19")
    seed(bank, "n3", "n4")
    run_sql(bank, WITHDRAWN, ("n3", NOW - DAY))
    assert read_pool(bank).item_ids == ("n4",)
    assert read_pool(bank, NOW + DAY).item_ids == ("n1", "n4")


def test_forms_state_their_seed_places(bank: Database) -> None:
    seed(bank, *NEW)
    forms = "INSERT INTO form (form_id, source, seed_places) VALUES (%s, 'file', %s)"
    run_sql(bank, forms, ("june", Jsonb([9, 4, 12])))
    run_sql(bank, forms, ("plain", None))
    with running(bank) as service:
        assert sorted(service.seeds("s1", 5, form_id="june")) == [4, 9, 12]
        assert sorted(service.seeds("s2", 1, user="bob", form_id="june", position=5)) == [9]
        assert sorted(service.seeds("s3", 2, user="eve", form_id="plain", position=5)) == [5, 6]
        unknown = service.ask("s4", form_id="jnue")
        assert kind(unknown) == (404, "unknown_form")
        assert "did you mean june?" in unknown.json()["detail"]
    assert rows(bank, "SELECT DISTINCT form_id FROM seed_draw ORDER BY 1") == [("june",), ("plain",)]


def make_enemies(database: Database, item: str, *enemies: str) -> None:
    """List the enemies of an item in its `meta`, as an import does."""
    query = "UPDATE question SET meta = meta || %s WHERE item_id = %s"
    run_sql(database, query, (Jsonb({"enemies": [*enemies]}), item))


def test_items_of_a_form_and_enemies_of_the_sessions_items_are_not_drawn(bank: Database) -> None:
    """n1 is on the form, n2 and n3 are enemies of its items; n5 and n6 are enemies, whichever lists the other."""
    seed(bank, *NEW)
    make_enemies(bank, "n2", "i1", "gone")
    make_enemies(bank, "i2", "n3")
    make_enemies(bank, "n6", "n5")
    run_sql(bank, "INSERT INTO form (form_id, source) VALUES ('june', 'file')")
    for position, item in enumerate(("i1", "i2", "n1"), 1):
        query = "INSERT INTO form_item (form_id, item_id, position, max_score, scored) VALUES ('june', %s, %s, 1, true)"
        run_sql(bank, query, (item, position))
    with running(bank) as service:
        drawn = service.seeds("s1", 8, position=4, form_id="june")
        assert len(drawn) == 4
        assert {*drawn.values()} - {"n5", "n6"} == {"n4", "n7", "n8"}
        drawn = service.seeds("practice", 5, user="bob")
        assert len({*drawn.values()}) == 5, "without a form, items of forms have no effect"
        assert not {*drawn.values()} >= {"n5", "n6"}


def test_enemies_of_answered_items_are_drawn_in_other_sessions_only(bank: Database) -> None:
    seed(bank, *NEW[:2])
    make_enemies(bank, "n1", "i1")
    add_attempts(bank, [attempt("ann", "i1", NOW - timedelta(minutes=5), session_id="s1")])
    with running(bank) as service:
        assert [*service.seeds("s1", 2).values()] == ["n2"]
        assert [*service.seeds("s2", 2).values()] == ["n1"]


def test_draws_of_a_topic_in_a_session_are_limited(bank: Database) -> None:
    """n8 is no longer seeded when its session goes on, and still counts for its topic."""
    run_sql(bank, "UPDATE question SET topic_id = 'algebra' WHERE item_id IN ('n6', 'n7', 'n8')")
    run_sql(bank, "UPDATE question SET topic_id = NULL WHERE item_id IN ('n4', 'n5')")
    seed(bank, *NEW[:7])
    set_rules(bank, seed_per_topic=1, seed_per_session=8)
    with running(bank) as service:
        drawn = [*service.seeds("s1", 8).values()]
        assert {*drawn} >= {"n4", "n5"}, "items without a topic have no limit"
        assert [len({*drawn} & topic) for topic in ({"n6", "n7"}, {"n1", "n2", "n3"})] == [1, 1]
        assert len(drawn) == 4
        query = """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, theta, theta_se,
                                          probability, at_random, drawn_at)
                   VALUES ('default', 'n8', 'bob', 's2', 1, 0, 1, 1, true, %s)"""
        run_sql(bank, query, (NOW,))
        drawn = service.seeds("s2", 8, user="bob")
        assert drawn.pop(1) == "n8"
        assert ({*drawn.values()} & {"n6", "n7"}, len(drawn)) == (set(), 3)


def test_adaptive_tests_respect_the_enemies_that_items_list(bank: Database) -> None:
    """Sit a session before items list enemies, one with new items, and one without, as the learner has met both."""
    seed(bank, "n1", "n2")
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\nunscored: 0.2\n"
    set_policy(bank, Policy.from_yaml(policy), effective_from=NOW - DAY, **SIGNED)
    with running(bank) as service:

        def sit(session: str) -> list[str]:
            step, answers = service.next(session, []), []
            while not step["stop"]:
                answers.append({"item_id": step["item_id"], "correct": step["item_id"] in {"n1", "n2"}})
                step = service.next(session, answers)
            return [answer["item_id"] for answer in answers]

        before = sit("s1")
        first, second, *_ = (item for item in before if item not in NEW)
        assert {"n1", "n2"} <= {*before}
        run_sql(bank, "DELETE FROM seed_draw")
        make_enemies(bank, first, second)
        make_enemies(bank, "n1", first)
        service.ledger.refresh()
        with_new, without_new = {*sit("s2")}, {*sit("s3")}
    assert "n2" in with_new
    assert not with_new >= {first, "n1"}
    assert len({first, second} & without_new) == 1


def test_requests_are_refused_with_the_reason(database: Database) -> None:
    with running(database) as service:
        assert kind(service.ask()) == (409, "nothing_published")
        assert kind(service.ask(n=0)) == (400, "bad_request")
        assert kind(service.ask(n=51)) == (400, "bad_request")
        assert requests.post(service.url + SEEDS_PATH, json={}, timeout=30).status_code == 401


def test_unknown_names_and_erased_learners_are_refused(bank: Database, settings: Settings) -> None:
    add_attempts(bank, [attempt("gone", "i1", NOW)])
    with running(bank) as service:
        assert service.seeds() == {}, "nothing is being seeded"
        seed(bank, *NEW)
        service.ledger.refresh()
        for name, value, problem in (("scale_id", "defualt", "unknown_scale"), ("topics", ["topci"], "unknown_topic")):
            unknown = service.ask(**{name: value})
            assert kind(unknown) == (404, problem)
            assert "did you mean" in unknown.json()["detail"]
        assert len(service.seeds(topics=["topic"])) == 1
        with erased_after("services.theta_api.seeds", "_scale_of", bank, settings, "gone"):
            assert kind(service.ask("s2", user="gone")) == (409, "erased"), "it was erased in the meantime"
        assert kind(service.ask("s3", user="gone")) == (409, "erased")
    assert rows(bank, "SELECT user_id FROM seed_draw") == [("ann",)]


def test_unscored_places_of_adaptive_tests_are_filled_when_they_come_up(bank: Database) -> None:
    seed(bank, *NEW[:5])
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\nunscored: 0.2\n"  # 2 of 10 places
    set_policy(bank, Policy.from_yaml(policy), effective_from=NOW - DAY, **SIGNED)
    with running(bank) as service, running(bank) as replica:
        steps, answers = [service.next("s1", [])], []
        while not steps[-1]["stop"]:
            n = len(answers)
            assert rows(bank, "SELECT count(*) FROM seed_draw") == [(sum(not step["scored"] for step in steps),)]
            answers.append({"item_id": steps[-1]["item_id"], "correct": n % 2 == 0})
            steps.append(service.next("s1", answers))
        again = [replica.next("s1", answers[:k]) for k in range(len(steps))]
    assert again == steps
    unscored = [step for step in steps if not step["scored"]]
    assert len(steps) == 11
    assert len({step["item_id"] for step in unscored} & {*NEW[:5]}) == 2
    for before, step in pairwise(steps):
        assert (before["theta"] == step["theta"]) == (not before["scored"])
    stored = rows(bank, "SELECT position, item_id, form_id, theta, theta_se FROM seed_draw ORDER BY 1")
    assert [(place, item) for place, item, *_ in stored] == [(s["position"], s["item_id"]) for s in unscored]
    for (_, _, form, theta, se), step in zip(stored, unscored, strict=True):
        assert (form, round(theta, 6), round(se, 6)) == ("placement", step["theta"], step["se"])
    assert rows(bank, "SELECT DISTINCT unscored FROM adaptive_session") == [([],)]


def test_end_of_an_adaptive_session_gives_back_unanswered_draws(bank: Database) -> None:
    seed(bank, *NEW[:5])
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\nunscored: 0.2\n"
    set_policy(bank, Policy.from_yaml(policy), effective_from=NOW - DAY, **SIGNED)
    with running(bank) as service:
        step, answers, skipped = service.next("s1", []), [], 0
        while not step["stop"]:
            if step["scored"] or skipped:
                answers.append({"item_id": step["item_id"], "correct": True})
            else:
                skipped += 1
                run_sql(bank, WITHDRAWN, (step["item_id"], NOW - DAY))
                service.ledger.refresh()
            step = service.next("s1", answers)
    held = rows(bank, "SELECT item_id, given_back_at IS NULL FROM seed_draw ORDER BY draw_id")
    assert dict(held) == {item: item in {answer["item_id"] for answer in answers} for item, _ in held}
    assert [is_held for _, is_held in held].count(False) == skipped == 1
