"""Forms assembled from a blueprint: drafts, their release and its undo, and items that no form may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from irt_assets.adaptive import forms
from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import FormDraft, assemble_forms, plan_release, read_drafts, release_forms, store_drafts
from irt_assets.item_analysis.forms import import_forms, read_forms as read_known_forms
from irt_assets.scores.releases import release_table
from irt_psychometrics import PsychometricsError
from irt_psychometrics.assembly import InfeasibleError
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.decided import WITHDRAWN
from tests.helpers.rooms import SCALE, call, rows, run_sql
from tests.helpers.score_world import MONTH, NOW, SIGNED, analyse, build_exam, item_values, make_tables, sit
from tests.helpers.typed import Irt, IrtOf

RULES = f"""
name: mock
scale: {SCALE}
forms: 2
length: {{max: 8}}
objective: {{kind: maximin, theta: [-1, 0, 1]}}
topics:
  algebra: {{min: 4, max: 4}}
columns:
  words: {{max: 400}}
enemies:
  - [i1, i2]
"""
TOPICS = {f"i{k}": "algebra" if k % 2 else "geometry" for k in range(1, 31)}
WORDS = {f"i{k}": 30 + 2 * k for k in range(1, 31)}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Database:
    """A bank of 30 items in two topics, with words; 40 learners sat F1."""
    build_exam(database, tmp_path / "exam", learners=40, forms={"F1": range(1, 21)})
    for item, topic in TOPICS.items():
        words = json.dumps({"words": WORDS[item]})
        run_sql(
            database,
            "UPDATE question SET topic_id = %s, meta = meta || %s::jsonb WHERE item_id = %s",
            (topic, words, item),
        )
    return database


def plan(database: Database, more: str = "", **replaced: str) -> list[FormDraft]:
    rules = RULES + more
    for old, new in replaced.items():
        rules = rules.replace(old, new)
    return call(database, assemble_forms, Blueprint.from_yaml(rules), NOW)


def report_leak(database: Database, item: str) -> None:
    columns = "scale_id, item_id, kind, severity, opened_month"
    run_sql(database, f"INSERT INTO drift_alerts ({columns}) VALUES (%s, %s, 'leak', 'high', %s)", (SCALE, item, MONTH))


def withdraw(database: Database, item: str) -> None:
    """Withdraw an item, although it is an anchor, as all items of this bank are."""
    run_sql(database, WITHDRAWN, (item, "2026-01-01"))


def stored_forms(database: Database) -> dict[str, list[str]]:
    known = call(database, read_known_forms)
    return {name: own["item_id"].tolist() for name, own in known[known["source"] == "assembled"].groupby("form_id")}


def test_two_parallel_forms_meet_the_blueprint(world: Database) -> None:
    drafts = plan(world)
    assert [draft.form_id for draft in drafts] == ["mock-1", "mock-2"]
    for draft in drafts:
        assert (len(draft.items), sum(TOPICS[item] == "algebra" for item in draft.items)) == (8, 4)
        assert sum(WORDS[item] for item in draft.items) <= 400
        assert not {"i1", "i2"} <= {*draft.items}
        assert draft.reached is not None
        assert 0.93 <= draft.reached <= 1
    assert not {*drafts[0].items} & {*drafts[1].items}


def test_information_of_a_draft_is_the_sum_over_its_items(world: Database) -> None:
    """The errors of the items are small, so the mean over true banks is near the information of the estimates."""
    for draft in plan(world):
        values = [item_values()[item] for item in draft.items]
        a, b = (np.array([own[name] for own in values]) for name in ("a", "b"))
        theta, low, mean, high = np.array(draft.curve).T
        p = 1 / (1 + np.exp(-a * (theta[:, None] - b)))
        np.testing.assert_allclose(mean, (a**2 * p * (1 - p)).sum(axis=1), rtol=0.03)
        assert ((low < mean) & (mean < high)).all()


def test_enemies_that_items_list_are_never_in_one_form(world: Database) -> None:
    [first, *_] = plan(world)
    a, b, *_ = first.items
    enemies = "UPDATE question SET meta = meta || %s::jsonb WHERE item_id = %s"
    run_sql(world, enemies, (json.dumps({"enemies": [b]}), a))
    assert not any({*draft.items} >= {a, b} for draft in plan(world))
    with pytest.raises(InfeasibleError, match=f"enemies {', '.join(sorted((a, b)))}"):
        plan(world, f"uses: {{max: 2}}\nincluded: [{a}, {b}]\n")


def test_draft_is_no_form_until_it_is_released(world: Database) -> None:
    store_drafts(world, plan(world), **SIGNED)
    assert stored_forms(world) == {}
    assert {name: form.state for name, form in call(world, read_drafts).items()} == {
        "mock-1": "draft",
        "mock-2": "draft",
    }
    assert {*make_tables(world)} == {"F1"}
    release_forms(world, ["mock-1"], **SIGNED, at=NOW)
    drafts = call(world, read_drafts)
    assert stored_forms(world) == {"mock-1": [*drafts["mock-1"].items]}
    assert (drafts["mock-1"].state, drafts["mock-2"].state) == ("released", "draft")
    table = make_tables(world)["mock-1"]
    assert {*table.spec["items"]} == {*drafts["mock-1"].items}


def test_release_is_undone_while_nobody_has_answered(world: Database, tmp_path: Path) -> None:
    store_drafts(world, plan(world), **SIGNED)
    release_forms(world, ["mock-1", "mock-2"], **SIGNED, at=NOW)
    make_tables(world)
    release_table(world, SCALE, "mock-1", **SIGNED)
    with pytest.raises(PermanentFailure, match="released score table"):
        release_forms(world, ["mock-1"], undo=True, **SIGNED, at=NOW)
    release_table(world, SCALE, "mock-1", undo=True, **SIGNED)
    release_forms(world, ["mock-1"], undo=True, **SIGNED, at=NOW)
    assert {*stored_forms(world)} == {"mock-2"}
    assert call(world, read_drafts)["mock-1"].state == "draft"
    places = [int(item[1:]) for item in stored_forms(world)["mock-2"]]
    sit(world, "mock-2", places, ["u1", "u2"])
    with pytest.raises(PermanentFailure, match="form mock-2 has answers"):
        release_forms(world, ["mock-2"], undo=True, **SIGNED, at=NOW)
    before = stored_forms(world)["mock-2"]
    analyse(world, tmp_path)
    assert stored_forms(world)["mock-2"] == before, "the log replaces no assembled form"


def test_leaked_withdrawn_and_exposed_items_are_in_no_form(world: Database) -> None:
    best = [item for draft in plan(world) for item in draft.items]
    leaked, withdrawn = best[:2]
    report_leak(world, leaked)
    withdraw(world, withdrawn)
    drafts = plan(world, "excluded: [i3]\n", **{"max: 400": "max: 600"})
    assert not {leaked, withdrawn, "i3"} & {item for draft in drafts for item in draft.items}
    assert drafts[0].left_out == {"items that may have leaked": (leaked,), "items that the blueprint excludes": ("i3",)}
    smaller = {"forms: 2": "forms: 1", "max: 8": "max: 5", "min: 4, max: 4": "min: 2"}
    [seen] = plan(world, "max_exposure: 0.5\n", **smaller)
    assert {int(item[1:]) for item in seen.items} <= {*range(21, 31)}, "all learners saw the items of F1"


def test_release_is_refused_if_an_item_leaked_after_the_draft(world: Database) -> None:
    store_drafts(world, plan(world), **SIGNED)
    item = call(world, read_drafts)["mock-2"].items[0]
    report_leak(world, item)
    with pytest.raises(PermanentFailure, match=f"form mock-2 has items .*: {item}. Assemble it again"):
        release_forms(world, ["mock-1", "mock-2"], **SIGNED, at=NOW)
    assert stored_forms(world) == {}


def test_anchors_come_from_another_form(world: Database) -> None:
    [draft] = plan(world, "anchors: {n: 3, form: F1}\n", **{"forms: 2": "forms: 1", "max: 400": "max: 600"})
    assert dict(draft.rules)["anchors: 3 items"] == 3
    assert sum(int(item[1:]) <= 20 for item in draft.items) == 3


def test_conflicting_rules_are_named(world: Database) -> None:
    with pytest.raises(InfeasibleError) as raised:
        plan(world, **{"max: 400": "max: 200"})
    assert "sum of words" in str(raised.value)
    assert "enemies" not in str(raised.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("included: [i99]\n", "has no items i99"),
        ("included: [i5]\n", "i5"),
    ],
)
def test_unusable_item_in_a_blueprint_is_named(world: Database, more: str, message: str) -> None:
    withdraw(world, "i5")
    with pytest.raises((PermanentFailure, PsychometricsError), match=message):
        plan(world, more)


def test_names_of_existing_forms_and_stale_reviews_are_refused(world: Database) -> None:
    with pytest.raises(PermanentFailure, match="form F1 exists already"):
        plan(world, **{"name: mock": "name: F1", "forms: 2": "forms: 1"})
    drafts = plan(world)
    store_drafts(world, drafts, **SIGNED)
    seen = call(world, plan_release, ["mock-1"], NOW)
    store_drafts(world, drafts, **SIGNED)
    with pytest.raises(PermanentFailure, match="assembled or released since"):
        release_forms(world, ["mock-1"], **SIGNED, at=NOW, seen=seen)
    release_forms(world, ["mock-1"], **SIGNED, at=NOW)
    with pytest.raises(PermanentFailure, match="is released already"):
        release_forms(world, ["mock-1"], **SIGNED, at=NOW)
    with pytest.raises(PermanentFailure, match="form mock-1 exists already"):
        store_drafts(world, drafts, **SIGNED)
    test = """INSERT INTO adaptive_test (test_id, scale_id, effective_from, decided_by, reason, decision_id)
              VALUES ('mock-2', 'default', now(), 'Ann', 'new', 1)"""
    run_sql(world, test)
    with pytest.raises(PermanentFailure, match="mock-2 is an adaptive test"):
        call(world, plan_release, ["mock-2"], NOW)
    with pytest.raises(PermanentFailure, match="mock-2 is an adaptive test"):
        plan(world)


def test_failure_during_a_release_leaves_the_draft(world: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store_drafts(world, plan(world), **SIGNED)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(forms, "store_forms", die)
        with pytest.raises(KeyboardInterrupt):
            release_forms(world, ["mock-1"], **SIGNED, at=NOW)
    assert (stored_forms(world), call(world, read_drafts)["mock-1"].state) == ({}, "draft")
    release_forms(world, ["mock-1"], **SIGNED, at=NOW)
    assert {*stored_forms(world)} == {"mock-1"}


def test_commands_assemble_show_and_release(world: Database, settings: Settings, irt: IrtOf, tmp_path: Path) -> None:
    typed, file = irt(settings), tmp_path / "mock.yaml"
    file.write_text(RULES)
    assert "form mock-1" in typed("forms", "assemble", str(file), "--dry-run").out.lower()
    assert call(world, read_drafts) == {}
    typed("forms", "assemble", str(file), "--by", "Ann", "--yes")
    assert "mock-2" in typed("forms", "list").out
    draft = call(world, read_drafts)["mock-1"]
    assert all(item in typed("forms", "show", "mock-1").out for item in draft.items)
    for kind in ("csv", "xlsx", "xml"):
        typed("forms", "show", "mock-1", "--to", str(tmp_path / f"mock-1.{kind}"))
    assert pd.read_csv(tmp_path / "mock-1.csv")["item_id"].tolist() == [*draft.items]
    assert import_forms(world, tmp_path / "mock-1.csv", dry_run=True)["item_id"].tolist() == [*draft.items]
    references = ElementTree.parse(tmp_path / "mock-1.xml").findall(".//{*}assessmentItemRef")
    assert [found.get("href") for found in references] == [f"items/{item}.xml" for item in draft.items]
    typed("forms", "release", "mock-1", "--by", "Ann", "--reason", "exam of June", "--yes")
    assert rows(world, "SELECT form_id FROM form WHERE source = 'assembled'") == [("mock-1",)]

    (tmp_path / "form.csv").write_text("form_id,item_id,position\npaper,i3,1\npaper,i1,2\n")
    import_forms(world, tmp_path / "form.csv")
    assert {own["form_id"]: (own["state"], own["items"]) for own in typed("forms", "list", "--json").json} == {
        "mock-1": ("released", 8),
        "mock-2": ("draft", 8),
        "F1": ("imported", 20),
        "paper": ("imported", 2),
    }
    assert "imported" in typed("forms", "list").out
    assert [own["item_id"] for own in typed("forms", "show", "paper", "--json").json["items"]] == ["i3", "i1"]
    assert "Form paper: imported" in typed("forms", "show", "paper").out
    assert "there is no form papr; did you mean paper?" in typed("forms", "show", "papr").err


def test_released_form_has_the_seed_places_of_its_blueprint(
    world: Database, settings: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    typed, file = irt(settings), tmp_path / "mock.yaml"
    file.write_text(RULES + "seed_places: [3, 10]\n")
    printed = typed("forms", "assemble", str(file), "--by", "Ann", "--yes").out
    assert "3 and 10" in printed
    items = [*call(world, read_drafts)["mock-1"].items]
    places = [*items[:2], "", *items[2:], ""]
    for state in ("draft", "released"):
        assert typed("forms", "show", "mock-1").out.count("a new item, by draw") == 2
        require_export_with_places(typed, tmp_path, places)
        if state == "draft":
            typed("forms", "release", "mock-1", "--by", "Ann", "--reason", "exam of June", "--yes")
    stored = dict(rows(world, "SELECT position, item_id FROM form_item WHERE form_id = 'mock-1'"))
    assert stored == {place: item for place, item in enumerate(places, 1) if item}
    seed_places = "SELECT seed_places FROM form ORDER BY form_id DESC LIMIT 1"
    assert rows(world, seed_places) == [([3, 10],)]
    copy = pd.read_csv(tmp_path / "mock-1.csv").assign(form_id="paper")
    copy.to_csv(tmp_path / "paper.csv", index=False)
    import_forms(world, tmp_path / "paper.csv")
    assert rows(world, seed_places) == [([3, 10],)]
    require_export_with_places(typed, tmp_path, places, "paper")


def require_export_with_places(typed: Irt, folder: Path, places: list[str], form: str = "mock-1") -> None:
    """Export a form, and require these items and empty seed places in the table and in the QTI test."""
    for kind in ("csv", "xml"):
        typed("forms", "show", form, "--to", str(folder / f"{form}.{kind}"))
    exported = pd.read_csv(folder / f"{form}.csv", keep_default_na=False)
    assert (exported["item_id"].tolist(), exported["position"].tolist()) == (places, [*range(1, 11)])
    references = ElementTree.parse(folder / f"{form}.xml").findall(".//{*}assessmentItemRef")
    assert [own.get("identifier") for own in references] == [f"item-{k}" for k in (1, 2, 4, 5, 6, 7, 8, 9)]
    assert (folder / f"{form}.xml").read_text().count("a new item that is drawn") == 2


def test_misspelt_topic_with_a_minimum_is_suggested(world: Database) -> None:
    with pytest.raises(PermanentFailure, match=r"no item in use has topic algebr; did you mean topic algebra\?"):
        plan(world, algebra="algebr")
