"""`irt tests`: declaring, showing, simulating and undoing adaptive tests, and refusals."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irt_assets.adaptive.policy import Policy
from irt_assets.invariants.invariant import InvariantContext, Violation
from irt_assets.invariants.scores import forms_and_adaptive_tests_have_different_names
from irt_assets.item_analysis.forms import import_forms
from irt_assets.scales.scale import change_rules
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.form_names import lock_form_names
from resources.settings import Settings
from tests.helpers import rooms, score_world
from tests.helpers.decided import set_policy
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import Irt, IrtOf

SIGNED = ("--by", "Ann", "--reason", "committee of June")
POLICY = f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 8}}\n"


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    """A bank of 30 published items, of which F1 has 20."""
    score_world.build_exam(database, tmp_path / "exam", learners=60, forms={"F1": score_world.FORMS["F1"]})
    return database


@pytest.fixture
def typed(exam: Database, settings: Settings, irt: IrtOf) -> Irt:
    return irt(settings)


def written(folder: Path, text: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text, "utf-8")
    return file


def test_policy_is_set_changed_shown_and_undone(typed: Irt, tmp_path: Path) -> None:
    first = typed("tests", "set", written(tmp_path, POLICY), *SIGNED, "--yes")
    assert missing_sentences(first.out, "test placement is new, with 30 items", "as decision 1 by Ann") == []
    longer = written(tmp_path, POLICY.replace("max: 8", "max: 12, se: 0.5") + "topics: {algebra: {max: 4}}\n")

    preview = typed("tests", "set", longer, *SIGNED, "--dry-run")
    changes = "length.max: 8 → 12", "length.se: none → 0.5", "topics.algebra.max: none → 4"
    no_items = "topic algebra: no item in use, so this limit has no effect"
    assert missing_sentences(preview.out, *changes, no_items) == []
    assert re.search(r"RMSE of θ 0\.\d+ → 0\.\d+ .* mean length 8\.0 → \d", preview.out)
    assert typed("tests", "show", "placement", "--json").json["stored"]["length"]["max"] == 8

    tried = typed("tests", "simulate", "placement", longer, "--n", "300", "--json").json
    assert (tried["simulation"]["n"], tried["stored"]["length"]["se"]) == (300, 0.5)
    assert tried["simulation"]["length"] < 12
    assert typed("tests", "set", longer, *SIGNED, "--yes").code == 0
    assert "1 to 12 items" in typed("tests", "list").out
    shown = typed("tests", "show", "placement").out
    assert missing_sentences(shown, "Adaptive test placement of scale default.", "Versions", "committee of June") == []

    undone = typed("tests", "undo", "placement", *SIGNED, "--yes").out
    assert missing_sentences(undone, "length.max: 12 → 8", "recorded as decision 3 by Ann") == []
    assert typed("tests", "list", "--json").json[0]["stored"]["length"]["max"] == 8
    assert "not offered any more" in typed("tests", "undo", "placement", *SIGNED, "--yes").out
    assert "no adaptive test is offered" in typed("tests", "list").out
    assert "there is no test placement" in typed("tests", "simulate", "placement").err


REFUSED = {
    "a wrong line": (POLICY.replace("{max: 8}", "{max: 0}"), "line 3: length.max"),
    "an empty file": ("", "the policy is not valid; line 1: test: Field required"),
    "the name of a form": (POLICY.replace("placement", "F1"), "F1 is a form with fixed items"),
    "a topic without items": (POLICY + "topics: {algebra: {min: 2}}\n", "topic algebra needs 2 items"),
    "a scale without an origin": (POLICY.replace(rooms.SCALE, "other"), "other"),
    "ability from before the month": (POLICY + "start: theta-now\n", "--set assignment=by_level`"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_policy_that_cannot_be_met_is_refused(typed: Irt, tmp_path: Path, text: str, reason: str) -> None:
    refused = typed("tests", "set", written(tmp_path, text), *SIGNED, "--yes")
    assert (refused.code, reason in refused.err) == (2, True), refused.err
    assert typed("tests", "list", "--json").json == []


def test_test_may_start_at_theta_of_now_on_a_scale_fitted_by_level(exam: Database, typed: Irt, tmp_path: Path) -> None:
    change_rules(exam, rooms.SCALE, {"assignment": "by_level"})
    done = typed("tests", "set", written(tmp_path, POLICY + "start: theta-now\n"), *SIGNED, "--yes")
    assert done.code == 0, done.err


FORMS = "form_id,item_id,position\nplacement,i1,1\n"


def test_form_with_the_name_of_an_adaptive_test_is_refused(typed: Irt, exam: Database, tmp_path: Path) -> None:
    assert typed("tests", "set", written(tmp_path, POLICY), *SIGNED, "--yes").code == 0
    file = tmp_path / "forms.csv"
    file.write_text(FORMS, "utf-8")
    for options in ((), ("--dry-run",)):
        refused = typed("import", "forms", file, *options)
        assert (refused.code, "placement is an adaptive test; give the form another name" in refused.err) == (2, True)
    typed("tests", "undo", "placement", *SIGNED, "--yes")
    assert typed("import", "forms", file).code == 2, "its sessions stay"
    assert rooms.rows(exam, "SELECT form_id FROM form") == [("F1",)]


def test_form_and_test_of_one_name_are_not_added_at_once(exam: Database, tmp_path: Path) -> None:
    file = tmp_path / "forms.csv"
    file.write_text(FORMS, "utf-8")
    policy = Policy.from_yaml(POLICY)
    with ThreadPoolExecutor(1) as thread, exam.connect() as first:
        lock_form_names(first)
        importing = thread.submit(import_forms, exam, file)
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        while not (importing.done() or first.execute(waiting).fetchone() == (True,)):
            time.sleep(0.01)
        first.execute(
            """INSERT INTO adaptive_test (test_id, scale_id, policy, effective_from, decided_by, reason, decision_id)
               VALUES ('placement', %s, '{}', now(), 'Ann', 'new', 1)""",
            (policy.scale,),
        )
        first.commit()
        with pytest.raises(PermanentFailure, match="placement is an adaptive test"):
            importing.result()
    with pytest.raises(PermanentFailure, match="F1 is a form with fixed items"):
        set_policy(exam, policy.model_copy(update={"test": "F1"}), by="Ann", reason="new")


def test_names_that_clash_already_are_listed(exam: Database, typed: Irt) -> None:
    rooms.run_sql(
        exam,
        """INSERT INTO adaptive_test (test_id, scale_id, policy, effective_from, decided_by, reason, decision_id)
           VALUES ('F1', 'default', '{}', now(), 'Ann', 'from before', 1)""",
    )
    assert "both forms and adaptive tests: F1" in typed("doctor").out
    with exam.connect() as connection:
        context = InvariantContext(connection, rooms.folder_store(exam.settings), datetime.now(UTC), ())
        found = [*forms_and_adaptive_tests_have_different_names.find(context)]
    assert [violation.subject for violation in found if isinstance(violation, Violation)] == ["F1"]
