"""Sessions of adaptive tests over HTTP: the same answers give the same item, whatever happens in between."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from irt_assets.adaptive.policy import MAX_PLACES, Policy
from irt_assets.adaptive.sessions import begin_session
from irt_assets.decisions.origin import initialise
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.ledger.publications import Publication, publish
from irt_assets.scales.scale import write_pass_mark
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database
from resources.settings import Settings
from services.theta_api.access import Access
from services.theta_api.app import build_app
from services.theta_api.next_item import NEXT_ITEM_PATH
from services.theta_api.parameter_cache import Ledger
from services.theta_api.posts import POSTS_PATH
from services.theta_api.schemas import MAX_ID_LENGTH
from services.theta_client.api import read_address
from tests.helpers.asking import kind, unless_busy
from tests.helpers.decided import WITHDRAWN, set_policy, undo_policy
from tests.helpers.door import serve_in_thread
from tests.helpers.erasing import erased_after
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.score_world import item_values
from tests.helpers.written_commands import ROOT, fenced_blocks
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("theta api")
TOKEN = "a-service-token-of-32-characters"
NOW = datetime(2026, 8, 20, 9, tzinfo=UTC)
PLACEMENT = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\n"
EASIEST, RIGHT = "i1", {"correct": True}
SIGNED = {"by": "Ann", "reason": "committee of June"}


class Exam:
    """An exam service: it requests items and answers them."""

    def __init__(self, url: str, ledger: Ledger, database: Database) -> None:
        self.url, self.ledger, self.database = url, ledger, database
        self.sittings: dict[str, tuple[list[Mapping[str, Any]], list[dict[str, Any]]]] = {}
        """The answers that `sit` sent in each session, and the responses."""

    def ask(
        self,
        session: str,
        answers: list[Mapping[str, Any]] | None = None,
        *,
        user: str = "ann",
        test: str = "placement",
    ) -> requests.Response:
        content = {"user_id": user, "session_id": session} | ({} if answers is None else {"answers": answers})
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = self.url + NEXT_ITEM_PATH.format(test=test)
        return unless_busy(lambda: requests.post(url, json=content, headers=headers, timeout=30))

    def next(self, session: str, answers: list[Mapping[str, Any]] | None = None, **others: str) -> dict[str, Any]:
        answer = self.ask(session, answers, **others)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sit(
        self, session: str, is_right: Callable[[str, int], bool] = lambda _item, n: n % 2 == 0, **others: str
    ) -> list[dict[str, Any]]:
        """Answer until the session ends, by default every second item right. Returns the API's responses."""
        steps = [self.next(session, [], **others)]
        answers: list[Mapping[str, Any]] = []
        while not steps[-1]["stop"]:
            item = steps[-1]["item_id"]
            answers.append({"item_id": item, "correct": is_right(item, len(answers))})
            steps.append(self.next(session, answers, **others))
        self.sittings[session] = answers, steps
        return steps

    def differences(self, replica: Exam) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Send the requests of all sittings to a replica. Returns former and new responses that differ."""
        found = []
        for session, (answers, steps) in self.sittings.items():
            for k, step in enumerate(steps):
                again = replica.next(session, answers[:k], user=f"of {session}")
                found += [(step, again)] if step != again else []
        return found


@pytest.fixture
def bank(database: Database) -> Database:
    """Thirty published items, and four items u1 … u4 that have never been published."""
    add_items(database, item_values())
    initialise(database, SCALE, first_month=MONTHS[0])
    add_items(database, dict.fromkeys(("u1", "u2", "u3", "u4")))
    return database


@contextmanager
def running(database: Database, *policies: str, now: datetime = NOW) -> Iterator[Exam]:
    for policy in policies:
        set_policy(database, Policy.from_yaml(policy), effective_from=now - timedelta(days=1), **SIGNED)
    ledger = Ledger(database, 2, clock=lambda: now)
    listening = socket.create_server(("127.0.0.1", 0))
    with serve_in_thread(build_app(Access(TOKEN, None), ledger, 2), [listening]):
        wait_for("it to be ready", lambda: ledger.ready, pause=0.02)
        yield Exam(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, database)


def test_session_gives_items_by_the_answers_until_its_maximum(bank: Database) -> None:
    with running(bank, PLACEMENT) as exam:
        steps = exam.sit("s1")
        assert all(round(step[name], 6) == step[name] for step in steps for name in ("theta", "se"))
        assert [step["position"] for step in steps] == [*range(1, 10)]
        assert len({step["item_id"] for step in steps[:-1]}) == 8
        assert (steps[-1]["stop"], steps[-1]["item_id"]) == ("max-items", None)
        # N(0, 1) before the first answer, trapezoidal rule
        assert (steps[0]["theta"], steps[0]["se"]) == pytest.approx((0.0, 1.0), abs=1e-6)
        assert steps[-1]["se"] < 0.6
        assert {(step["version"], step["seed"], step["set_hash"]) for step in steps} == {
            (1, steps[0]["seed"], steps[0]["set_hash"])
        }
        assert exam.next("s1", []) == steps[0], "an item whose answer is lost is given again"
        fresh = exam.next("s1", [{"item_id": steps[0]["item_id"]}])
        assert fresh["theta"] == exam.next("s1", [{"item_id": steps[0]["item_id"], "score": 0}])["theta"]


def test_answers_in_the_log_give_the_item_of_sent_answers(bank: Database) -> None:
    with running(bank, PLACEMENT) as exam:
        sent: list[Mapping[str, Any]] = []
        for position in range(1, 4):
            step = exam.next("s1")
            assert step == exam.next("s1", sent)
            sent.append({"item_id": step["item_id"], "correct": position == 1})
            about = {"session_id": "s1", "form_id": "placement", "position": position, "correct": position == 1}
            at = NOW + timedelta(minutes=position)
            add_attempts(bank, [attempt("ann", step["item_id"], at, **about)])
        add_attempts(bank, [attempt("ann", "i1", NOW, session_id="s1")])  # practice, not of the test
        before = exam.next("s1")
        assert before == exam.next("s1", sent)
        impossible = {"session_id": "s1", "form_id": "placement", "position": 4, "score": 9}
        add_attempts(bank, [attempt("ann", before["item_id"], NOW + timedelta(minutes=4), **impossible)])
        after = exam.next("s1")
        assert (after["position"], after["theta"]) == (5, before["theta"]), "as a verdict, it does not count"


def test_simultaneous_first_requests_begin_a_single_session(bank: Database) -> None:
    with running(bank, PLACEMENT + "exposure: {randomesque: 5}") as exam, running(bank) as replica:
        for k in range(5):
            with ThreadPoolExecutor(8) as threads:
                asked = [threads.submit((exam, replica)[i % 2].next, f"s{k}") for i in range(8)]
                assert len({str(each.result()) for each in asked}) == 1
    assert rows(bank, "SELECT count(*) FROM adaptive_session") == [(5,)]


def test_release_between_two_requests_leaves_the_session_unchanged(bank: Database) -> None:
    with running(bank, PLACEMENT) as exam:
        first = exam.next("s1")
        answers = [{"item_id": first["item_id"], **RIGHT}]
        second = exam.next("s1", answers)
        changed = Publication(
            SCALE, second["item_id"], ItemRow(0.1, 3.0), NOW + timedelta(hours=1), "decided", "", "", None
        )
        with bank.connect() as connection:
            publish(connection, [changed])
        exam.ledger.clock = lambda: NOW + timedelta(hours=2)
        set_policy(bank, Policy.from_yaml(PLACEMENT.replace("8", "2")), effective_from=NOW, **SIGNED)
        exam.ledger.refresh()
        assert exam.next("s1", answers) == second
        later = exam.next("s2", answers)
        assert later["set_hash"] != second["set_hash"]
        assert later["version"] == 2
        undo_policy(bank, "placement", **SIGNED)
        undo_policy(bank, "placement", **SIGNED)
    with running(bank) as restarted:
        restarted.ledger.clock = lambda: datetime.now(UTC) + timedelta(days=1)
        restarted.ledger.refresh()
        assert restarted.ledger.plans.offers == {}
        assert restarted.next("s1", answers) == second


def test_withdrawn_and_dropped_items_are_skipped_and_named(bank: Database) -> None:
    with running(bank, PLACEMENT) as exam:
        first = exam.next("s1")
        gone = first["item_id"]
        run_sql(
            bank,
            WITHDRAWN,
            (gone, NOW + timedelta(minutes=1)),
        )
        exam.ledger.refresh()
        assert exam.next("s1") == first, "the withdrawal takes effect in a minute"
        exam.ledger.clock = lambda: NOW + timedelta(hours=1)
        second = exam.next("s1")
        assert second["item_id"] != gone
        assert (second["position"], second["skipped"]) == (1, [gone])
        run_sql(
            bank,
            """UPDATE question SET meta = jsonb_set(meta, '{key}', '[]') WHERE item_id = %s""",
            (second["item_id"],),
        )
        exam.ledger.refresh()
        third = exam.next("s1", [{"item_id": second["item_id"], **RIGHT}])
        assert third["item_id"] not in (gone, second["item_id"])
        assert (third["position"], third["theta"]) == (2, first["theta"]), "an answer to a dropped item is not scored"
        assert third["skipped"] == sorted([gone, second["item_id"]])


def test_items_seen_within_the_look_back_are_not_given(bank: Database) -> None:
    best = [f"i{k}" for k in range(1, 31) if k not in (4, 5, 6)]
    add_attempts(bank, [attempt("ann", item, NOW - timedelta(days=20)) for item in best])
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 3}}\nlook_back_days: "
    with running(bank, policy + "30", policy.replace("placement", "short") + "10") as exam:
        assert {step["item_id"] for step in exam.sit("s1")[:-1]} == {"i4", "i5", "i6"}
        assert exam.next("s2", test="short")["item_id"] == exam.next("s3", user="bob", test="short")["item_id"]


def test_unscored_items_fill_their_places_and_change_no_estimate(bank: Database) -> None:
    policy = PLACEMENT + "unscored: 0.2\n"  # 2 of 10 places
    with running(bank, policy) as exam:
        steps = exam.sit("s1")
        unscored = [step for step in steps if not step["scored"]]
        assert len(steps) == 11
        assert len(unscored) == 2
        assert {step["item_id"] for step in unscored} <= {"u1", "u2", "u3", "u4"}
        for before, step in pairwise(steps):
            assert (before["theta"] == step["theta"]) == (not before["scored"])
        given = Counter(
            step["item_id"] for k in range(40) for step in exam.sit(f"t{k}", user=f"u{k}") if not step["scored"]
        )
        places = {exam.ledger.plans.offers["placement"].bank.plan.unscored_places(k) for k in range(40)}
    assert len(places) > 20
    assert sum(given.values()) == 80
    assert min(given[f"u{k}"] for k in range(1, 5)) >= 12, "items that were given less often are more likely"


def test_learners_theta_of_the_start_chooses_items_and_changes_no_estimate(bank: Database) -> None:
    able = [attempt("ann", f"i{k}", NOW - timedelta(days=1, minutes=k)) for k in range(1, 21)]
    add_attempts(bank, able)
    with running(bank, PLACEMENT + "start: theta-now\nlook_back_days: 0\n") as exam:
        step, new = exam.next("s1"), exam.next("s2", user="bob")
    values = item_values()
    assert values[step["item_id"]]["b"] > values[new["item_id"]]["b"]
    assert (step["theta"], step["se"]) == (new["theta"], new["se"])
    stored = rows(bank, "SELECT start_theta > 0.5, start_se < 0.6 FROM adaptive_session ORDER BY session_id")
    assert stored == [(True, True), (None, None)]


def answering(
    values: Mapping[str, Mapping[str, float]], theta: float, rng: np.random.Generator
) -> Callable[[str, int], bool]:
    """Answers of a learner by the 2PL model."""
    return lambda item, _n: bool(rng.random() < 1 / (1 + np.exp(-values[item]["a"] * (theta - values[item]["b"]))))


def test_exposure_of_an_item_stays_near_its_limit_from_the_first_session_on(bank: Database) -> None:
    policy = f"test: placement\nscale: {SCALE}\nlength: {{max: 3}}\nexposure: {{max: 0.25}}\n"
    n, rng, values = 200, np.random.default_rng(5), item_values()
    with running(bank, policy) as exam:
        given = Counter[str]()
        for k, theta in enumerate(rng.normal(size=n)):
            steps = exam.sit(f"s{k}", answering(values, theta, rng), user=f"u{k}")
            given.update(step["item_id"] for step in steps[:-1])
    assert max(given.values()) / n <= 0.25 + 3 * np.sqrt(0.25 * 0.75 / n)
    assert rows(bank, "SELECT count(*) FROM adaptive_session WHERE eligible <> '{}'")[0][0] > n / 2


POINTS = list(product((None, True, False), (None, -1, 0, 1, 2, 4, 101)))
"""Combinations of `correct` and `score`."""


@pytest.fixture
def scored_bank(database: Database, tmp_path: Path) -> Database:
    """Four published items with a maximum score of 4, and 30 items with a maximum score of 1."""
    steps = "".join(f"g{k},1.1,-1,-.5,.5,1,gpcm,anchor\n" for k in range(4))
    (tmp_path / "bank.csv").write_text(f"item_id,a,b1,b2,b3,b4,model,tags\n{steps}")
    import_bank_file(database, QUESTIONS, tmp_path / "bank.csv")
    run_sql(database, "UPDATE question SET scale_id = %s, topic_id = 'graded'", [SCALE])
    add_items(database, item_values())
    initialise(database, SCALE, first_month=MONTHS[0])
    return database


@pytest.mark.parametrize("item", ["g0", "i1"])
def test_answers_are_read_like_posted_answers(scored_bank: Database, item: str) -> None:
    """Checks that an answer that a post refuses is refused by name, and that θ differs if and only if points do."""
    most = 4 if item == "g0" else 1
    answers = [{"item_id": item, "correct": correct, "score": score} for correct, score in POINTS]
    about = {"user_id": "bob", "completed_at": NOW.isoformat(), "form_id": "placement"}
    posted = [about | answer | {"session_id": f"p{k}", "attempt_id": f"p{k}"} for k, answer in enumerate(answers)]
    add_attempts(scored_bank, [attempt("bob", "i2", NOW)])  # makes the month
    with running(scored_bank, PLACEMENT) as exam:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{exam.url}{POSTS_PATH}?dry_run=1"
        results = requests.post(url, json=posted, headers=headers, timeout=30).json()["attempts"]
        expected = {exam.next("s1", [{"item_id": item, "score": n}])["theta"]: n for n in range(most + 1)}
        unanswered = exam.next("s1", [])["theta"]
        assert len([result for result in results if result["result"] == "accepted"]) == (11 if most == 4 else 7)
        for answer, result in zip(answers, results, strict=True):
            response = exam.ask("s1", [answer])
            if result["result"] == "rejected":
                assert kind(response) == (422, "bad_answers"), answer
                assert f"item {item}" in response.json()["detail"]
            elif most > 1 and (answer["correct"], answer["score"]) == (False, None):
                assert response.json()["theta"] == unanswered  # the verdict is score_missing
            else:
                points = answer["score"] if answer["score"] is not None else most * bool(answer["correct"])
                assert expected[response.json()["theta"]] == points, answer
    assert len(expected) == most + 1


def test_right_answers_to_scored_items_have_full_marks(scored_bank: Database) -> None:
    """θ of four full scores by the trapezoidal rule; sent answers and answers in the log give the same θ."""
    policy = PLACEMENT.replace("8", "4") + "topics: {graded: {min: 4}}\n"
    with running(scored_bank, policy) as exam:
        sent: list[Mapping[str, Any]] = []
        for k in range(4):
            step = exam.next("s1")
            assert step == exam.next("s1", sent)
            sent.append({"item_id": step["item_id"], "correct": True})
            about = {"session_id": "s1", "form_id": "placement", "position": k + 1}
            add_attempts(scored_bank, [attempt("ann", step["item_id"], NOW + timedelta(minutes=k), **about)])
        last = exam.next("s1")
        assert last == exam.next("s1", sent)
    nodes = np.linspace(-6, 6, 2_001)
    score_terms = np.cumsum([0 * nodes, *(1.1 * (nodes - b) for b in (-1, -0.5, 0.5, 1))], axis=0)
    full = np.exp(score_terms[4]) / np.exp(score_terms).sum(axis=0)
    weights = np.exp(-(nodes**2) / 2) * full**4
    assert last["theta"] == pytest.approx(float((weights * nodes).sum() / weights.sum()), abs=1e-3)


STEADY = (
    f"test: placement\nscale: {SCALE}\nmethod: expected-information\nlength: {{min: 15, max: 15}}\n"
    "topics: {topic: {min: 10}}\nclassify: {rule: interval}\n"
)


def change_everything(database: Database, withdrawn: str) -> None:
    """Change whatever a plan is made of: values now and in the past, a topic, the pass mark, an item in use."""
    with database.connect() as connection:
        publish(connection, [changed_values("i3", NOW + timedelta(minutes=5))])
        publish(connection, [changed_values(f"i{k}", NOW - timedelta(days=30)) for k in range(10, 16)])
    run_sql(database, "UPDATE question SET topic_id = 'other' WHERE item_id < 'i2'")
    call(database, write_pass_mark, SCALE, 2.0)
    run_sql(
        database,
        WITHDRAWN,
        (withdrawn, NOW + timedelta(minutes=5)),
    )


def changed_values(item: str, since: datetime) -> Publication:
    return Publication(SCALE, item, ItemRow(0.6, 0.3), since, "decided", "", "", None)


def test_sessions_continue_unchanged_on_two_replicas_after_every_change(bank: Database) -> None:
    """Six sessions of 15 items begin 10 s after new values took effect, by the set read before. Then everything that a
    plan is made of changes, and one replica restarts. Only a step that gives the withdrawn item differs."""
    call(bank, write_pass_mark, SCALE, 0.0)
    rng, values = np.random.default_rng(3), item_values()
    with running(bank, STEADY) as exam:
        with bank.connect() as connection:
            publish(connection, [changed_values(f"i{k}", NOW + timedelta(seconds=5)) for k in range(1, 10)])
        exam.ledger.clock = lambda: NOW + timedelta(seconds=15)
        for k, theta in enumerate(rng.normal(size=6)):
            exam.sit(f"s{k}", answering(values, theta, rng), user=f"of s{k}")
        first = exam.sittings["s0"][1]
        change_everything(bank, withdrawn := first[7]["item_id"])
        with running(bank) as restarted:
            for replica in (exam, restarted):
                replica.ledger.clock = lambda: NOW + timedelta(hours=1)
                replica.ledger.refresh()
                differences = exam.differences(replica)
                assert len(differences) == 6 * 16
                for step, again in differences:
                    taken_out = {"item_id": again["item_id"]} if step["item_id"] == withdrawn else {}
                    assert again == step | {"skipped": [withdrawn]} | taken_out
                    assert again["item_id"] != withdrawn
            assert exam.next("new", [])["set_hash"] != first[0]["set_hash"]
    assert rows(bank, "SELECT count(*) FROM adaptive_bank") == [(2,)]


def test_bank_and_session_are_stored_together_or_not_at_all(bank: Database) -> None:
    """Breaks the connection of the first request before its commit."""
    with running(bank, PLACEMENT) as exam:
        offer, measures = exam.ledger.plans.offers["placement"], exam.ledger.measures()
        with bank.connect() as connection:
            begin_session(connection, offer, measures, "ann", "s1", NOW)
            connection.close()
        stored = "SELECT (SELECT count(*) FROM adaptive_bank), (SELECT count(*) FROM adaptive_session)"
        assert rows(bank, stored) == [(0, 0)]
        exam.sit("s1")
        exam.sit("s2")
        assert rows(bank, stored) == [(1, 2)]


def test_sessions_of_earlier_releases_find_their_set_or_end(bank: Database) -> None:
    """Covers a session from before banks were stored, a later session, and a session whose set is unknown."""
    with running(bank, PLACEMENT) as exam:
        for name in ("before", "after"):
            exam.sit(name, user=f"of {name}")
        exam.next("gone", [], user="of gone")
    run_sql(bank, "UPDATE adaptive_session SET bank_hash = NULL WHERE session_id <> 'after'")
    run_sql(bank, "UPDATE adaptive_session SET set_hash = 'unknown' WHERE session_id = 'gone'")
    with bank.connect() as connection:
        publish(connection, [changed_values("i3", NOW - timedelta(seconds=10))])
    with running(bank) as first, running(bank) as second:
        for replica in (first, second):
            assert exam.differences(replica) == []
            assert kind(replica.ask("gone", [], user="of gone")) == (409, "set_gone")
            run_sql(bank, "UPDATE question SET topic_id = 'other'")
    assert rows(bank, "SELECT session_id FROM adaptive_session WHERE bank_hash IS NULL") == [("gone",)]


def test_replicas_agree_on_items_although_one_read_the_bank_before_a_drop(bank: Database) -> None:
    policy = PLACEMENT + "exposure: {randomesque: 5, max: 0.6}\nunscored: 0.2\n"
    with running(bank, policy) as early:
        begun = [early.next(f"b{k}", [], user=f"of b{k}")["session_id"] for k in range(5)]
        run_sql(bank, "UPDATE question SET meta = jsonb_set(meta, '{key}', '[]') WHERE item_id = 'i30'")
        with running(bank) as late:
            early.ledger.refresh()
            for name in (*begun, *(f"n{k}" for k in range(10))):
                first, second = (early, late) if name[-1] in "02468" else (late, early)
                steps = first.sit(name, user=f"of {name}")
                assert "i30" not in {step["item_id"] for step in steps}
                assert steps[0]["skipped"] == (["i30"] if name in begun else [])
                assert first.differences(second) == []
                first.sittings.clear()


def test_request_may_have_an_answer_for_each_place_of_a_policy(bank: Database) -> None:
    """Ids of the largest size are read, and refused because the bank does not have them; a larger body is not read."""
    with running(bank, PLACEMENT) as exam:
        ids = [f"{k:04d}".ljust(MAX_ID_LENGTH, "\x01") for k in range(MAX_PLACES)]
        answers = [{"item_id": item, "correct": False, "score": 0} for item in ids]
        assert len(json.dumps(answers)) > 1_000_000
        assert kind(exam.ask("s1", answers)) == (422, "bad_answers")
        assert kind(exam.ask("s1", answers * 2)) == (413, "too_large")


def test_ended_sessions_are_remembered_for_two_days(bank: Database) -> None:
    with running(bank, PLACEMENT + "exposure: {max: 0.5}\n") as exam:
        for day in range(5):
            exam.ledger.clock = lambda day=day: NOW + timedelta(days=day)
            exam.ledger.refresh()
            for k in range(2):
                exam.sit(f"s{day}{k}", user=f"u{day}{k}")
        offer = exam.ledger.plans.offers["placement"]
        assert {day.day - NOW.day: len(own) for day, own in offer.ended.items()} == {3: 2, 4: 2}
        given = sum(own[1].sum() for day, own in offer.finished.items() if day)
        exam.sit("s40", user="u40")
        assert sum(own[1].sum() for day, own in offer.finished.items() if day) == given == 5 * 2 * 8


def test_requests_without_an_item_are_refused_with_the_reason(bank: Database) -> None:
    impossible = PLACEMENT.replace("placement", "impossible") + "topics: {nowhere: {min: 1}}\n"
    with running(bank, PLACEMENT, impossible) as exam:
        unknown = exam.ask("s1", test="plaecment")
        assert kind(unknown) == (404, "unknown_test")
        assert "did you mean placement?" in unknown.json()["detail"]
        assert kind(exam.ask("s1", test="impossible")) == (409, "nothing_published")
        item = exam.next("s1")["item_id"]
        assert kind(exam.ask("s1", user="bob")) == (409, "other_session")
        assert kind(exam.ask("s1", test="plaecment")) == (404, "unknown_test"), "although the session is known"
        assert kind(exam.ask("s1", test="impossible")) == (409, "other_session")
        for answers in ([{"item_id": "nobody", **RIGHT}], [{"item_id": item, **RIGHT}] * 2):
            assert kind(exam.ask("s1", answers)) == (422, "bad_answers")
        assert kind(exam.ask("s1", [{"item_id": "u1", **RIGHT}])) == (422, "bad_answers"), "it was not given"
        run_sql(
            bank,
            "INSERT INTO erasure (learner_hash, salt, erased_by, reason) VALUES "
            "(encode(sha256('\\x00'::bytea || 'gone'), 'hex'), '\\x00', 'Ann', 'asked')",
        )
        assert kind(exam.ask("s9", user="gone")) == (409, "erased")
    assert rows(bank, "SELECT session_id FROM adaptive_session") == [("s1",)]


def test_session_that_begins_while_its_learner_is_erased_leaves_no_row(bank: Database, settings: Settings) -> None:
    """Lets the request check for erasures before the erasure is recorded."""
    add_attempts(bank, [attempt("gone", "i1", NOW)])
    with running(bank, PLACEMENT) as exam:
        with erased_after("services.theta_api.next_item", "erasures_of", bank, settings, "gone"):
            exam.next("s1", [], user="gone")
        assert kind(exam.ask("s2", user="gone")) == (409, "erased")
    assert rows(bank, "SELECT user_id FROM adaptive_session") == []


# --- programs of the pages

TOPICS = ("algebra", "data", "functions", "geometry", "number")


@pytest.fixture
def demo_bank(database: Database) -> Database:
    """A bank like the demo's: each item has a topic of the demo and a key with four options."""
    values = item_values()
    add_items(database, {f"{copy}{item}": irt for copy in "ABCD" for item, irt in values.items()})
    initialise(database, SCALE, first_month=MONTHS[0])
    add_items(database, dict.fromkeys(f"n{k}" for k in range(1, 9)))
    run_sql(
        database,
        """UPDATE question SET topic_id = (%s::text[])[1 + n %% 5],
             meta = meta || jsonb_build_object('key', substr('ABCD', 1 + n %% 4, 1))
           FROM (SELECT item_id AS own, row_number() OVER (ORDER BY item_id)::int AS n FROM question) numbered
           WHERE item_id = own""",
        (list(TOPICS),),
    )
    now = datetime.now(UTC)
    call(database, ensure_month_partitions, MONTHS[0], f"{now + timedelta(days=1):%Y-%m}")
    return database


