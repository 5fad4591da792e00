"""The origin of a scale: anchors frozen and items published once, and windows that cannot be an origin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from irt_assets.blocks import Document
from irt_assets.blocks.html import page as page_of
from irt_assets.common.partitions import Month
from irt_assets.decisions import origin
from irt_assets.decisions.lineage import lineage
from irt_assets.decisions.origin import initialise, read_origin
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.drift.dif_month import dif_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.anchors import anchor_hash, read_anchors
from irt_assets.ledger.publications import in_force
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import gather
from irt_assets.reports.drift_month import windows
from irt_assets.reports.drift_report import document, items_to_review
from irt_assets.reports.item_facts import item_facts, observed_proportions
from irt_assets.reports.month_blocks import sections
from irt_assets.responses import proposed_window as module
from irt_assets.responses.proposed_window import propose_snapshot, proposed_window
from irt_assets.responses.snapshot import take_snapshot, user_ids_of
from irt_assets.responses.stored_window import JudgedWindow, stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import change_rules, read_scales
from irt_psychometrics import Calibration
from psychometrics_testbed.linked_months import errors
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers.dirty_log import load_dirty
from tests.helpers.rooms import (
    IN_TRANSACTION,
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    answer_matrix,
    attempt,
    call,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.verdict_worlds import add_scale
from tests.testbed.partitions import ensure_month_partitions

FIRST = "2026-01"
GOOD = {"a": 1.2, "b": 0.5, "c": 0.0, "a_se": 0.1, "b_se": 0.08, "cov_ab": -0.001, "n": 1000, "D": 1.0}


def frozen_anchors(database: Database) -> dict[str, dict[str, Any]]:
    """The anchors in use, by item."""
    anchors = call(database, read_anchors, SCALE, 1)
    names = ("a", "b", "c", "a_se", "b_se", "cov_ab", "errors_assumed")
    return {item: {name: getattr(anchors, name)[k].item() for name in names} for k, item in enumerate(anchors.item_ids)}


def test_bank_values_are_frozen_as_anchors_and_published_from_the_first_month_on(database: Database) -> None:
    add_items(database, {"a1": GOOD, "a2": GOOD | {"b": -1.0}, "plain": None})
    origin = initialise(database, SCALE, first_month=FIRST, mu=0.2, sigma=1.1, thresholds={"min_responses": 50})
    assert (origin.anchors, origin.published, origin.errors_assumed, origin.left_out) == (2, 2, 0, {})
    assert frozen_anchors(database)["a2"] == {k: GOOD[k] for k in ("a", "c", "a_se", "b_se", "cov_ab")} | {
        "b": -1.0,
        "errors_assumed": False,
    }
    published = rows(
        database,
        "SELECT item_id, a, b, effective_from, rule, month, fit_id, anchor_hash FROM item_parameter_publication",
    )
    scale = call(database, read_scales)[SCALE]
    of_both = Month(FIRST).start, "origin", None, None, call(database, anchor_hash, SCALE, 1)
    assert published == [("a1", 1.2, 0.5, *of_both), ("a2", 1.2, -1.0, *of_both)]
    assert (scale.mu, scale.sigma, scale.rules.eligibility.min_responses, scale.initialised) == (0.2, 1.1, 50, True)


@pytest.mark.parametrize(("absent", "stored"), [("it is absent", []), (None, [("pymc",)])])
def test_scale_is_refused_if_its_engine_is_not_installed(
    database: Database, monkeypatch: pytest.MonkeyPatch, absent: str | None, stored: list[Any]
) -> None:
    monkeypatch.setattr(origin, "obstacle", lambda name, settings: absent)
    add_items(database, {"a1": GOOD})
    refused = pytest.raises(PermanentFailure, match="scale default cannot be published from pymc: it is absent")
    with refused if absent else nullcontext():
        initialise(database, SCALE, first_month=FIRST, engine="pymc")
    assert rows(database, "SELECT engine FROM calibration_scale") == stored


def test_bank_values_with_d_1_7_are_converted_and_missing_errors_are_assumed(
    database: Database,
) -> None:
    """P = 1/(1 + exp(−D·a(θ − b))): D·a is our a; its error and covariance are multiplied by D, and b is unchanged."""
    add_items(database, {"a1": GOOD | {"D": 1.7}, "a2": {"a": 1.0, "b": 0.3, "D": 1.7}})
    assert initialise(database, SCALE, first_month=FIRST).errors_assumed == 1
    ((a_variance, cov_ab), (_, b_variance)) = errors(np.array([1.7]), np.array([0.3]), 500)[0]
    standard_errors = {"a_se": a_variance**0.5, "b_se": b_variance**0.5}
    assumed = {"a": 1.7, "b": 0.3, "c": 0.0, "cov_ab": cov_ab, "errors_assumed": True} | standard_errors
    times_d = {name: GOOD[name] * 1.7 for name in ("a", "a_se", "cov_ab")}
    given = {"b": 0.5, "c": 0.0, "b_se": 0.08, "errors_assumed": False} | times_d
    assert frozen_anchors(database) == {"a1": pytest.approx(given), "a2": pytest.approx(assumed)}


UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no values": ({}, "no a and b"),
    "no b": ({"a": 1.0}, "no a and b"),
    "negative": (GOOD | {"a": -0.4}, "a = -0.4 is not positive"),
    "flat": (GOOD | {"a": 0}, "a = 0 is not positive"),
    "text": (GOOD | {"a": "steep"}, "steep"),
    "a list": (GOOD | {"b": [1]}, "not a set of numbers"),
    "sure to be guessed": (GOOD | {"c": 1.0}, "c = 1 is outside"),
    "guessed less than never": (GOOD | {"c": -0.2}, "c = -0.2 is outside"),
    "without error": (GOOD | {"b_se": 0.0}, "b_se = 0 are not positive"),
    "with a negative error": (GOOD | {"a_se": -0.1}, "a_se = -0.1"),
    "with too much covariance": (GOOD | {"cov_ab": 0.5}, "cov_ab = 0.5 is not a covariance"),
    "out of everyone's reach": ({"a": 3.0, "b": 400.0}, "no information"),
}


def test_unusable_anchors_are_left_out_by_name(database: Database) -> None:
    """A single frozen anchor of this kind made every later month of every scale fail."""
    add_items(database, {"good": GOOD} | {name: irt for name, (irt, _) in UNUSABLE.items()})
    origin = initialise(database, SCALE, first_month=FIRST)
    assert (set(frozen_anchors(database)), set(origin.left_out)) == ({"good"}, set(UNUSABLE))
    assert [name for name, (_, reason) in UNUSABLE.items() if reason not in origin.left_out[name]] == []


def test_second_declaration_of_an_origin_is_refused(database: Database) -> None:
    add_items(database, {"a1": GOOD})
    initialise(database, SCALE, first_month=FIRST)
    before = frozen_anchors(database)
    run_sql(database, "UPDATE question SET meta = jsonb_set(meta, '{irt,b}', '2.0')")
    assert not missing_sentences(
        refusal(initialise, database, SCALE, first_month=FIRST), "was initialised on", "an origin is declared once"
    )
    assert (frozen_anchors(database), rows(database, "SELECT count(*) FROM item_parameter_publication")) == (
        before,
        [(1,)],
    )


@pytest.mark.parametrize(
    ("items", "given", "reason"),
    [
        ({"plain": None}, {}, r"(?s)question.meta.*irt import questions.*irt scale init --origin"),
        *(({"a1": GOOD}, {"sigma": sigma}, "SD above 0") for sigma in (0.0, -1.0, float("nan"), float("inf"))),
        ({"a1": GOOD}, {"thresholds": {"min_answers": 5}}, "no such rule: min_answers"),
        ({"a1": GOOD}, {"engine": "stan"}, "unknown engine 'stan'"),
    ],
)
def test_invalid_origin_is_refused_with_the_reason(
    database: Database, items: dict[str, Any], given: dict[str, Any], reason: str
) -> None:
    add_items(database, items)
    assert re.search(reason, refusal(initialise, database, SCALE, first_month=FIRST, **given))
    assert rows(database, "SELECT * FROM calibration_scale") == []


def test_anchors_of_a_second_scale_are_unchanged(database: Database) -> None:
    add_items(database, {"a1": GOOD})
    add_items(database, {"o1": GOOD}, "other")
    initialise(database, SCALE, first_month=FIRST)
    assert set(frozen_anchors(database)) == {"a1"}
    assert call(database, in_force, "other", Month("2026-12").start).items == {}


# -- a window as origin ------------------------------------------------------------------------------


@pytest.fixture
def answered(database: Database) -> Database:
    """400 learners on 12 items in January. All answers to item `all` are right, and item `few` has few answers."""
    rng = np.random.default_rng(5)
    a, b = rng.uniform(0.8, 1.6, 12), np.linspace(-1.5, 1.5, 12)
    scores = np.column_stack([model_scores(rng.normal(size=400), a, b, rng), np.ones(400), np.full(400, np.nan)])
    scores[:30, 13] = 1.0
    items = [f"i{j:02d}" for j in range(12)] + ["all", "few"]
    add_items(database, dict.fromkeys(items))
    add_attempts(database, answer_matrix(FIRST, scores, items))
    return database


def from_window(database: Database, store: ObjectStore, month: str = FIRST, **thresholds: int) -> Any:
    return initialise(
        database,
        SCALE,
        first_month=FIRST,
        thresholds={"min_responses": 200} | thresholds,
        window=OriginWindow(*Month(month).bounds, EmEngine(1), store),
    )


def test_origin_window_publishes_items_that_pass_the_item_gates(answered: Database, store: ObjectStore) -> None:
    origin = from_window(answered, store)
    assert origin.anchors == origin.published == 12
    assert "all_correct" in origin.left_out["all"]
    assert origin.left_out == {"all": origin.left_out["all"], "few": "30 responses are fewer than 200"}
    with answered.connect() as connection:
        read = read_origin(connection, SCALE)
        assert not missing_sentences(
            refusal(lineage, connection, "few"), "item few of", "; the origin window left it out: 30 responses are"
        )
    assert (read.left_out, read.window.n_persons, read.window.n_responses) == (origin.left_out, 400, 400 * 13)
    assert (read.in_words[0], tuple(read.in_words[1:])) == (origin.shape, origin.misfit)
    published = rows(
        answered,
        """SELECT p.item_id, p.rule, p.effective_from, p.a = (i.params->>'a')::float, p.b = (i.params->>'b')::float,
                  m.kind, m.model_spec->'linking_constants'->>'method', p.anchor_hash = m.anchor_hash,
                  p.data_hash = m.data_hash
           FROM item_parameter_publication p JOIN mirt_fit_meta m USING (fit_id)
           JOIN mirt_item_params i ON i.fit_id = p.fit_id AND i.item_id = p.item_id ORDER BY 1""",
    )
    start = Month(FIRST).start
    [(fit_snapshot, uri)] = rows(answered, "SELECT snapshot_hash, model_spec->>'snapshot' FROM mirt_fit_meta")
    assert hashlib.sha256(store.get(uri)).hexdigest() == fit_snapshot
    assert published == [(f"i{j:02d}", "origin", start, True, True, "origin", "origin", True, True) for j in range(12)]
    assert not any(values["errors_assumed"] for values in frozen_anchors(answered).values())


def test_item_without_a_monthly_fit_is_shown_with_the_fit_of_the_origin_window(
    answered: Database, store: ObjectStore
) -> None:
    from_window(answered, store)
    facts = call(answered, item_facts, call(answered, read_scales)[SCALE], "i03", datetime.now(UTC))
    (window,) = facts.months
    seen = call(answered, observed_proportions, store, facts, window)
    assert (window.month, window.start, window.end) == ("the origin window", *Month(FIRST).bounds)
    assert (window.values.a, window.values.b) == (facts.publication["a"], facts.publication["b"])
    assert seen.n.sum() == window.n == 400


def test_report_of_an_origin_window_names_published_and_left_out_items(answered: Database, store: ObjectStore) -> None:
    """Half of the learners speak Korean, so the report also compares the window's groups."""
    from_window(answered, store)
    run_sql(
        answered,
        """INSERT INTO learner (user_id, attributes)
           SELECT user_id, jsonb_build_object('lang', CASE WHEN ntile(2) OVER (ORDER BY user_id) = 1 THEN 'ko'
                                                      ELSE 'en' END)
           FROM response_log GROUP BY user_id
           ON CONFLICT (user_id) DO UPDATE SET attributes = excluded.attributes""",
    )
    found = dif_of_month(answered, store, FIRST, 1)[SCALE]
    state = MonthState(FIRST, SCALE, State.ORIGIN, "part of the origin window")
    with answered.connect() as connection:
        facts = gather(connection, store, FIRST, read_scales(connection)[SCALE], state)
        on_page = page_of(
            Document(
                "",
                "en",
                "bank",
                tuple(sections(connection, facts.scale, state, {}, at=datetime.now(UTC), dashboard="")),
            )
        )
    assert windows(answered) == [FIRST]
    assert [(item.item_id, item.proposal.action) for item in items_to_review(facts)] == [
        ("all", Action.CHECK_KEY),
        ("few", Action.NOT_PUBLISHED),
    ]
    report = page_of(document(facts, datetime.now(UTC)))
    true = "12 of 14 items were published with the scale, two were left out", "30 responses are fewer than 200"
    untrue = ["No items need review", "Nothing was published", "No fit of the month", "no linked fit"]
    for html in (report, on_page):
        assert missing_sentences(html, *true, "Reliability", *untrue) == untrue
    to_do = "Look at two items: check the key of one and see why one could not be published."
    assert not missing_sentences(report, to_do, "lang: large DIF in")
    assert {row["item_id"] for row in found if row["attribute"] == "lang"} >= {"", "i00"}


