"""Whatever a file holds, it is counted or refused with a sentence: never a traceback, never a miscount."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from irt_assets.file_commands import files, fit, link, score
from irt_assets.file_commands import tables as parameters
from irt_assets.intake.bank import LEARNERS, QUESTIONS, read_rows
from irt_assets.intake.clean import Limits
from irt_assets.intake.mapping import load_mapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, csv_of_refused, unseen
from irt_assets.intake.staging import copy_rows
from irt_assets.intake.take import AnswerSource
from irt_assets.psychometrics.core.errors import PsychometricsError
from resources.failures import PermanentFailure
from tests.unit.fuzzed_files import KINDS, ODD, File, damage, damaged, odd, tables, typed_parquet, written

MICROS = 1_000_000
LIMITS = Limits(1_780_272_000 * MICROS, 1_795_176_000 * MICROS, "UTC")  # June to November 2026
TIMES = ["2026-07-01T12:00:00Z", "2026-07-01 12:00:00.5", "1782907200", "1782907200000"]


def fuzzed(files_of_each: int, drawn: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """A test of so many files each time, always the same ones, and of ten times as many new ones in the long tier."""
    common: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    common["phases"] = set(Phase) - {Phase.explain}
    lengths = {
        "quick": settings(max_examples=files_of_each, derandomize=True, database=None, **common),
        "thorough": settings(max_examples=10 * files_of_each, derandomize=False, **common),
    }

    def mark(test: Callable[[Any], None]) -> Callable[[str], None]:
        @pytest.mark.parametrize("length", ["quick", pytest.param("thorough", marks=pytest.mark.long)])
        def of_length(length: str) -> None:
            def one(drawn_: Any) -> None:
                test(drawn_)

            lengths[length](given(drawn_=drawn)(one))()

        return of_length

    return mark


def outcome(read: Callable[[Path], Any], content: bytes) -> Any:
    """What comes of a file; None where it is refused with a sentence that speaks of it and not of Python."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given"
        path.write_bytes(content)
        try:
            return read(path)
        except (PermanentFailure, PsychometricsError) as error:
            said = str(error)
            assert len(said) > 10, said
            assert not any(word in said for word in ("Traceback", "Counter(", "<class", "object at 0x")), said
            return None


def check_counts(report: ImportReport | None, file: File, answers: int = 0) -> None:
    """Each row of the file is accepted or rejected for a reason."""
    if report is None:
        return
    assert report.read == answers + report.rejected.total()
    assert file.rows in (None, report.read)


def read_log(path: Path, mapping: str | Path = "auto") -> tuple[ImportReport, int]:
    """An import of answers as far as the database."""
    report = ImportReport()
    accepted = 0
    written = path.with_suffix(".rejected.csv")
    with csv_of_refused(written) as reject:
        for _, answers in AnswerSource(open_source(path), load_mapping(mapping), None).answers(LIMITS, report, reject):
            accepted += answers.num_rows
            answers.validate(full=True)
            copy_rows(answers)
    written.read_text("utf-8")
    return report, accepted


def is_points(text: str) -> bool:
    """A second one would have the whole file refused."""
    try:
        return 1 < float(text) < math.inf
    except ValueError:
        return False


LOG = {
    "user_id": st.sampled_from(["ann", "bob", "", "7"]) | odd,
    "item_id": st.sampled_from(["q1", "q2"]) | odd,
    "completed_at": st.sampled_from(TIMES) | odd,
    "correct": st.sampled_from(["1", "0", "true", ""]) | odd.filter(lambda text: not is_points(text)),
    "response": odd,
    "response_time_ms": st.sampled_from(["500", ""]) | odd,
    "started_at": st.sampled_from(["", *TIMES]) | odd,
    "session_id": odd,
}
SOUND_LOG = {"user_id": ["a", "b"], "item_id": ["q", "r"], "completed_at": TIMES[:1] * 2, "correct": ["1", "0"]}
SOUND_LOG |= {"started_at": TIMES[:1] * 2, "session_id": ["s", "s"], "response": ["A", "B"]}


@fuzzed(60, tables(LOG) | typed_parquet(SOUND_LOG))
def test_a_log_is_counted_or_refused(file: File) -> None:
    found = outcome(read_log, file.content)
    if found is not None:
        check_counts(found[0], file, found[1])


def test_a_sound_log_is_counted_to_the_row() -> None:
    """That a file is read at all, the fuzzer does not show."""
    scores = [text for text in ODD if not is_points(text)]
    sound = {"user_id": "a", "completed_at": TIMES[0]}
    rows = [sound | {"item_id": f"q{n}", "correct": text} for n, text in enumerate(scores)]
    for kind in KINDS:
        report, accepted = outcome(read_log, written(kind, rows))
        assert (report.read, accepted) == (len(scores), 6), kind  # "", " ", "0", "1", "1.0", "true"


