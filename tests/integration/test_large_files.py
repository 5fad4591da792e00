"""Files at the limits of their size: they are read in linear time and memory, or refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.intake import sources
from irt_assets.intake.bank import LEARNERS, read_rows
from irt_assets.intake.mapping import Mapping, MatrixMapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, ignore_rows
from resources.failures import PermanentFailure
from tests.unit.test_import_readers import linear_time, read_log, rows, write


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_file_with_more_than_20000_columns_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "csv":
        write(path, "," * 20_000 + "\n")
    else:
        pq.write_table(pa.table({f"c{n}": pa.nulls(0, pa.int8()) for n in range(20_001)}), path)
    with pytest.raises(PermanentFailure, match="20,001 columns; a file has at most 20,000"):
        open_source(path)


@pytest.mark.parametrize("same_ends", [True, False])
def test_json_lines_with_changing_keys_are_read_in_linear_time(tmp_path: Path, same_ends: bool) -> None:
    """Lines once had a cell for every key of the file: 200 kB took two minutes and 1.1 GB."""
    ends = '{"k0": 1}\n' if same_ends else ""
    path = write(tmp_path / "log.jsonl", ends + "".join(f'{{"k{n}": 1}}\n' for n in range(10_000)) + ends)
    with linear_time():
        assert sum(batch.rows.num_rows for batch in open_source(path).batches()) == 10_000 + 2 * same_ends


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_block_of_empty_lines_is_refused(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "log.gz", gzip.compress(("u,q\nann,1\n" + ending * sources.BLOCK).encode()))
    with linear_time(), pytest.raises(PermanentFailure, match="empty lines in 8,388,608 bytes"):
        rows(path)


def test_overlong_id_in_a_wide_matrix_is_rejected_without_copies_for_each_item(tmp_path: Path) -> None:
    """3,000 copies of a megabyte exceed the size of an Arrow array."""
    items = [f"i{n}" for n in range(3_000)]
    row = ["x" * 2**20, "2026-07-01T12:00:00Z", *["1"] * len(items)]
    path = write(tmp_path / "log.csv", ",".join(["u", "at", *items]) + "\n" + ",".join(row) + "\n")
    columns = {"user_id": ("u",), "completed_at": ("at",)}
    report = read_log(path, Mapping(name="ours", columns=columns, wide=MatrixMapping(items=("i*",))))
    assert report.rejected == {"id_too_long": 3_000}


@pytest.mark.parametrize("kind", ["learners", "answers"])
def test_table_with_many_columns_is_read_in_linear_time(tmp_path: Path, kind: str) -> None:
    names = [f"c{n}" for n in range(19_000)]
    ours = ["user_id"] if kind == "learners" else ["user_id", "item_id", "completed_at", "correct"]
    row = ["ann", "q1", "2026-07-01T12:00:00Z", "1"][: len(ours)] + ["x"] * len(names)
    path = write(tmp_path / "log.csv", ",".join([*ours, *names]) + "\n" + ",".join(row) + "\n")
    with linear_time():
        if kind == "learners":
            assert len(read_rows(open_source(path), "auto", LEARNERS, ImportReport(), ignore_rows)) == 1
        else:
            assert read_log(path).read == 1