def test_window_too_small_for_a_3pl_names_the_command_with_a_smaller_minimum(
    answered: Database, store: ObjectStore
) -> None:
    window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), store)
    assert not missing_sentences(
        refusal(initialise, answered, SCALE, first_month=FIRST, model="3pl", window=window),
        "at most 400 responses each, and 1000 are needed (min_responses_3pl). `irt scale init --scale default "
        "--origin 2026-01-01:2026-02-01 --model 3pl --set min_responses_3pl=N` requires fewer",
        "use the model 2pl",
    )


class WatchfulEngine(EmEngine):
    """An engine that records open transactions while it fits, and then calls a function."""

    def __init__(self, database: Database, meanwhile: Callable[[], Any] = lambda: None) -> None:
        super().__init__(1)
        self.database, self.meanwhile = database, meanwhile
        self.open: list[tuple[Any, ...]] = []

    def calibrate(self, *args: Any, **others: Any) -> Calibration:
        self.open = rows(self.database, IN_TRANSACTION)
        self.meanwhile()
        return super().calibrate(*args, **others)


def initialise_watched(answered: Database, store: ObjectStore, engine: WatchfulEngine) -> Any:
    window = OriginWindow(*Month(FIRST).bounds, engine, store)
    return initialise(answered, SCALE, first_month=FIRST, thresholds={"min_responses": 200}, window=window)


