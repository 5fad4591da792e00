"""Readers of files: kinds, encodings, rows with their line numbers, refusals, and fuzzed files."""

from __future__ import annotations

import gzip
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from irt_assets.intake import parquet, sources
from irt_assets.intake.bank import LEARNERS, QUESTIONS, read_rows
from irt_assets.intake.clean import Limits
from irt_assets.intake.ingest import AnswerSource
from irt_assets.intake.jsonlines import parse_json
from irt_assets.intake.library_files import FILES
from irt_assets.intake.mapping import Mapping, load_mapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, csv_of_refused, ignore_rows
from irt_assets.intake.sources import BadRow
from irt_assets.intake.staging import copy_rows
from irt_psychometrics import PsychometricsError
from irt_psychometrics.commands import fit as fit_file, link as link_files, score as score_file
from resources.failures import PermanentFailure
from tests.unit.fuzzed_files import KINDS, ODD, File, damage, damage_bytes, odd, tables, typed_parquet, write_rows


def rows(path: Path) -> list[tuple[int, dict]]:
    """Return the rows with their line numbers."""
    found = []
    for batch in open_source(path).batches():
        found += zip(batch.lines.tolist(), batch.rows.to_pylist(), strict=True)
    return found


def bad(path: Path) -> list[BadRow]:
    return [row for batch in open_source(path).batches() for row in batch.bad]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"u,q\nann,1\nbob,2\n", "CSV"),
        (b"u,q\r\nann,1\r\nbob,2\r\n", "CSV"),
        (b"u,q\rann,1\rbob,2\r", "CSV"),
        (b"\xef\xbb\xbfu,q\nann,1\nbob,2", "CSV"),
        (b"u\tq\nann\t1\nbob\t2\n", "TSV"),
        (b"u;q\nann;1\nbob;2\n", "CSV with semicolons"),
        (gzip.compress(b"u,q\nann,1\nbob,2\n", mtime=0), "CSV"),
        (b'{"u": "ann", "q": "1"}\n{"u": "bob", "q": "2"}\n', "JSON lines"),
        (gzip.compress(b'{"u": "ann", "q": 1}\n{"u": "bob", "q": 2}', mtime=0), "JSON lines"),
    ],
)
def test_kind_of_a_file_is_detected_from_its_content(tmp_path: Path, content: bytes, kind: str) -> None:
    path = write(tmp_path / "log.whatever", content)
    assert open_source(path).kind == kind
    first = 1 if kind == "JSON lines" else 2
    assert rows(path) == [(first, {"u": "ann", "q": "1"}), (first + 1, {"u": "bob", "q": "2"})]


def test_gzip_file_has_the_hash_of_its_unpacked_content(tmp_path: Path) -> None:
    content = b"u,q\nann,1\n"
    plain, packed = write(tmp_path / "a", content), write(tmp_path / "b", gzip.compress(content))
    assert open_source(plain).sha256 == open_source(packed).sha256


KOREAN = "학번,문항,정답\n학생0,문항0,1\n학생1,문항1,0\n"


@pytest.mark.parametrize(
    ("encoding", "text", "looks"),
    [
        ("cp949", KOREAN, "cp949 (Korean Windows)"),
        ("cp932", "生徒,もんだい\nさくら,1\n", "cp932 (Japanese Windows)"),
        ("gb18030", "学号,题目\n张三,第一题\n李四,第二题\n", "gb18030 (Chinese Windows)"),
        ("latin-1", "u,q\nJosé,1\nMüller,0\n", "cp1252 (Western European Windows)"),
        ("cp1251", "u,q\nИван,1\nОльга,0", "cp1251 (Cyrillic Windows)"),
        ("cp437", "u,q\n║ann║,1\n", "nor does it look like another known encoding"),
    ],
)
def test_file_that_is_not_utf_8_is_refused_unless_its_encoding_is_given(
    tmp_path: Path, encoding: str, text: str, looks: str
) -> None:
    """Every byte is a character of latin-1, so a CP949 file was once imported with wrong learner ids."""
    path, unicode = write(tmp_path / "log.csv", text.encode(encoding)), write(tmp_path / "utf8.csv", text)
    with pytest.raises(PermanentFailure) as caught:
        open_source(path)
    assert f"log.csv, line {2 if text.startswith('u,q') else 1}: this is not UTF-8" in str(caught.value)
    assert looks in str(caught.value)
    assert open_source(path, encoding).encoding == encoding
    assert open_rows(path, encoding) == open_rows(unicode)


