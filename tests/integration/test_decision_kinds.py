"""Every kind of decision in the table `decision` is previewed, made, refused, listed and undone alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import psycopg
import pytest
from pydantic import BaseModel

from irt_assets import decision_kinds
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.policy_decision import SET_POLICY, PolicyRequest
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.common.wording import sentence
from irt_assets.decision_kinds import KINDS, RESTORE, WITHDRAW
from irt_assets.decisions.closing import REOPEN_MONTHS, MonthRange
from irt_assets.decisions.deciding import decide, preview, undo
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.withdrawal import UseRequest
from irt_assets.ledger.decision_rows import DecisionRow, Entry, Kind, Plan
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.new_items.decided import (
    BRING_BACK,
    REJECT,
    RETIRE,
    SEED,
    STOP,
    ItemsRequest,
    SeedLimits,
    read_seeding,
)
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.new_items.stages import item_stages
from irt_assets.scales.item_status import item_status
from irt_assets.scores.left_out import COUNT_ITEMS_AGAIN, LEAVE_ITEMS_OUT, ScoringRequest
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, decide as decide_on_page, review
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.jwt_verifier.tokens import Identity
from tests.helpers.decided import WITHDRAWN, set_policy
from tests.helpers.new_items import PUBLISHABLE
from tests.helpers.rooms import SCALE, add_items, call, rows, run_sql
from tests.helpers.score_world import MONTH, SIGNED, build_exam, sit
from tests.helpers.typed import IrtOf

POLICY = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\n"
LIMITS = SeedLimits(max_answers=90, max_per_day=5)
DECIDED = "INSERT INTO decision (kind, scale_id, subject, value, decided_by, reason) VALUES (%s, %s, %s, %s, 'Bo', 'x')"
LATER = datetime(2099, 1, 1, tzinfo=UTC)
CLOSED = """INSERT INTO month_state
              (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
            SELECT month, 'default', 'closed', 'nightly', 'late_days have passed', snapshot_hash, '{}', '{}', '[]'
            FROM scored_snapshot"""
Change = Callable[[Database, Any], Any]
"""Changes the database or the request. Returns the request."""


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    """An exam with a closed month, a free item i1, a withdrawn item i2, and a policy of the test `placement`.

    The new items are n1, n2, which is seeded, n3, which is rejected, and n4, which is publishable.
    """
    build_exam(database, tmp_path / "exam", learners=40)
    run_sql(database, "DELETE FROM anchor_set WHERE item_id IN ('i1', 'i2')")
    run_sql(database, WITHDRAWN, ("i2", "2026-01-01"))
    run_sql(database, CLOSED)
    run_sql(database, "UPDATE form_item SET scored = false WHERE form_id = 'F1' AND item_id = 'i3'")
    set_policy(database, Policy.from_yaml(POLICY), **SIGNED)
    add_items(database, {"n1": None, "n2": None, "n3": None, "n4": None})
    run_sql(database, PUBLISHABLE, ("n4",))
    decide(database, SEED, ItemsRequest(["n2"], LIMITS), **SIGNED)
    decide(database, REJECT, ItemsRequest(["n3"]), **SIGNED)
    return database


@pytest.fixture
def ann(settings: Settings, exam: Database) -> Iterator[ViewRequest]:
    with dg.DagsterInstance.ephemeral() as instance:
        identity = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
        yield ViewRequest("item", {}, identity, Reader(settings, instance))


def changed_by(query: str, *values: Any) -> Change:
    def change(database: Database, request: Any) -> Any:
        run_sql(database, query, values)
        return request

    return change


def other_day(_database: Database, request: UseRequest) -> UseRequest:
    return replace(request, now=request.now + timedelta(days=1))


def other_policy(database: Database, request: PolicyRequest) -> PolicyRequest:
    set_policy(database, Policy.from_yaml(POLICY.replace("8", "9")), by="Bo", reason="longer")
    return request


def new_policy() -> PolicyRequest:
    return PolicyRequest.of(Policy.from_yaml(POLICY.replace("8", "7")))


@dataclass(frozen=True)
class Case:
    """A kind with a request.

    Attributes:
        changes: part of the basis → change of this part.
        words: the command that makes the decision; FILE is a file with the policy.
        page: key and reference of the decision on a page, if there is a page for it.
    """

    kind: Kind
    request: Callable[[], Any]
    changes: Mapping[str, Change]
    words: tuple[str, ...]
    subject: str
    page: tuple[str, Reference] | None = None


SCORED = {
    "the scored items of form F1": changed_by(
        "UPDATE form_item SET scored = false WHERE form_id = 'F1' AND item_id = 'i5'"
    )
}
CASES = {
    each.kind.name: each
    for each in (
        Case(
            LEAVE_ITEMS_OUT,
            lambda: ScoringRequest(SCALE, "F1", ["i4"]),
            SCORED,
            ("scores", "leave-out", "F1", "i4"),
            "F1",
        ),
        Case(
            COUNT_ITEMS_AGAIN,
            lambda: ScoringRequest(SCALE, "F1", ["i3"]),
            SCORED,
            ("scores", "leave-out", "F1", "i3", "--undo"),
            "F1",
        ),
        Case(
            REOPEN_MONTHS,
            lambda: MonthRange(MONTH),
            {f"{MONTH} ({SCALE})": changed_by("UPDATE month_state SET since = since + interval '1 day'")},
            ("month", "reopen", MONTH),
            MONTH,
            ("reopen", Reference(MONTH, "")),
        ),
        Case(
            WITHDRAW,
            lambda: UseRequest(["i1"]),
            {
                "the use of i1": changed_by(
                    WITHDRAWN.replace("withdraw an", "restore an").replace("withdrawn", "restored"), "i1", "2026-01-01"
                ),
                "the first day": other_day,
            },
            ("items", "withdraw", "i1"),
            "i1",
            ("withdraw", Reference("", "i1")),
        ),
        Case(
            RESTORE,
            lambda: UseRequest(["i2"]),
            {"the use of i2": changed_by(WITHDRAWN, "i2", "2026-02-01"), "the first day": other_day},
            ("items", "restore", "i2"),
            "i2",
            ("restore", Reference("", "i2")),
        ),
        Case(
            SET_POLICY,
            new_policy,
            {
                "the policy of test placement": other_policy,
                f"the published set of scale {SCALE}": changed_by(
                    """INSERT INTO item_parameter_publication
                         (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
                       SELECT scale_id, item_id, parameters, effective_from, 'decision', 'moved', '', ''
                       FROM item_parameter_publication LIMIT 1"""
                ),
            },
            ("tests", "set", "FILE"),
            "placement",
        ),
        Case(
            PUBLISH,
            lambda: PublishRequest(["n4"]),
            {"the estimate of n4": changed_by("UPDATE item_pipeline SET n = n + 1 WHERE item_id = 'n4'")},
            ("items", "publish", "n4"),
            "n4",
        ),
        *(
            Case(
                kind,
                lambda item=item: ItemsRequest([item], SeedLimits(max_answers=30)),
                {f"the {part} of {item}": changed_by(DECIDED, kind.opposite, SCALE, item, value)},
                ("items", *command, item),
                item,
            )
            for kind, item, part, value, command in (
                (SEED, "n1", "seeding", '{"max_answers": 0}', ("seed", "--max-answers", "30")),
                (STOP, "n2", "seeding", '{"max_answers": 7}', ("stop",)),
                (REJECT, "n1", "state", '{"state": "in use"}', ("reject",)),
                (RETIRE, "i1", "state", '{"state": "in use"}', ("retire",)),
                (BRING_BACK, "n3", "state", '{"state": "rejected"}', ("bring-back",)),
            )
        ),
    )
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def stored(database: Database) -> list[Any]:
    return [rows(database, f"SELECT * FROM {table}") for table in ("decision", "month_state", "adaptive_test")]


def in_force(database: Database) -> tuple[Any, ...]:
    """The withdrawn items, the policies of tests in the far future, the scored items of forms, and the items' stages
    and limits of seeding."""
    withdrawn = {item for item, status in call(database, item_status).items() if status.is_withdrawn}
    policies = {test: each.stored for test, each in call(database, versions_in_force, LATER).items()}
    stages = [(each.item_id, each.stage) for each in call(database, item_stages)]
    scored = rows(database, "SELECT form_id, item_id FROM form_item WHERE scored ORDER BY 1, 2")
    return withdrawn, policies, scored, stages, call(database, read_seeding, SCALE, datetime.now(UTC))


def decided(database: Database, case: Case, **signed: str) -> int:
    """Make the decision of a case. Returns its number."""
    decide(database, case.kind, case.request(), **(SIGNED | signed))
    return int(rows(database, "SELECT max(decision_id) FROM decision")[0][0])


def test_every_kind_has_a_case() -> None:
    assert set(CASES) == set(KINDS)


def test_preview_changes_nothing(exam: Database, case: Case) -> None:
    before = stored(exam)
    assert call(exam, preview, case.kind, case.request()).sentences
    assert stored(exam) == before


def test_answers_that_arrive_after_the_preview_do_not_refuse_the_decision(exam: Database, case: Case) -> None:
    request = case.request()
    plan = call(exam, preview, case.kind, request)
    sit(exam, "F1", range(1, 21), ["late"], day=5)
    assert decide(exam, case.kind, request, plan.basis, **SIGNED).startswith("recorded as decision")


def test_every_part_of_the_basis_has_a_case(exam: Database, case: Case) -> None:
    assert {*call(exam, preview, case.kind, case.request()).basis} == {*case.changes}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, each in CASES.items() for part in each.changes])
def test_decision_is_refused_if_a_part_of_the_basis_has_changed(exam: Database, name: str, part: str) -> None:
    case = CASES[name]
    request = case.request()
    plan = call(exam, preview, case.kind, request)
    request = case.changes[part](exam, request)
    before = stored(exam)
    with pytest.raises(PermanentFailure, match=r"nothing was decided, because .*Look again") as refused:
        decide(exam, case.kind, request, plan.basis, **SIGNED)
    assert f"{part} has changed since: " in str(refused.value)
    assert stored(exam) == before


@pytest.mark.parametrize(("by", "reason"), [(" ", "June"), ("Ann", "…")])
def test_decision_without_a_name_or_a_reason_is_refused(exam: Database, case: Case, by: str, reason: str) -> None:
    before = stored(exam)
    with pytest.raises(PermanentFailure, match=r"a decision needs a (name|reason)"):
        decide(exam, case.kind, case.request(), by=by, reason=reason)
    assert stored(exam) == before


def test_one_of_two_people_decides_and_the_other_is_refused(exam: Database, case: Case) -> None:
    request = case.request()
    basis, ready = call(exam, preview, case.kind, request).basis, Barrier(2)

    def decide_at_once(name: str) -> str:
        ready.wait()
        return decide(exam, case.kind, request, basis, by=name, reason="June")

    before = len(stored(exam)[0])
    with ThreadPoolExecutor(2) as people:
        tasks = [people.submit(decide_at_once, name) for name in ("Ann", "Bo")]
    assert sorted(type(task.exception()) for task in tasks if task.exception()) == [PermanentFailure]
    assert len(stored(exam)[0]) == before + 1


def test_decision_leaves_nothing_if_it_is_killed_before_the_commit(
    exam: Database, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = case.kind.apply

    def apply_and_die(self: Kind, connection: psycopg.Connection, decisions: Any) -> None:
        apply(connection, decisions)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(type(case.kind), "apply", apply_and_die)
    before = stored(exam)
    with pytest.raises(psycopg.OperationalError):
        decide(exam, case.kind, case.request(), **SIGNED)
    assert stored(exam) == before


def test_undo_restores_what_was_in_force_or_says_why_not(exam: Database, case: Case) -> None:
    before = in_force(exam)
    number = decided(exam, case)
    if case.kind.why_no_undo:
        with pytest.raises(PermanentFailure, match=case.kind.why_no_undo):
            call(exam, undo, KINDS, number)
        return
    assert in_force(exam) != before
    inverse = call(exam, undo, KINDS, number)
    assert call(exam, preview, inverse, None).sentences
    decide(exam, inverse, None, **SIGNED)
    assert in_force(exam) == before
    assert rows(exam, "SELECT undoes FROM decision ORDER BY decision_id DESC LIMIT 1") == [(number,)]
    with pytest.raises(PermanentFailure, match=f"decision {number} is undone already"):
        decide(exam, call(exam, undo, KINDS, number), None, **SIGNED)


def test_only_the_last_decision_on_a_subject_can_be_undone(exam: Database) -> None:
    first = decided(exam, CASES[WITHDRAW.name])
    decide(exam, RESTORE, UseRequest(["i1"]), **SIGNED)
    with pytest.raises(
        PermanentFailure, match=f"decision {first + 1} on i1 is newer than decision {first}: undo it first"
    ):
        decide(exam, call(exam, undo, KINDS, first), None, **SIGNED)
    with pytest.raises(PermanentFailure, match="there is no decision 999"):
        call(exam, undo, KINDS, 999)


def test_decision_is_listed_by_kind_scale_subject_and_person(
    exam: Database, case: Case, ann: ViewRequest, settings: Settings, irt: IrtOf
) -> None:
    number = decided(exam, case, by="Kim")
    [newest, *_] = call(exam, newest_decisions, 20)
    assert (newest.decision_id, newest.kind, newest.by, newest.subject) == (number, case.kind.name, "Kim", case.subject)
    typed = irt(settings)
    filters = {"--kind": case.kind.name, "--scale": SCALE, "--subject": case.subject, "--person": "Kim"}
    found = typed("decisions", *(word for pair in filters.items() for word in pair), "--json").json
    assert [(each["decision_id"], each["reason"]) for each in found] == [(number, SIGNED["reason"])]
    for name in filters:
        others = filters | {name: "another"}
        assert typed("decisions", *(word for pair in others.items() for word in pair), "--json").json == []
    assert case.kind.name in typed("decisions").out
    status, page = make_page(replace(ann, view="decisions"))
    assert (status, case.kind.name in str(page.body).partition("Decided last")[2]) == (200, True)


def test_command_and_page_print_the_same_sentences(
    exam: Database, case: Case, ann: ViewRequest, settings: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("8", "7"))
    words = [str(file) if word == "FILE" else word for word in case.words]
    done = irt(settings)(*words, "--by", "Ann", "--reason", "June")
    assert (done.code, "confirmation needed" in done.err) == (2, True)
    printed = done.out.splitlines()
    assert printed == [*call(exam, preview, case.kind, case.request()).sentences]
    if case.page:
        key, reference = case.page
        outcome = review(ann, DecisionForm(key, (reference,), "June"))  # type: ignore[arg-type]
        assert outcome.ok
        assert [*outcome.sentences] == [sentence(line) for line in printed]
    confirmed = irt(settings)(*words, "--by", "Ann", "--reason", "June", "--yes")
    number = rows(exam, "SELECT max(decision_id) FROM decision")[0][0]
    assert confirmed.out.splitlines()[-1] == f"recorded as decision {number} by Ann"


@pytest.mark.parametrize("name", [name for name, each in CASES.items() if each.page])
def test_page_refuses_a_decision_whose_basis_has_changed_since_the_review(
    exam: Database, ann: ViewRequest, name: str
) -> None:
    case = CASES[name]
    assert case.page
    form = DecisionForm(case.page[0], (case.page[1],), "June")  # type: ignore[arg-type]
    seen = review(ann, form)
    part, change = next(iter(case.changes.items()))
    change(exam, case.request())
    outcome = decide_on_page(ann, form, seen)
    assert (outcome.ok, f"{part} has changed since: " in outcome.sentences[0]) == (False, True)


# -- a new kind --------------------------------------------------------------------------------------


class Note(BaseModel):
    text: str


class NoteOnAScale(Kind):
    """The first place that a new kind touches: its declaration. The second is the list of kinds."""

    name = "add a note to a scale"
    value = Note
    subject = "scale"

    def plan(self, _connection: psycopg.Connection, request: str) -> Plan:
        return Plan([Entry(SCALE, Note(text=request), SCALE)], [f"the note of scale {SCALE} is {request!r}"], {})

    def inverse(self, _connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, str]:
        return self.name, f"not: {decision.value['text']}"


def test_new_kind_needs_only_a_declaration_and_a_place_in_the_list(
    exam: Database, monkeypatch: pytest.MonkeyPatch, settings: Settings, irt: IrtOf
) -> None:
    kind = NoteOnAScale()
    monkeypatch.setitem(decision_kinds.KINDS, kind.name, kind)  # type: ignore[call-overload]
    assert decide(exam, kind, "read aloud", **SIGNED) == "recorded as decision 5 by Ann"
    typed = irt(settings)
    assert "decision 6 by Ann" in typed("decisions", "undo", "5", "--by", "Ann", "--reason", "June", "--yes").out
    found = typed("decisions", "--kind", kind.name, "--json").json
    assert [(each["decision_id"], each["item_id"]) for each in found] == [(6, SCALE), (5, SCALE)]
    assert kind.name in typed("decisions").out
    assert rows(exam, "SELECT value, undoes FROM decision WHERE decision_id = 6") == [({"text": "not: read aloud"}, 5)]