def test_no_transaction_is_open_while_the_window_is_fitted(answered: Database, store: ObjectStore) -> None:
    engine = WatchfulEngine(answered)
    assert initialise_watched(answered, store, engine).published == 12
    assert engine.open == []


def test_origin_is_refused_if_the_bank_or_the_scale_changes_during_the_fit(
    answered: Database, store: ObjectStore
) -> None:
    moved = WatchfulEngine(
        answered, lambda: run_sql(answered, "UPDATE question SET scale_id = 'other' WHERE item_id = 'i03'")
    )
    assert "these items left scale default: i03" in refusal(initialise_watched, answered, store, moved)
    first = WatchfulEngine(answered, lambda: from_window(answered, store))
    run_sql(answered, "UPDATE question SET scale_id = %s", (SCALE,))
    assert "was initialised on" in refusal(initialise_watched, answered, store, first)
    assert len(rows(answered, "SELECT * FROM mirt_fit_meta")) == 1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"month": "2026-02"}, r"2026-02-01 to 2026-03-01 .*\(no attempts\).* another window"),
        (
            {"min_responses": 2000, "min_provisional_responses": 1000},
            r"no scored response .* at most \d+ responses each, and are fitted from 1000 on\. .*--set min_responses",
        ),
        (
            {"min_responses": 2000, "min_provisional_responses": 100},
            r"no item .* provisional.* at most \d+ responses each, and 2000 are needed \(min_responses\)",
        ),
        ({"min_anchors": 13}, r"leaves 12 anchors, .* than 13 \(min_anchors\): .*--origin.* all: all_correct"),
    ],
)
def test_window_with_unusable_anchors_is_refused_with_the_numbers(
    answered: Database, store: ObjectStore, given: dict[str, Any], reason: str
) -> None:
    assert re.search(reason, refusal(from_window, answered, store, **given))
    assert rows(answered, "SELECT 1 FROM calibration_scale UNION ALL SELECT 1 FROM mirt_fit_meta") == []