def open_rows(path: Path, encoding: str | None = None) -> list[list[str]]:
    return [list(row.values()) for batch in open_source(path, encoding).batches() for row in batch.rows.to_pylist()]


@pytest.mark.parametrize("before_border", [1, 5])
def test_encoding_is_detected_if_the_first_byte_beyond_ascii_is_in_a_later_block(
    tmp_path: Path, before_border: int
) -> None:
    """An encoding detected from the first block alone would fail in the middle of the file."""
    head = b"u,q\nann," + b"x" * 2**20 + b"\n"
    filled = head + b"b," + b"y" * (sources.BLOCK - len(head) - before_border - 3) + b"\n"
    path = write(tmp_path / "log.csv", filled + "학생,1\n".encode("cp949") * 2)
    with pytest.raises(PermanentFailure, match="line 4: this is not UTF-8; it looks like cp949"):
        open_source(path)
    assert open_rows(path, "cp949")[-1] == ["학생", "1"]


def test_given_encoding_is_used_only_for_files_that_are_not_utf_8(tmp_path: Path) -> None:
    """A key in UTF-8 is read correctly although the encoding for the answers is CP949."""
    assert open_source(write(tmp_path / "utf8.csv", KOREAN), "cp949").encoding == "utf-8"
    path = write(tmp_path / "log.jsonl", '{"학번": "학생0"}\n'.encode("cp949"))
    assert open_source(path, "cp949").columns == ["학번"]
    with pytest.raises(PermanentFailure, match="line 2: this is neither cp949 nor UTF-8"):
        open_source(write(tmp_path / "log.csv", b"u,q\n\xff\xff,1\n"), "cp949")


@pytest.mark.parametrize(
    ("content", "columns", "first"),
    [
        ('id;"a, b, c"\n1;1\n2;0\n', ["id", "a, b, c"], ["1", "1"]),
        ("id\tWhat, why, how?\tB, or C\n1\t1\t0\n", ["id", "What, why, how?", "B, or C"], ["1", "1", "0"]),
        ("id,What; why; how?\n1,1\n2,0\n", ["id", "What; why; how?"], ["1", "1"]),
        ('id,"a; b; c","d\te"\n1,1,0\n', ["id", "a; b; c", "d\te"], ["1", "1", "0"]),
        ('id;"a, ""b"", c\nd"\n1;1\n', ["id", 'a, "b", c\nd'], ["1", "1"]),
        ("sep=;\nid;q1\n1;0,5\n", ["id", "q1"], ["1", "0,5"]),
        ("sep=,\r\nid,q1\r\n1,1\r\n", ["id", "q1"], ["1", "1"]),
        ("a;b\n1;0,5\n2;1,5\n", ["a", "b"], ["1", "0,5"]),
    ],
)
def test_delimiter_is_detected_if_header_texts_contain_other_delimiters(
    tmp_path: Path, content: str, columns: list[str], first: list[str]
) -> None:
    """`id;"a, b, c"` was once read as separated by commas. LimeSurvey, Google and Canvas write the questions' texts
    into the header."""
    path = write(tmp_path / "log.csv", content)
    assert open_source(path).columns == columns
    assert open_rows(path)[0] == first
    assert rows(path)[0][0] == (3 if content.startswith("sep=") else 2)
    assert not bad(path)


def test_repeated_names_in_a_header_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "log.tsv", "KC (Default)\tu\tKC (Default)\nadd\tann\tsubtract\n")
    assert rows(path) == [(2, {"KC (Default)": "add", "u": "ann", "KC (Default) (2)": "subtract"})]


def test_ragged_row_is_reported_and_later_rows_keep_their_line_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "u,q\nann,1\nbob\ncid,3\n\ndan,4,5\neve,5\n")
    assert [line for line, row in rows(path) if row["u"]] == [2, 4, 7]
    assert bad(path) == [
        BadRow(3, "ragged_row", "1 columns, not 2", "bob"),
        BadRow(6, "ragged_row", "3 columns, not 2", "dan,4,5"),
    ]


def test_ragged_last_row_is_reported(tmp_path: Path) -> None:
    assert [row.line for row in bad(write(tmp_path / "log.csv", "u,q\nann,1\nbob"))] == [3]
    assert [row.line for row in bad(write(tmp_path / "only.csv", "u,q\nbob\n"))] == [2]


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "log.csv", "\n  \nu,q\nann,1\n")) == [(4, {"u": "ann", "q": "1"})]