def blocks_of(page: str) -> list[tuple[str, str]]:
    return fenced_blocks((ROOT / "docs" / page).read_text("utf-8"))


def test_programs_of_the_page_take_whole_tests_on_a_bank_with_keys(
    demo_bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of("how-to/adaptive-sessions.md")
    [policy], [program] = ([text for language, text in blocks if language == kind_] for kind_ in ("yaml", "python"))
    [script] = [text for _, text in blocks if text.startswith("api=")]
    with running(demo_bank, policy, now=datetime.now(UTC)) as exam:
        done = subprocess.run(
            ["bash", "-c", script.replace("http://127.0.0.1:8001", exam.url)],
            env={**os.environ, "IRT_THETA_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=patient(120),
            check=True,
        )
        *steps, last = done.stdout.splitlines()
        assert json.loads(last)["stop"] == "max-items", done.stdout
        assert [line.split()[0] for line in steps] == [f"{k}" for k in range(1, 22)]
        stored = rows(
            demo_bank,
            """SELECT count(*), bool_and(l.correct = (l.response = q.meta->>'key')) FROM response_log l
               JOIN question q USING (item_id)""",
        )
        assert stored == [(20, True)]

        monkeypatch.setenv("IRT_THETA_URL", exam.url)
        monkeypatch.setenv("IRT_THETA_TOKEN", TOKEN)
        monkeypatch.setitem(sys.modules, "irt_theta_client", import_module("services.theta_client"))
        read_address.cache_clear()
        names: dict[str, Any] = {"ask": lambda item: item.endswith(("1", "2", "3"))}
        exec(program, names)
        read_address.cache_clear()
        assert names["step"]["stop"] == "max-items"
        assert len(names["answers"]) == 20


def test_program_of_the_tutorial_takes_a_whole_test(demo_bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of("tutorial/adaptive-test.md")
    [policy] = [text for language, text in blocks if language == "yaml"]
    [program] = [text for language, text in blocks if language == "py"]
    monkeypatch.setenv("IRT_THETA_TOKEN", TOKEN)
    with running(demo_bank, policy) as exam:
        names: dict[str, Any] = {}
        exec(program.replace("http://127.0.0.1:8001", exam.url), names)
    assert 8 <= len(names["answers"]) <= 20
    assert names["step"]["stop"] in ("max-items", "max-se")