def test_origin_of_a_scale_without_items_is_refused(answered: Database, store: ObjectStore) -> None:
    assert "no item belongs to scale nonsense; the bank has: default" in refusal(
        initialise,
        answered,
        "nonsense",
        first_month=FIRST,
        window=OriginWindow(*Month(FIRST).bounds, EmEngine(1), store),
    )


# -- proposed windows --------------------------------------------------------------------------------
# A window judged by proposed rules equals the window that nights store by these rules, and nothing is stored.

START, END = datetime(2026, 5, 27, tzinfo=UTC), datetime(2026, 6, 4, tzinfo=UTC)
LOWERED = {"rapid_min_times": 35, "rapid_share": 0.3, "rapid_cap_ms": 60_000}
LOWERED |= {"min_responses": 5, "min_provisional_responses": 5, "min_learner_responses": 2}
STORED = ("attempt_verdict", "judged_day", "item_time", "learner", "calibration_scale")


@pytest.fixture
def logged(database: Database) -> Database:
    """Practice and exams over several days, with repeats, hints and response times; items become slower from month to
    month."""
    rng = np.random.default_rng(7)
    items = [f"i{n}" for n in range(15)]
    call(database, ensure_month_partitions, "2026-04", "2026-07")
    add_items(database, dict.fromkeys(items))
    add_scale(database, LOWERED, SCALE)
    log = []
    for n in range(2000):
        when = START - timedelta(days=35) + timedelta(seconds=int(rng.integers(0, 45 * 86_400)))
        exam = bool(rng.random() < 0.5)
        log.append(
            attempt(
                f"u{rng.integers(0, 150)}",
                str(rng.choice([*items, "unknown"])),
                when,
                session_id=f"{when:%m} {n % 9}" if exam else None,
                form_id="F" if exam else None,
                correct=[True, False, None][rng.integers(0, 3 if exam else 2)],
                position=int(rng.integers(1, 9)) if rng.random() < 0.7 else None,
                response_time_ms=int(rng.lognormal(4 + 0.8 * when.month, 1)),
                hints_used=int(rng.random() < 0.1),
            )
        )
    add_attempts(database, log)
    return database


