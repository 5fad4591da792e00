"""Every table is classified by whether it can contain a learner's id, and ids are found in text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irt_assets.intake.clean import Limits
from irt_assets.intake.ingest import AnswerSource
from irt_assets.intake.jsonlines import as_cell, parse_json
from irt_assets.intake.mapping import Mapping
from irt_assets.intake.posted import Post
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, RefusedRow, contains_id
from irt_assets.intake.sources import Source
from jobs.retention.erasure import LEARNER_TABLES
from jobs.retention.erasure_mentions import MENTION_TABLES
from resources.tables import METADATA

OVER_MANY = {
    *("question", "partition_source", "scored_snapshot", "calibration_scale", "anchor_set"),
    *("mirt_fit_meta", "mirt_item_params", "item_parameter_publication", "item_parameter_proposal"),
    *("release_decision", "decision", "month_verdict", "item_drift", "dif_analysis", "test_information"),
    *("drift_alerts", "alert_delivery", "object_folder", "backup", "erasure", "scale_decision", "movement_proposal"),
    *("testlet_sd_publication", "month_impact", "server_setting"),
    *("intake", "pull_source", "pull_day", "item_time", "attempt_verdict", "judged_day", "snapshot_rewrite"),
    *("month_state", "form", "form_item", "item_analysis", "key_evidence", "score_table"),
    *("adaptive_test", "adaptive_bank", "item_exposure", "adaptive_simulation", "item_pipeline"),
    "group_ability",
}
"""Tables of items, months and decisions. Add a new table only if none of its columns can contain a learner's id."""


def test_every_table_is_classified_by_its_mentions_of_learners() -> None:
    known = [*LEARNER_TABLES, *MENTION_TABLES, *OVER_MANY]
    assert sorted(known) == sorted(METADATA.tables), (
        "say in jobs.retention.erasure what becomes of a new table's learners"
    )


@pytest.mark.parametrize("table", sorted(OVER_MANY))
def test_tables_of_items_months_and_decisions_have_no_column_of_a_learner(table: str) -> None:
    no_ids = {"decision.subject", "scale_decision.subject", "month_impact.learners", "attempt_verdict.learner_key"}
    names = {column.name for column in METADATA.tables[table].columns if str(column) not in no_ids}
    assert not {name for name in names if name.startswith(("user", "learner", "person", "subject"))} - {"learner_hash"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("never", "u-1,q1"), True),
        (("7", "u-12,q1"), False),
        (("u-1", ""), True),
    ],
)
def test_only_rejected_rows_that_contain_the_learners_id_are_found(texts: tuple[str, str], expected: bool) -> None:
    assert contains_id("u-1", texts) is expected


IDS = [
    *('["a","b"]', '["a", "b"]', '[ "a" , "b" ]', "[1,2]", "[1.50]", '["é"]', r'["\u00e9"]', r'["a\"b"]', r'["a\nb"]'),
    *('[["x"],["y"]]', '{"id":"a","n":1}', '{"id": "a"}', "[true,null]", r'["a\/b"]', "[]", "{}", r'["a\\b"]', "1.50"),
    *("1e5", "7", '"a b"', r'"x\"y"', r'"a\\b"', '"é"', r'"\u00e9"', '"a,b"', r'"a\tb"', '"😀"', r'"\ud83d\ude00"'),
]
"""Awkward ids of learners, as JSON writes them."""
FAULTS = (
    '"item_id": "q", "x": NaN',
    '"item_id": "q", "item_id": "r"',
    '"item_id": "q", "completed_at": "2026-07-01T00:00:00Z", "correct": 1, "zzz": 1',
    '"item_id": "q"',
    '"item_id": "q", "completed_at": "never", "correct": 1',
)


@pytest.mark.parametrize("written", IDS)
def test_refused_json_contains_the_id_that_the_log_gives_its_learner(tmp_path: Path, written: str) -> None:
    """Lists and objects once stayed in refused rows after their learner was erased."""
    user = str(as_cell(parse_json(written))).strip()
    valid = '{"user_id": "k", "item_id": "q", "completed_at": "2026-07-01T00:00:00Z", "correct": 1}'
    lines = [f'{{"user_id":{written},{fault}}}' for fault in FAULTS]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, valid]))
    sources: list[Source] = [open_source(tmp_path / "log.jsonl"), Post("exam", "\n".join(lines).encode(), lines=True)]
    for source in sources:
        refused: list[RefusedRow] = []
        rules = Mapping(
            name="own", columns={name: (name,) for name in ("user_id", "item_id", "completed_at", "correct")}
        )
        for _ in AnswerSource(source, rules, None).answers(Limits(0, 2**60), ImportReport(), refused.extend):
            pass
        assert len(refused) >= 3
        assert [row for row in refused if not contains_id(user, [row.value, row.row])] == []


def test_learner_id_is_found_in_text_escaped_as_csv_or_json() -> None:
    json_in_csv = json.dumps({"user": 'q"q7'}).replace('"', '""')
    texts = ['"q""q7",1', json.dumps({"user": 'q"q7'}), f'"{json_in_csv}"', r'{"user": "\u0071\u0022q7"}']
    others = ['"q""q71",1', json.dumps({"user": 'q"q71'}), r"q\q7", "😀 \\ud83d"]
    assert [text for text in (*texts, *others) if contains_id('q"q7', [text])] == texts