def test_file_that_ends_within_a_character_is_refused_as_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="line 3: this is not UTF-8"):
        open_source(write(tmp_path / "log.csv", b"u,q\nJos\xc3\xa9,1\nx,\xc3"))


@pytest.mark.parametrize("content", ["u,q\n", "u,q", "u,q\r\n"])
def test_file_with_only_a_header_has_no_rows(tmp_path: Path, content: str) -> None:
    assert rows(write(tmp_path / "log.csv", content)) == []


def test_quoted_cells_may_contain_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", 'u,q\n"a,""b""\nc",1\n')
    assert rows(path) == [(2, {"u": 'a,"b"\nc', "q": "1"})]


def test_json_lines_of_mixed_types_and_missing_keys_are_read(tmp_path: Path) -> None:
    lines = ['{"u": "ann", "q": 1}', '{"u": 7, "q": "2", "more": [1]}', "", "{broken", '{"u": "2026-07-01", "q": null}']
    path = write(tmp_path / "log.jsonl", "\n".join(lines))
    assert [(line, row["u"], row["q"]) for line, row in rows(path)] == [
        (1, "ann", "1"),
        (2, "7", "2"),
        (5, "2026-07-01", None),
    ]
    assert [(row.line, row.reason) for row in bad(path)] == [(4, "bad_json")]


def test_json_text_that_resembles_a_time_is_read_as_text(tmp_path: Path) -> None:
    """Type inference would make "2026-07-01" a timestamp and write it back as a different text."""
    path = write(tmp_path / "log.jsonl", '{"u": "2026-07-01", "q": 1}\n{"u": "2026-07-02", "q": 2}\n')
    assert [row["u"] for _, row in rows(path)] == ["2026-07-01", "2026-07-02"]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK", 2**16)


@pytest.mark.usefixtures("small_blocks")
def test_json_lines_keep_their_line_numbers_across_blocks(tmp_path: Path) -> None:
    filler = "x" * (sources.BLOCK // 30)
    content = "".join(json.dumps({"u": filler, "n": n if n % 7 else str(n)}) + "\n" for n in range(1, 101))
    found = rows(write(tmp_path / "log.jsonl", content))
    assert [line for line, _ in found] == [int(row["n"]) for _, row in found] == list(range(1, 101))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("flat", [True, False])
def test_key_that_first_occurs_late_in_a_file_becomes_a_column(tmp_path: Path, flat: bool) -> None:
    """Columns were once read from the first MiB alone, so answers with a late `"mode": "sandbox"` were imported as
    live."""
    early = json.dumps({"u": "a" * 2**17, "q": 1 if flat else [1]}) + "\n"
    path = write(tmp_path / "log.jsonl", early * 20 + '{"u": "bob", "q": 1, "mode": "sandbox"}\n')
    source = open_source(path)
    assert source.columns == ["u", "q", "mode"]
    assert rows(path)[-1][1] == {"u": "bob", "q": "1", "mode": "sandbox"}
    assert rows(path)[0][1]["mode"] is None


def test_file_with_more_than_20000_different_keys_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", "".join(f'{{"item{n}": 1}}\n' for n in range(20_001)))
    with pytest.raises(PermanentFailure, match="20,001 different keys"):
        rows(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"u": "ann", "u": "bob"}', "the key 'u' occurs twice"),
        ('{"u": {"a": 1, "a": 2}}', "the key 'a' occurs twice"),
        ('{"u": "ann"} {"u": "bob"}', "not JSON"),
        ('{"u": NaN}', "NaN is not JSON"),
        ('{"u": [1e999]}', "a number too large to be one"),
        ('{"u": "\\ud800"}', "half of a surrogate pair is not a character"),
        ('{"u": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"u": ' + "1" * 5_000 + "}", "not JSON"),
    ],
)
def test_line_whose_json_cannot_be_stored_unchanged_is_rejected(tmp_path: Path, line: str, reason: str) -> None:
    """A valid line or a blank line follows each line. Two objects in a line were once counted for a blank line."""
    for other in ('{"u": "eve"}', ""):
        path = write(tmp_path / "log.jsonl", f"{line}\n{other}\n")
        assert [(row.line, row.value) for row in bad(path)] == [(1, reason)]
        assert [row["u"] for _, row in rows(path)] == ["eve"] * bool(other)


def test_numbers_in_json_keep_their_digits(tmp_path: Path) -> None:
    """Read as floats, large numbers became the same id."""
    digits = ["12345.0", "1e19", "10000000000000000000.0", "1.0E19", "10000000000000000001", "-0.50", "1e999"]
    path = write(tmp_path / "log.jsonl", "".join(f'{{"u": {text}}}\n' for text in digits))
    assert [row["u"] for _, row in rows(path)] == digits


