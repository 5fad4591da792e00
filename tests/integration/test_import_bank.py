"""The bank and the learners: what a file says is stored as given, what it does not say stays."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.intake.arrivals import arrivals, refused_rows
from irt_assets.intake.bank import LEARNERS, QUESTIONS, import_bank_file
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from tests.helpers.rooms import add_attempts, attempt

BANK = """item_id,scale_id,topic_id,testlet_id,tags,a,b,c,a_se,b_se,n,D,model,key
q1,algebra,sums,t1,anchor;old,1.2,-0.3,0.1,0.11,0.08,1000,1.7,3PL,B
q2,,,,,,,,,,,,,
"""


AT = datetime(2026, 3, 5, tzinfo=UTC)
BANK_ROWS = "SELECT item_id, scale_id, topic_id, testlet_id, meta FROM question"


def bank(database: Database) -> dict[str, tuple[Any, ...]]:
    with database.connect() as connection:
        return {row[0]: row[1:] for row in connection.execute(BANK_ROWS).fetchall()}


def learners(database: Database) -> dict[str, tuple[Any, ...]]:
    query = "SELECT user_id, attributes, is_test, target_scale_id, target_theta FROM learner"
    with database.connect() as connection:
        return {row[0]: row[1:] for row in connection.execute(query).fetchall()}


def file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "file.csv"
    path.write_text(content)
    return path


def test_parameters_are_stored_as_given_with_their_metric(database: Database, tmp_path: Path) -> None:
    report = import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    assert (report.read, report.accepted, report.new_items, report.rejected) == (2, 2, 2, {})
    irt = {"a": 1.2, "b": -0.3, "c": 0.1, "a_se": 0.11, "b_se": 0.08, "n": 1000, "D": 1.7, "model": "3pl"}
    assert bank(database) == {
        "q1": ("algebra", "sums", "t1", {"tags": ["anchor", "old"], "irt": irt, "key": "B"}),
        "q2": ("default", None, None, {}),
    }


def test_scored_items_are_read_in_the_form_of_another_program(database: Database, tmp_path: Path) -> None:
    """Tables of mirt, as coef(simplify = TRUE) has it, of PARSCALE with D = 1.7, and ours; D is not converted here."""
    header = "item_id,a1,d,g,ak0,ak1,ak2,d0,d1,d2,max_score"
    content = f"{header}\nm1,1.2,0.6,0,,,,,,,\nm2,0.8,,,0,1,2,0,0.4,-0.8,\nm3,0.8,,,0,1,2,0,0.4,-0.8,3\n"
    import_bank_file(database, QUESTIONS, file(tmp_path, content))
    content = "item_id,slope,location,category1,category2,a_se,D\np,0.5,0.2,0.6,-0.6,0.03,1.7\n"
    import_bank_file(database, QUESTIONS, file(tmp_path, content))
    import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b,max_score,t0,t1,t1_se,t2\no,1,0,2,0,0.3,0.1,0\n"))
    found = {item: row[3]["irt"] for item, row in bank(database).items()}
    assert found["m1"] == pytest.approx({"a": 1.2, "b": -0.5})
    scored = {"a": 0.8, "b": 0.5, "max_score": 2, "t0": 0.0, "t1": 0.8, "t2": 0.0}
    assert found["m2"] == pytest.approx(scored)
    assert found["m3"] == pytest.approx(scored | {"max_score": 3})
    t = {"t0": 0.0, "t1": 0.3, "t2": 0.0}
    assert found["p"] == pytest.approx({"a": 0.5, "b": 0.2, "a_se": 0.03, "D": 1.7, "max_score": 2} | t)
    assert found["o"] == pytest.approx({"a": 1.0, "b": 0.0, "max_score": 2, "t1_se": 0.1} | t)
    wrong = f"{header}\nm1,0.8,,,0,1,,0,,-0.8,\nm2,0.8,,,0,1,2,0,0.4,-0.8,1\nm4,1,0,0,,,,,,,\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, wrong))
    assert report.rejected == {"incomplete_parameters": 1, "bad_max_score": 1}


def test_parameters_of_a_model_that_is_not_here_are_refused_by_name(database: Database, tmp_path: Path) -> None:
    """`d` and `u` were listed as read, and dropped."""
    refused: list[tuple[str, ...]] = []
    content = "item_id,a,b,g,d,u,a2,model\nq1,1,0,0.2,0.9,,,\nq2,1,0,,,0.9,,\nq3,1,0,,,,0.4,\nq4,1,0,0.2,1,1,0,\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, content), reject=refused.extend)
    assert (report.accepted, report.rejected) == (1, {"bad_model": 3})
    assert [row[3].partition(" is ")[0] for row in refused] == ["d = 0.9", "u = 0.9", "a2 = 0.4"]
    assert bank(database)["q4"][3]["irt"] == {"a": 1.0, "b": 0.0, "c": 0.2}
    steps = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b1,b2\ns,1,-1,1\n"))
    assert any("a column model with gpcm, pcm, rsm or graded" in note for note in steps.notes)
    named = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b1,b2,model\ns,1,-1,1,gpcm\n"))
    assert not any("graded" in note for note in named.notes)


def test_the_same_bank_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    before = bank(database)
    report = import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    assert (report.accepted, report.duplicates, report.new_items) == (0, 2, 0)
    assert bank(database) == before


def test_empty_cells_and_absent_columns_leave_what_is_there(database: Database, tmp_path: Path) -> None:
    import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    later = file(tmp_path, "item_id,topic_id,key,tags\nq1,,C,\nq2,fractions,,\n")
    report = import_bank_file(database, QUESTIONS, later)
    assert (report.accepted, report.new_items) == (2, 0)
    after = bank(database)
    assert after["q1"][:3] == ("algebra", "sums", "t1")
    assert (after["q1"][3]["key"], after["q1"][3]["tags"], after["q1"][3]["irt"]["a"]) == ("C", ["anchor", "old"], 1.2)
    assert after["q2"][1] == "fractions"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("q,nan,0,,", "bad_number"),
        ("q,steep,0,,", "bad_number"),
        ("q,1,0,1.2,", "bad_number"),
        ("q,1,,,", "incomplete_parameters"),
        ("q,1,0,,5pl", "bad_model"),
        ("q,,,,gpcm,2.5", "bad_max_score"),
        ("q,,,,,21", "bad_max_score"),
        ("q,1,0,.2,3pl,4", "bad_model"),
        (",1,0,,", "missing_item"),
        ("x" * 2501 + ",1,0,,", "id_too_long"),
    ],
)
def test_an_item_that_cannot_be_is_refused_with_its_line(
    database: Database, tmp_path: Path, row: str, reason: str
) -> None:
    row += "," * (5 - row.count(","))
    content = file(tmp_path, f"item_id,a,b,c,model,max_score\n{row}\nok,1,0,,,\n")
    report = import_bank_file(database, QUESTIONS, content)
    assert (report.accepted, report.rejected) == (1, {reason: 1})
    with database.connect() as connection:
        refused = [(one.source, one.line, one.reason, one.row) for one in refused_rows(connection)]
        assert refused == [(str(content), 2, reason, row)]
        [arrived] = arrivals(connection, 9)
    assert (arrived["kind"], arrived["accepted"], arrived["rejected"]) == ("question", 1, 1)


def test_a_maximum_score_stays_beside_new_parameters_and_says_what_old_answers_are(
    database: Database, tmp_path: Path
) -> None:
    import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score,model\nq,3,gpcm\n"))
    for content in ("item_id,a,b\nq,1,0\n", "item_id,max_score\nq,4\n"):
        import_bank_file(database, QUESTIONS, file(tmp_path, content))
    assert bank(database)["q"][3] == {"irt": {"max_score": 4, "a": 1.0, "b": 0.0}}
    add_attempts(
        database,
        [attempt("u", "q", AT, correct=right, score=n) for right, n in ((False, 3), (True, 4), (True, None))],
    )
    with pytest.raises(PermanentFailure, match="item q has an answer with the score 4"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,3\n"))
    report = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,5\n"))
    assert any("q (4 → 5); 1 answers have full credit or lose it" in note for note in report.notes)
    assert any("1 answers to these items have no score" in note for note in report.notes)
    with database.connect() as connection:
        log = connection.execute("SELECT score, correct FROM response_log ORDER BY score").fetchall()
        former = connection.execute("SELECT score, correct, reason FROM attempt_correction").fetchall()
    assert log == [(3, False), (4, False), (None, True)]
    assert former == [(4, True, "the maximum score is 5")]
    with database.connect() as connection:
        connection.execute(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES ('default', 'q', '{"a": 1, "b": 0, "c": 0}', now(), 'origin', 'made up', '', '')"""
        )
    with pytest.raises(PermanentFailure, match="published is q"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,6\n"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("q,,rsm,", "an rsm shares the steps of a block"),
        ("q,2,pcm,likert", "only the items of an rsm have a block"),
        ("q,2,rsm,likert\np,3,rsm,likert", "the block likert has"),
    ],
)
def test_a_bank_that_contradicts_itself_is_refused(database: Database, tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(PermanentFailure, match=message):
        import_bank_file(database, QUESTIONS, file(tmp_path, f"item_id,max_score,model,block\n{rows}\n"))
    assert not bank(database)


def test_an_item_that_comes_twice_must_be_the_same(database: Database, tmp_path: Path) -> None:
    content = "item_id,key\nq,A\nq,A\nq,B\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, content))
    assert (report.accepted, report.duplicates, report.rejected) == (1, 1, {"conflicting_duplicate": 1})
    assert bank(database)["q"][3] == {"key": "A"}


def test_json_lines_bring_lists_and_numbers(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text(json.dumps({"item_id": "q", "tags": ["anchor", "x;y"], "a": 1, "b": 0.5, "D": 1}))
    import_bank_file(database, QUESTIONS, path)
    assert bank(database)["q"][3] == {"tags": ["anchor", "x;y"], "irt": {"a": 1.0, "b": 0.5, "D": 1.0}}


def test_a_mapping_file_names_the_columns(database: Database, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {item_id: Frage, topic_id: Thema}\nconstants: {scale_id: mathe}")
    import_bank_file(database, QUESTIONS, file(tmp_path, "Frage,Thema\n1,Brüche\n"), mapping=mapping)
    assert bank(database) == {"1": ("mathe", "Brüche", None, {})}
    with pytest.raises(PermanentFailure, match="Columns of the file: Frage, Text"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "Frage,Text\n1,x\n"))


def test_other_columns_of_a_learner_are_attributes(database: Database, tmp_path: Path) -> None:
    content = "user_id,is_test,lang,target_scale_id,target_theta,tier\nann,,de,algebra,1.5,\nbob,true,,,,gold\n"
    report = import_bank_file(database, LEARNERS, file(tmp_path, content))
    assert (report.accepted, report.new_learners) == (2, 2)
    assert learners(database) == {
        "ann": ({"lang": "de"}, False, "algebra", 1.5),
        "bob": ({"tier": "gold"}, True, None, None),
    }
    later = import_bank_file(database, LEARNERS, file(tmp_path, "user_id,lang,is_test\nann,fr,\nbob,en,\n"))
    assert (later.accepted, later.new_learners) == (2, 0)
    assert learners(database)["ann"] == ({"lang": "fr"}, False, "algebra", 1.5)
    assert learners(database)["bob"] == ({"tier": "gold", "lang": "en"}, True, None, None)


def test_with_a_mapping_only_named_columns_are_attributes(database: Database, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: person, sex: gender}")
    content = "person,gender,item_1,item_2\np1,female,1,0\n"
    import_bank_file(database, LEARNERS, file(tmp_path, content), mapping=mapping)
    assert learners(database) == {"p1": ({"sex": "female"}, False, None, None)}


@pytest.mark.parametrize(
    ("row", "reason"), [(",true,", "missing_user"), ("u,maybe,", "bad_is_test"), ("u,,x", "bad_number")]
)
def test_a_learner_that_cannot_be_is_refused(database: Database, tmp_path: Path, row: str, reason: str) -> None:
    report = import_bank_file(database, LEARNERS, file(tmp_path, f"user_id,is_test,target_theta\n{row}\n"))
    assert (report.accepted, report.rejected) == (0, {reason: 1})


def test_what_the_database_cannot_hold_is_refused_by_row(database: Database, tmp_path: Path) -> None:
    """Each of these ended the import in the database's own error, or in a traceback."""
    refused = {
        '{"user_id": "ann", "attributes": "{\\"x\\": NaN}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": 1e999}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": {"x": "a\\u0000b"}}': "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": \\"\\\\ud800\\"}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": ' + '{"x": ' * 101 + "1" + "}" * 102: "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": 1, \\"x\\": 2}"}': "bad_attributes",
        '{"user_id": "ann", "lang": "a\\u0000b"}': "bad_character",
        '{"user_id": "ann", "' + "x" * 601 + '": 1}': "id_too_long",
        '{"user_id": "ann", "target_scale_id": "' + "x" * 601 + '"}': "id_too_long",
        '{"user_id": "ann", "target_theta": "1_0"}': "bad_number",
    }
    sound = '{"user_id": "bob", "lang": "\\\\u0000", "attributes": {"deep": ' + "[" * 90 + "]" * 90 + "}}"
    path = tmp_path / "learners.jsonl"
    path.write_text("\n".join([*refused, sound]))
    report = import_bank_file(database, LEARNERS, path)
    assert (report.read, report.accepted, report.rejected) == (11, 1, Counter(refused.values()))
    assert learners(database)["bob"][0]["lang"] == "\\u0000"


def test_a_learner_with_the_number_nought_is_one(database: Database, tmp_path: Path) -> None:
    """In a column of numbers, rows of nothing but noughts were taken for empty lines."""
    pq.write_table(pa.table({"user_id": [0, 1], "is_test": [False, False]}), tmp_path / "learners.parquet")
    assert import_bank_file(database, LEARNERS, tmp_path / "learners.parquet").accepted == 2


def test_a_dry_run_leaves_nothing(database: Database, tmp_path: Path) -> None:
    assert import_bank_file(database, QUESTIONS, file(tmp_path, BANK), dry_run=True).accepted == 2
    assert bank(database) == {}