BANK = {
    "item_id": st.sampled_from(["q1", "q2", "q3", "q4"]) | odd,
    "topic_id": odd,
    "a": st.sampled_from(["1", "", "0.5"]) | odd,
    "b": st.sampled_from(["0", "", "-1"]) | odd,
    "tags": st.sampled_from(["anchor", "", "anchor;retired", '["anchor"]', '[["a"]]', "[1]"]) | odd,
    "meta": st.sampled_from(["", "{}", '{"irt": {"a": 1, "b": 0}}', '{"irt": 7}', '{"tags": {"a": 1}}']) | odd,
}
PEOPLE = {
    "user_id": st.sampled_from(["ann", "bob"]) | odd,
    "lang": odd,
    "attributes": st.sampled_from(["", "{}", '{"x": 1}']) | odd,
    "is_test": st.sampled_from(["", "true", "0"]) | odd,
    "target_theta": st.sampled_from(["", "1.5"]) | odd,
}
SOUND_BANK = {"item_id": ["q1", "q2"], "topic_id": ["t", "u"], "a": [1.0, 1.2], "b": [0.0, 0.3], "n": [500, 600]}
SOUND_PEOPLE = {"user_id": ["ann", "bob"], "lang": ["de", "en"], "is_test": [True, False]}


@fuzzed(
    40,
    st.one_of(
        st.tuples(st.just(QUESTIONS), tables(BANK) | typed_parquet(SOUND_BANK)),
        st.tuples(st.just(LEARNERS), tables(PEOPLE) | typed_parquet(SOUND_PEOPLE)),
    ),
)
def test_a_bank_and_a_list_of_learners_are_counted_or_refused(given_: tuple[Any, File]) -> None:
    kind, file = given_

    def read(path: Path) -> ImportReport:
        report = ImportReport()
        rows = read_rows(open_source(path), "auto", kind, report, unseen)
        assert len(rows) <= report.read - report.rejected.total()
        for row in rows:
            for cell in row:
                text = json.dumps(cell.obj, allow_nan=False, ensure_ascii=False) if hasattr(cell, "obj") else str(cell)
                assert "\0" not in text.encode().decode()
        return report

    report = outcome(read, file.content)
    if report is not None:
        assert file.rows in (None, report.read)


MAPPING = b"""
columns: {user_id: who, item_id: [unit, question], completed_at: when, correct: verdict}
values: {correct: {right: true, wrong: false, skipped: null}}
constants: {mode: sandbox}
null_values: ["-"]
units: {response_time_ms: s}
time: {zone: Asia/Seoul, format: "%d.%m.%Y %H:%M"}
skip_rows_where: {kind: [intro, ""]}
"""
MAPPED = (
    b"who,unit,question,when,verdict,kind\nann,u,q,01.07.2026 12:00,right,task\nbob,u,q,2026-07-01T12:00Z,-,intro\n"
)


@fuzzed(40, st.lists(damage, min_size=1, max_size=2))
def test_a_mapping_file_is_followed_or_refused(how: list[tuple[str, float, int, bytes]]) -> None:
    def read(path: Path) -> tuple[ImportReport, int]:
        log = path.with_name("log.csv")
        log.write_bytes(MAPPED)
        return read_log(log, path)

    found = outcome(read, damaged(MAPPING, how))
    if found is not None:
        check_counts(found[0], File("csv", MAPPED, 2), found[1])


PERSONS = {"person": st.sampled_from(["p1", "p2", "p3", ""]) | odd} | {
    f"i{n}": st.sampled_from(["0", "1", "1", "0", ""]) | odd for n in range(3)
}
ANSWERS = {
    "person": st.sampled_from([f"p{n}" for n in range(6)]),
    "item": st.sampled_from(["i0", "i1", "i2"]),
    "score": st.sampled_from(["0", "1"]) | odd,
}
SCORED = {f"i{n}": st.sampled_from(["0", "1"]) for n in range(4)}
FITTED: dict[str, Any] = {
    "model": "2pl",
    "items": [{"item": f"i{n}", "a": 1.0 + n / 4, "b": n - 1, "c": 0.0, "a_se": 0.1, "b_se": 0.1} for n in range(3)],
    "latent": {"mean": 0.0, "sd": 1.0},
}
TABLE = {
    "item": st.sampled_from(["i0", "i1", "i2", "i3"]),
    "a": st.sampled_from(["1", "0.8", "1.7"]) | odd,
    "b": st.sampled_from(["0", "-1", "1.5"]) | odd,
    "b_se": st.sampled_from(["0.1", ""]) | odd,
}
fitted = st.builds(
    lambda how: File("json", damaged(json.dumps(FITTED).encode(), how)), st.lists(damage, min_size=0, max_size=2)
)
given_answers = tables(PERSONS) | tables(ANSWERS) | tables(SCORED, most=30)
given_parameters = fitted | tables(TABLE, most=4)


@fuzzed(
    60,
    st.one_of(
        st.tuples(st.just("fit"), given_answers, st.none()),
        st.tuples(st.just("score"), given_answers, given_parameters),
        st.tuples(st.just("link"), given_parameters, given_parameters),
    ),
)
def test_the_desk_answers_or_refuses(given_: tuple[str, File, File | None]) -> None:
    command, first, second = given_

    def run(path: Path) -> Any:
        other = path.with_name("other")
        other.write_bytes(second.content if second else b"")
        if command == "link":
            return link.link(parameters.read_parameters(path), parameters.read_parameters(other)).as_dict()
        answers = files.read_answers(path)
        if command == "score":
            return score.score(answers, parameters.read_parameters(other)).as_dict()
        return fit.fit(answers).as_dict()

    found = outcome(run, first.content)
    json.dumps(found, allow_nan=False).encode()
