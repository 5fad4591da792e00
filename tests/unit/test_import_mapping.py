"""A header finds its mapping, or an error that says how to write one."""

from __future__ import annotations

from pathlib import Path

import pytest

from irt_assets.intake.mapping import bind_attempts, load_mapping, presets
from resources.failures import PermanentFailure
from tests.helpers.sentences import unsaid

OWN = ["attempt_id", "user_id", "item_id", "completed_at", "correct", "mode"]


def mapping_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return path


def test_every_preset_has_a_sentence() -> None:
    assert set(presets()) == {"own", "datashop", "assistments", "wide"}
    assert all(len(sentence.split()) > 5 for sentence in presets().values())


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (OWN, "own"),
        (["user_id", "item_id", "answered_at", "correct", "phase"], "own"),
        (["Row", "Anon Student Id", "Time", "Time Zone", "Outcome", "Problem Name", "Step Name"], "datashop"),
        (["order_id", "user_id", "problem_id", "correct", "skill_name"], "assistments"),
        (["person", "item_1", "item_2"], "wide"),
        (["", "V1", "V2"], "wide"),  # a matrix from R with its row names
    ],
)
def test_a_header_is_recognised(columns: list[str], name: str) -> None:
    assert bind_attempts(None, "log.csv", columns).mapping.name == name


def test_a_header_of_two_presets_is_not_guessed_at() -> None:
    with pytest.raises(PermanentFailure, match="own and assistments both fit; choose one with --mapping"):
        bind_attempts(None, "log.csv", [*OWN, "order_id", "problem_id"])


def test_an_unknown_header_is_answered_with_all_one_needs_to_write_a_mapping() -> None:
    with pytest.raises(PermanentFailure) as caught:
        bind_attempts(None, "log.csv", ["learner_name", "item_id", "points"])
    columns = "Columns of the file: learner_name, item_id, points"
    absent = "not there under our names: user_id, correct"
    assert unsaid(str(caught.value), "log.csv", columns, absent, "--mapping", *presets()) == []


def test_a_list_with_a_column_id_is_no_matrix() -> None:
    """The Item Response Warehouse's columns were read as a matrix of answers, and --at was asked for."""
    with pytest.raises(PermanentFailure, match=r"it looks like a list \(item and resp\)") as caught:
        bind_attempts(None, "log.csv", ["id", "item", "resp", "rt", "date"])
    assert 'wide: {items: "item_*"}' in str(caught.value)
    assert bind_attempts(None, "log.csv", ["id", "item", "w2", "w3"]).mapping.name == "wide"


def test_the_example_in_the_error_is_a_mapping_that_works(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure) as caught:
        bind_attempts(None, "log.csv", ["x"])
    lines = str(caught.value).splitlines()
    start = next(n for n, line in enumerate(lines) if line.strip().startswith("columns:"))
    example = "\n".join(line.removeprefix("  ") for line in lines[start:-1])
    binding = bind_attempts(
        load_mapping(mapping_file(tmp_path, example)), "log.csv", ["learner", "question", "answered", "right"]
    )
    assert set(binding.columns) == {"user_id", "item_id", "completed_at", "correct"}


def test_a_mapping_file_must_name_columns_that_are_there(tmp_path: Path) -> None:
    """A misspelt optional column would be dropped in silence."""
    path = mapping_file(tmp_path, "columns: {user_id: u, item_id: q, correct: c, session_id: sesion}")
    with pytest.raises(PermanentFailure, match="names columns it lacks: sesion"):
        bind_attempts(load_mapping(path), "log.csv", ["u", "q", "c", "session"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns: {userid: u, item_id: q, correct: c}", "unknown column 'userid'"),
        ("colums: {user_id: u}", "colums"),
        ("time: {unit: minutes}", "time.unit"),
        ("encoding: utf-16", "utf-16.*extends ASCII"),
        ("encoding: klingon", "klingon.*extends ASCII"),
        ("- a list", "YAML mapping"),
        ("columns: {user_id: [u", "is not YAML"),
        ("columns: {user_id: u, item_id: q, correct: c}\ntime: {zone_column: tz}", "needs tz"),
        ("columns: {user_id: u, item_id: q}", "needs correct"),
        ("columns: {user_id: &a [*a]}", "no aliases"),
        ("description: 2026-13-45", "is not YAML"),
        ('description: "\\ud800"', "is not YAML"),
        ("description: " + "[" * 600, "is not YAML"),
    ],
)
def test_a_mistake_in_a_mapping_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PermanentFailure, match=said):
        bind_attempts(load_mapping(mapping_file(tmp_path, text)), "log.csv", ["u", "q", "c"])


def test_a_mapping_file_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_bytes("columns: {user_id: Schüler}".encode("latin-1"))
    with pytest.raises(PermanentFailure, match="YAML in UTF-8"):
        load_mapping(path)


def test_a_mapping_that_is_no_file_lists_the_presets() -> None:
    with pytest.raises(PermanentFailure, match="own, datashop, assistments, wide"):
        load_mapping("datashoop")


def test_a_constant_stands_for_a_column(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, "columns: {user_id: u, correct: c}\nconstants: {item_id: the-only-one}")
    assert "item_id" not in bind_attempts(load_mapping(path), "log.csv", ["u", "c"]).columns