def content(database: Database) -> list[object]:
    return [rows(database, f"SELECT t::text FROM {table} t ORDER BY 1") for table in STORED]


def outcome(window: JudgedWindow) -> tuple[Any, ...]:
    counts = {scale: {**one.counts} for scale, one in window.judgements.items()}
    return window.table.to_pylist(), counts, window.left_out, window.data_hash


def proposed_outcome(database: Database, start: datetime, end: datetime) -> tuple[Any, ...]:
    return outcome(call(database, proposed_window, start, end, call(database, read_scales)))


def test_trial_of_present_rules_equals_the_stored_window_and_writes_no_rows(logged: Database) -> None:
    before = content(logged)
    found = proposed_outcome(logged, START, END)
    assert content(logged) == before
    assert found == judged_as_stored(logged, START, END)
    stored = content(logged)
    assert proposed_outcome(logged, START, END) == found
    assert content(logged) == stored
    counts = found[1][SCALE]
    reasons = ("scored", "rapid", "repeat", "not_reached", "few_learner_responses", "few_item_responses")
    assert min(counts[reason] for reason in reasons) > 0, str(counts)


def test_snapshot_of_a_trial_equals_the_months_later_snapshot(logged: Database, store: ObjectStore) -> None:
    change_rules(logged, SCALE, {"hinted": "exclude"})
    with logged.connect() as connection, connection.transaction(force_rollback=True):
        tried = propose_snapshot(connection, store, "2026-06")
    assert rows(logged, "SELECT count(*) FROM judged_day") == [(0,)]
    made, _ = take_snapshot(logged, store, "2026-06", None)
    assert made == replace(tried, verdict_state=made.verdict_state)
    assert rows(logged, "SELECT count(*) FROM judged_day") != [(0,)]


