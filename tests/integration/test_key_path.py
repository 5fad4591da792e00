"""After a decision on a key: months that are or will be held, subjects that a person accepts, and the list of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.blocks import Paragraph, html
from irt_assets.common.partitions import Month
from irt_assets.decisions.accepting import steps_after_key, subjects_to_accept
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.key_path import KeyPath, read_key_path
from irt_assets.decisions.model_change import accept_guessing, accept_misfit, decide_model_change, preview_model_change
from irt_assets.decisions.origin import read_origin
from irt_assets.decisions.rekey import rekey
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.gates.month_status import ledger_states
from irt_assets.ledger.overview import decisions_since
from irt_assets.scales.scale import change_rules
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import SCALE, add_attempts, attempt, call, folder_store, run_sql
from tests.helpers.suspect_key import FIRST, ITEMS, NEXT, RECORDED, RIGHT, SUSPECT, suspect_key_template
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph

HELD = "template_held_key"
SIGNED = {"by": "Ann", "reason": "to see"}
EARLIER = "2026-05"
THEN = "then a green month publishes a first value, or proposes a new one"


@contextmanager
def graph_of(settings: Settings) -> Iterator[Graph]:
    folder = settings.irt_home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        yield Graph(settings, instance)


def hold_the_month(settings: Settings) -> None:
    """Correct the key and recompute the month, which is then held because learners guess."""
    rekey(Database(settings), SUSPECT, RIGHT, **SIGNED)
    with graph_of(settings) as graph:
        graph.run(FIRST)


@pytest.fixture
def suspect(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    """A suspect key in the origin window, which let guessing pass. No month has been computed."""
    template = suspect_key_template(postgres, migrated_template)
    with template_copy(postgres, template, tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def held(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    """The same scale after the key was corrected and the month was recomputed."""
    made_once(postgres, HELD, suspect_key_template(postgres, migrated_template), hold_the_month, **OF_MONTHS)
    with template_copy(postgres, HELD, tmp_path, **OF_MONTHS) as settings:
        yield settings


def states(database: Database, *running: str) -> list[MonthState]:
    return call(database, ledger_states, [FIRST], running)


def to_accept(database: Database, *running: str) -> Mapping[str, str]:
    return call(database, subjects_to_accept, SCALE, states(database, *running))


def state_and_subjects(database: Database, *running: str) -> tuple[State, Mapping[str, str]]:
    (month,) = states(database, *running)
    return month.state, to_accept(database, *running)


def read_path(database: Database) -> KeyPath:
    path = call(database, read_key_path, SUSPECT)
    assert path is not None
    return path


def test_month_of_an_origin_that_let_guessing_pass_will_be_held_until_it_is_accepted(suspect: Settings) -> None:
    database = Database(suspect)
    origin = call(database, read_origin, SCALE)
    assert origin is not None
    assert origin.let_pass == ("guessing",)
    assert state_and_subjects(database) == (State.ORIGIN, {"guessing": FIRST})
    until = f"{FIRST} will be held until somebody accepts that learners guess, which the origin window let pass"
    assert call(database, steps_after_key, SCALE, [NEXT, FIRST]) == [until, THEN]
    assert call(database, steps_after_key, SCALE, [NEXT]) == [THEN], "the month is after the origin window"
    assert call(database, steps_after_key, SCALE, []) == []

    rekey(database, SUSPECT, RIGHT, **SIGNED)
    assert state_and_subjects(database) == (State.STALE, {"guessing": FIRST})
    assert state_and_subjects(database, FIRST) == (State.RUNNING, {"guessing": FIRST})
    accept_guessing(database, SCALE, NEXT, **SIGNED)
    assert to_accept(database) == {"guessing": FIRST}, "accepted for later months only"
    accept_guessing(database, SCALE, FIRST, **SIGNED)
    assert state_and_subjects(database) == (State.STALE, {})
    assert call(database, steps_after_key, SCALE, [FIRST]) == [THEN]


def test_held_month_is_recomputed_and_green_after_guessing_is_accepted(held: Settings) -> None:
    database = Database(held)
    assert state_and_subjects(database) == (State.RED, {"guessing": FIRST})
    why = read_path(database).unpublished
    assert why.startswith("the origin window left it out: negative_discrimination")
    assert "; its key was last changed on 20" in why
    accept_guessing(database, SCALE, FIRST, **SIGNED)
    assert state_and_subjects(database) == (State.STALE, {})
    with graph_of(held) as graph:
        graph.run(FIRST)
    assert state_and_subjects(database) == (State.GREEN, {})
    assert call(database, decisions_since, [FIRST, NEXT]) == {}, "the month was judged after the decisions"
    path = read_path(database)
    assert [step.state for step in path.steps] == ["done"] * 4
    assert path.is_new


def change_model(settings: Settings) -> None:
    database, store = Database(settings), folder_store(settings)
    change = preview_model_change(
        database, store, SCALE, {"model": "3pl"}, FIRST, calibrations_begin=FIRST, build=lambda _: EmEngine(1)
    )
    decide_model_change(database, change, **SIGNED)


@pytest.mark.parametrize(
    ("decide", "decided"),
    [
        (lambda s: accept_guessing(Database(s), SCALE, FIRST, **SIGNED), "guessing was decided on since"),
        (lambda s: accept_guessing(Database(s), SCALE, NEXT, **SIGNED), None),
        (lambda s: accept_misfit(Database(s), SCALE, None, FIRST, **SIGNED), "misfit was decided on since"),
        (lambda s: rekey(Database(s), SUSPECT, None, **SIGNED), f"the key of {SUSPECT} was decided on since"),
        (
            lambda s: rekey(Database(s), SUSPECT, [RECORDED, RIGHT], **SIGNED),
            f"the key of {SUSPECT} was decided on since",
        ),
        (
            lambda s: change_anchors(Database(s), "drop_anchor", SCALE, ITEMS[:1], FIRST, **SIGNED),
            "the anchor set has changed since",
        ),
        (lambda s: change_rules(Database(s), SCALE, {"max_rmsd": 0.08}, **SIGNED), None),
        pytest.param(change_model, "the anchor set has changed since", marks=pytest.mark.ci),
    ],
    ids=["guessing", "guessing_later", "misfit", "undone_key", "key", "anchors", "rule", "model"],
)
def test_decision_after_a_month_was_held_affects_it_only_if_it_may_release_it(
    held: Settings, decide: Callable[[Settings], object], decided: str | None
) -> None:
    database = Database(held)
    assert call(database, decisions_since, [FIRST, NEXT]) == {}, "the key was decided on before the month was held"
    decide(held)
    found = call(database, decisions_since, [FIRST, NEXT])
    assert found == ({(FIRST, SCALE): decided} if decided else {})


def test_months_of_the_origin_without_a_fit_are_not_waited_for(suspect: Settings) -> None:
    database = Database(suspect)
    add_attempts(database, [attempt("early", SUSPECT, Month(EARLIER).start, response=RIGHT, correct=False)])
    run_sql(database, "UPDATE mirt_fit_meta SET window_start = %s WHERE kind = 'origin'", (Month(EARLIER).start,))
    rekey(database, SUSPECT, RIGHT, **SIGNED)
    path = read_path(database)
    assert [(month.month, month.state) for month in path.months] == [(FIRST, State.STALE)]
    assert path.to_accept == {"guessing": FIRST}
    alone = replace(path, months=[MonthState(EARLIER, SCALE, State.ORIGIN, "")], to_accept={})
    _, recompute, accept, publish = alone.steps
    assert (recompute.state, accept.state, publish.state) == ("next", "later", "later")
    assert f"irt backfill --from {EARLIER} --to {EARLIER}" in html.part(Paragraph(recompute.why))