def test_parquet_columns_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["u", "u", "u (2)"])
    pq.write_table(table, tmp_path / "log.parquet")
    assert rows(tmp_path / "log.parquet") == [(1, {"u": "a", "u (2)": "b", "u (2) (2)": "c"})]


def test_parquet_text_that_is_not_utf_8_is_refused_with_its_column(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"u": pa.array(["ann"]), "name": texts}), tmp_path / "log.parquet")
    with pytest.raises(PermanentFailure, match="column 'name', rows 1 to 1"):
        rows(tmp_path / "log.parquet")


def test_damaged_parquet_page_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"u": [f"user {n}" for n in range(5_000)]}), path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:24] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(PermanentFailure, match="broken Parquet"):
        rows(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b'[{"u": 1}]', "one object per line"),
        ("u,q\nann,1\n".encode("utf-16-le"), "UTF-16LE without a byte order mark: .*iconv -f UTF-16LE"),
        ("u,q\nann,1\n".encode("utf-16-be"), "UTF-16BE without"),
        (b"PK\x03\x04\x14\0\x06\0[Content_Types].xml .. xl/workbook.xml", "an Excel workbook .xlsx."),
        (b"PK\x03\x04.. mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "OpenDocument spreadsheet"),
        (b"PK\x03\x04\x14\0answers.csv", "a ZIP archive: unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"$FL2@(#) SPSS DATA FILE", "an SPSS file"),
        (b"<stata_dta><header>", "a Stata file"),
        (b"s\x02\x01\0\x05\0", "a Stata file"),
        (bytes(12) + b"\xc2\xea\x81\x60\xb3\x14", "a SAS file: .*haven::read_sas"),
        (b"SQLite format 3\0\x10\0", "an SQLite database: sqlite3 -csv"),
        (gzip.compress(b"X\n\0\0\0\x03\0\x04", mtime=0), "an R object .RDS.: .*readRDS"),
        (gzip.compress(b"RDX3\nX\n", mtime=0), "an R workspace"),
        (
            b"&INST\nTITLE='x'\nNI=18\n&END\n",
            "a control file of Winsteps: write its answers as CSV .*KEY1 is for --key",
        ),
        (b"; I T E M  FILE\n;ENTRY MEASURE\n", "an item file of Winsteps .IFILE. in fixed columns: .*CSV=Y"),
        (b" 10 O N  5\r\n1234123412\r\n", "a data file of Iteman: write its answers as CSV .*line 2 is for --key"),
        (b"PAR1 but no more", "broken Parquet"),
        (b"\x1f\x8b broken gzip", "cannot be read"),
        (b"u," + b"q" * 200_000 + b"\n1,2\n", "header cannot be read"),
        (b"u," + b"q," * 600_000 + b"\n1,2\n", "header is longer"),
        (b'u,"q\nann,1\nbob,2\n', "never closed"),
        (b"u,\0\nann,1\n", "NUL"),
        (b'"', "names no column"),
        (b"\x1c\n", "names no column"),
        ("\u2028\n".encode(), "names no column"),
        (b"u,q\nann," + b"x" * (19 * 2**20) + b"\n", "at most 8 MiB"),
    ],
)
def test_error_for_an_unreadable_file_gives_the_cause_or_a_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(PermanentFailure, match=message):
        rows(write(tmp_path / "log", content))


def test_truncated_gzip_file_raises_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"u,q\n" + b"ann,1\n" * 100_000, mtime=0)
    path = write(tmp_path / "log.csv.gz", packed[: len(packed) // 2])
    with pytest.raises(PermanentFailure, match=r"log\.csv\.gz"):
        rows(path)


def test_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"nowhere\.csv"):
        open_source(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("opened", ['"bob,2', 'bob,"2'])
@pytest.mark.parametrize("after", [3, 2_000_000])
def test_quotation_mark_that_is_never_closed_raises_an_error(tmp_path: Path, opened: str, after: int) -> None:
    """The parser reads the rest of the file as a single value: two million answers were once a single ragged row."""
    path = write(tmp_path / "log.csv", f"u,q\nann,1\n{opened}\n" + "cid,3\n" * after)
    with pytest.raises(PermanentFailure, match="never closed"):
        rows(path)


def test_quotation_mark_inside_a_value_is_an_ordinary_character(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "log.tsv", 'u\tq\nann\t5"\n')) == [(2, {"u": "ann", "q": '5"'})]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("line_break", ["\n", "\r"])
def test_rows_are_numbered_as_in_a_spreadsheet_if_cells_contain_line_breaks(tmp_path: Path, line_break: str) -> None:
    records = ['"a\nb\nc",1', "d,2", '"e\nf"', f'"{"g" * 2**11}",3'] * 80
    path = write(tmp_path / "log.csv", "\n".join(['u,"q\n?"', *records, ""]).replace("\n", line_break))
    assert len(list(open_source(path).batches())) > 2
    assert [line for line, _ in rows(path)] == [2 + 4 * n + k for n in range(80) for k in (0, 1, 3)]
    assert [(row.line, row.value) for row in bad(path)] == [(4 + 4 * n, "1 columns, not 2") for n in range(80)]


@contextmanager
def linear_time() -> Iterator[None]:
    """Assert linear time: the work takes about 0.1 s of CPU if it is linear in the file's size, and minutes if it is
    quadratic."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 10


@pytest.mark.parametrize("name", ["", "u"])
def test_repeated_names_are_numbered_in_linear_time(tmp_path: Path, name: str) -> None:
    """19,000 names once took 27 s and more."""
    path = write(tmp_path / "log.csv", ",".join([name] * 19_000) + "\n")
    with linear_time():
        columns = open_source(path).columns
    assert columns[:3] == [name, f"{name} (2)", f"{name} (3)"]
    assert len(set(columns)) == 19_000


def test_duplicate_json_key_is_detected_in_linear_time() -> None:
    """Keys were once compared with all others: 20,000 keys took 5.7 s."""
    keys = ", ".join(f'"k{n}": 1' for n in range(100_000))
    with linear_time(), pytest.raises(ValueError, match="the key 'k99999' occurs twice"):
        parse_json(f'{{{keys}, "k99999": 1}}')


def test_batch_has_fewer_rows_if_the_table_has_more_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_CELLS", 100)
    few = '{"u": 1}\n' * 50
    many = json.dumps({f"k{n}": 1 for n in range(19)}) + "\n"
    pq.write_table(pa.table({f"k{n}": [1] * 50 for n in range(20)}), tmp_path / "log.parquet")
    for path in (write(tmp_path / "log.jsonl", few + many), tmp_path / "log.parquet"):
        batches = list(open_source(path).batches())
        assert max(batch.rows.num_rows for batch in batches) == 5
        lines = [line for batch in batches for line in batch.lines.tolist()]
        assert lines == list(range(1, len(lines) + 1))


def test_rejected_json_row_is_stored_without_keys_of_other_rows(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "log.jsonl", '{"u": "ann"}\n{"q": [1]}\n'))
    assert [source.raw(row) for _, row in rows(source.path)] == ['{"u": "ann"}', '{"q": "[1]"}']


def test_empty_lines_of_a_wide_table_are_counted_as_cells(tmp_path: Path) -> None:
    """An empty line was once a row of 20,000 cells."""
    path = write(tmp_path / "log.csv", ",".join(f"c{n}" for n in range(20_000)) + "\n" * 2_000)
    with pytest.raises(PermanentFailure, match="empty lines"):
        rows(path)
    essays = write(tmp_path / "essays.csv", "u,response\n" + 'ann,"one\n\ntwo"\n' * 50_000)
    assert len(rows(essays)) == 50_000


def test_block_of_ragged_rows_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_UNREADABLE_ROWS", 1_000)
    with pytest.raises(PermanentFailure, match="1,001 rows have more or fewer cells than the header"):
        rows(write(tmp_path / "many.csv", "u,q\n" + "x\n" * 1_001))


def test_nested_values_of_parquet_are_read_as_null(tmp_path: Path) -> None:
    table = pa.table({"u": ["ann", "bob"], "tags": [["a"], ["b", "c"]], "at": [{"x": 1}, None], "n": [1, 2]})
    pq.write_table(table, tmp_path / "log.parquet")
    assert rows(tmp_path / "log.parquet") == [
        (1, {"u": "ann", "tags": None, "at": None, "n": 1}),
        (2, {"u": "bob", "tags": None, "at": None, "n": 2}),
    ]


def test_row_group_whose_unpacked_size_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP", 1_000)
    pq.write_table(pa.table({"u": ["x" * 10_000]}), tmp_path / "log.parquet", compression="zstd")
    with pytest.raises(PermanentFailure, match="a row group unpacks to"):
        open_source(tmp_path / "log.parquet")


def read_log(path: Path, mapping: Mapping | None = None) -> ImportReport:
    report = ImportReport()
    limits = Limits(0, 2**62, "UTC")
    for _ in AnswerSource(open_source(path), mapping, None).answers(limits, report, ignore_rows):
        pass
    return report


def test_error_names_the_columns_of_a_table_and_shows_no_content_of_other_files(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"Columns of the file: c0, c1, .* and 4,801 more") as found:
        read_log(write(tmp_path / "wide.csv", ",".join(f"c{n}" for n in range(5_000)) + "," + "c" * 131_000 + "\n"))
    assert len(str(found.value)) < 5_000
    with pytest.raises(PermanentFailure, match="its first line has no comma") as found:
        read_log(write(tmp_path / "shadow", "root:hunter2:19000:0:99999:7:::\n"))
    assert "hunter2" not in str(found.value)


# -- fuzzed files ------------------------------------------------------------------------------------
# Any file's rows are counted, or the file is refused with a sentence, without tracebacks and wrong counts.

MICROS = 1_000_000
LIMITS = Limits(1_780_272_000 * MICROS, 1_795_176_000 * MICROS, "UTC")  # June to November 2026
TIMES = ["2026-07-01T12:00:00Z", "2026-07-01 12:00:00.5", "1782907200", "1782907200000"]


def fuzzed(files_of_each: int, drawn: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """Test this number of files, the same in each run, and in the long tier ten times as many random files."""
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
    """Read a file. Returns None if it is refused, and asserts that the refusal is a sentence without Python's terms."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given"
        path.write_bytes(content)
        try:
            return read(path)
        except (PermanentFailure, PsychometricsError) as error:
            message = str(error)
            assert len(message) > 10, message
            assert not any(word in message for word in ("Traceback", "Counter(", "<class", "object at 0x")), message
            return None


def check_counts(report: ImportReport | None, file: File, answers: int = 0) -> None:
    """Assert that each row of the file is accepted or rejected for a reason."""
    if report is None:
        return
    assert report.read == answers + report.rejected.total()
    assert file.rows in (None, report.read)


def read_fuzzed_log(path: Path, mapping: str | Path = "auto") -> tuple[ImportReport, int]:
    """Import answers up to the point at which they would be written to the database."""
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
    """Whether a cell is a score above 1. A second such score in a file would have the whole file refused."""
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
def test_fuzzed_log_is_counted_or_refused(file: File) -> None:
    found = outcome(read_fuzzed_log, file.content)
    if found is not None:
        check_counts(found[0], file, found[1])


def test_every_row_of_an_undamaged_log_is_counted() -> None:
    """The fuzzer does not show that any file is read."""
    scores = [text for text in ODD if not is_points(text)]
    sound = {"user_id": "a", "completed_at": TIMES[0]}
    rows = [sound | {"item_id": f"q{n}", "correct": text} for n, text in enumerate(scores)]
    for kind in KINDS:
        report, accepted = outcome(read_fuzzed_log, write_rows(kind, rows))
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
def test_fuzzed_bank_and_learner_files_are_counted_or_refused(given_: tuple[Any, File]) -> None:
    kind, file = given_

    def read(path: Path) -> ImportReport:
        report = ImportReport()
        rows = read_rows(open_source(path), "auto", kind, report, ignore_rows)
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
def test_damaged_mapping_file_is_applied_or_refused(how: list[tuple[str, float, int, bytes]]) -> None:
    def read(path: Path) -> tuple[ImportReport, int]:
        log = path.with_name("log.csv")
        log.write_bytes(MAPPED)
        return read_fuzzed_log(log, path)

    found = outcome(read, damage_bytes(MAPPING, how))
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
    lambda how: File("json", damage_bytes(json.dumps(FITTED).encode(), how)), st.lists(damage, min_size=0, max_size=2)
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
def test_file_commands_return_a_result_or_refuse_fuzzed_files(given_: tuple[str, File, File | None]) -> None:
    command, first, second = given_

    def run(path: Path) -> Any:
        other = path.with_name("other")
        other.write_bytes(second.content if second else b"")
        if command == "link":
            return link_files(FILES.parameters(path), FILES.parameters(other)).as_dict()
        answers = FILES.answers(path)
        if command == "score":
            return score_file(answers, FILES.parameters(other)).as_dict()
        return fit_file(answers).as_dict()

    found = outcome(run, first.content)
    json.dumps(found, allow_nan=False).encode()