def judged_as_stored(database: Database, start: datetime, end: datetime) -> tuple[Any, ...]:
    """The window as nights store it."""
    judge_differing(database, start.date(), end.date())
    return outcome(call(database, stored_window, start, end, call(database, read_scales)))


def test_trial_on_a_dirty_log_equals_the_stored_verdicts(database: Database) -> None:
    load_dirty(database)
    start, end = Month("2026-03").bounds
    found = proposed_outcome(database, start, end)
    assert found == judged_as_stored(database, start, end)


@pytest.mark.parametrize("rule", [{"rapid_min_times": 15}, {"lookback_months": 1}, {"hinted": "exclude"}])
def test_trial_of_proposed_rules_equals_the_window_stored_after_the_change(
    logged: Database, rule: dict[str, Any]
) -> None:
    present = judged_as_stored(logged, START, END)
    change_rules(logged, SCALE, rule)
    found = proposed_outcome(logged, START, END)
    assert outcome(call(logged, stored_window, START, END, call(logged, read_scales))) == present, "not judged yet"
    assert found[1] != present[1]
    assert found == judged_as_stored(logged, START, END)


def test_trial_is_refused_if_only_the_lake_still_contains_the_window(
    logged: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "holds_log", lambda *_: False)
    assert "to 2026-06-04 cannot be judged by other rules: PostgreSQL no longer" in refusal(
        proposed_outcome, logged, START, END
    )


# -- the window's answers ----------------------------------------------------------------------------
# A window's verdicts, fact by fact, and the minima of its scales.

MONTH = "2026-03"
WINDOW_START, WINDOW_END = Month(MONTH).bounds
TINY = timedelta(microseconds=1)
EVERYTHING = {"min_responses": 1, "min_provisional_responses": 1, "min_learner_responses": 1, "rapid_min_times": 3}


@pytest.fixture
def bank(database: Database) -> Database:
    """Items i0 to i3, on a scale without minima."""
    add_items(database, dict.fromkeys(["i0", "i1", "i2", "i3"]))
    add_learners(database, ["u0", "u1", "u2"])
    add_scale(database, EVERYTHING, SCALE)
    return database


def judged_window(database: Database) -> JudgedWindow:
    judge_differing(database, WINDOW_START.date(), WINDOW_END.date())
    return call(database, stored_window, WINDOW_START, WINDOW_END, call(database, read_scales))


def column(window: JudgedWindow, name: str) -> dict[str, Any]:
    """Attempt → value of a column."""
    return dict(zip(window.table["attempt_id"].to_pylist(), window.table[name].to_pylist(), strict=True))


def names(database: Database, learners: np.ndarray) -> list[str]:
    return call(database, user_ids_of, learners)


def test_window_includes_its_first_instant_and_excludes_its_end(bank: Database) -> None:
    log = [
        attempt("u0", f"i{k}", at)
        for k, at in enumerate((WINDOW_START - TINY, WINDOW_START, WINDOW_END - TINY, WINDOW_END))
    ]
    add_attempts(bank, log)
    assert set(column(judged_window(bank), "reason")) == {log[1]["attempt_id"], log[2]["attempt_id"]}


def test_each_scale_uses_its_own_look_back_for_repeats(bank: Database) -> None:
    """A single query serves all scales; the longest look-back must not apply to every scale."""
    add_items(bank, {"o0": None}, "other")
    log = [attempt("u0", item, WINDOW_START - timedelta(days=100)) for item in ("i0", "o0")]
    again = [attempt("u0", item, WINDOW_START + timedelta(days=1)) for item in ("i0", "o0")]
    add_attempts(bank, log + again)
    add_scale(bank, EVERYTHING | {"lookback_months": 2}, "other")
    reasons = column(judged_window(bank), "reason")
    assert reasons == {again[0]["attempt_id"]: "repeat", again[1]["attempt_id"]: None}


def test_scores_are_used_if_the_bank_has_a_maximum_score_above_1(bank: Database) -> None:
    """A right answer without a score has full credit; hints and omissions count as for dichotomous items."""
    run_sql(bank, """UPDATE question SET meta = '{"irt": {"max_score": 4}}' WHERE item_id = 'i0'""")
    cases = {
        "partial": ({"correct": False, "score": 3}, 3, None),
        "full": ({"correct": True, "score": 4}, 4, None),
        "right": ({"correct": True, "score": None}, 4, None),
        "nobody knows": ({"correct": False, "score": None}, None, "score_missing"),
        "hinted": ({"correct": False, "score": 2, "hints_used": 1}, 0, None),
        "hinted, unknown": ({"correct": False, "score": None, "hints_used": 1}, 0, None),
        "contradicts": ({"correct": True, "score": 2}, None, "unusable"),
        "beyond": ({"correct": True, "score": 260}, None, "unusable"),
        "skipped": ({"correct": None, "score": None}, None, "not_reached"),
    }
    rows = [attempt(name, "i0", WINDOW_START, **case) for name, (case, _, _) in cases.items()]
    rows += [attempt("full", "i1", WINDOW_START, score=1), attempt("partial", "i1", WINDOW_START, correct=False)]
    add_attempts(bank, rows)
    window = judged_window(bank)
    to_item = window.table.filter(pc.equal(window.table["item_id"].cast(pa.string()), "i0"))
    found = dict(zip(names(bank, to_item["learner_key"].to_numpy()), to_item["reason"].to_pylist(), strict=True))
    assert found == {name: reason for name, (_, _, reason) in cases.items()}
    assert window.judgements[SCALE].counts["score_missing"] == 1
    responses, learners = scored_responses_of(window.table, SCALE)
    assert responses.categories is not None
    assert dict(zip(responses.item_ids, responses.categories.tolist(), strict=True)) == {"i0": 5, "i1": 2}
    learners = names(bank, learners)
    scores = {
        (learners[person], responses.item_ids[item]): score
        for person, item, score in zip(responses.person, responses.item, responses.score.tolist(), strict=True)
    }
    expected = {(name, "i0"): score for name, (_, score, _) in cases.items() if score is not None}
    assert scores == expected | {("full", "i1"): 1, ("partial", "i1"): 0}


def test_items_left_out_are_named_with_their_number_of_responses(bank: Database) -> None:
    scores = np.ones((4, 2))
    scores[1:, 1] = np.nan
    add_attempts(bank, answer_matrix(MONTH, scores, ["i0", "i1"]))
    run_sql(
        bank, 'UPDATE calibration_scale SET rules = rules || \'{"min_responses": 2, "min_provisional_responses": 2}\''
    )
    window = judged_window(bank)
    assert (window.left_out, window.judgements[SCALE].counts["few_item_responses"]) == ({SCALE: {"i1": 1}}, 1)


def test_a_window_without_attempts_is_empty(bank: Database) -> None:
    add_attempts(bank, [attempt("u0", "i0", WINDOW_END)])
    window = judged_window(bank)
    assert (window.table.num_rows, window.totals.n_attempts, window.left_out) == (0, 0, {SCALE: {}})
