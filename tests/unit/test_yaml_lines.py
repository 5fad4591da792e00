"""Rules that people write in YAML: values that no database, number or answer can hold are refused by line."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.yaml_lines import UNSTORABLE, ContentRules
from irt_assets.intake.clean import MAX_ID_LENGTH
from irt_assets.intake.pulling.sources_file import read_sources
from resources.failures import PermanentFailure
from resources.settings import Settings

AWKWARD = {
    "infinity": ".inf",
    "minus infinity": "-.inf",
    "NaN": ".nan",
    "overflow": "1e400",
    "NUL": r'"\0"',
    "half a character": r'"\ud800"',
    "2^63": str(2**63),
    "more digits than Python reads": "9" * 5000,
    "list in lists": "[[[1]]]",
    "mapping in mappings": "{a: {b: [1]}}",
    "list in itself": "&own [*own]",
    "impossible date": "2026-02-30",
    "bytes": "!!binary aGk=",
    "object": "!!python/object/apply:os.getcwd []",
    "long text": "x" * (MAX_ID_LENGTH + 1),
}
FIELDS = {
    Policy: (
        "test: {}",
        "scale: {}",
        "length: {{max: {}}}",
        "length: {{max: 9, se: {}}}",
        "classify: {{cut: {}}}",
        "classify: {{cut: 0, indifference: {}}}",
        "exposure: {{theta_cuts: [{}]}}",
        "exposure: {{randomesque: {}}}",
        "topics: {{algebra: {{max: {}}}}}",
        "topics: {{{}: {{max: 3}}}}",
        "enemies: [[{}, b]]",
        "look_back_days: {}",
    ),
    Blueprint: (
        "name: {}",
        "forms: {}",
        "objective: {{theta: [{}]}}",
        "objective: {{target: [{}]}}",
        "columns: {{words: {{max: {}}}}}",
        "anchors: {{n: {}}}",
        "included: [{}]",
        "seconds: {}",
    ),
}
REQUIRED = {Policy: {"test": "t", "length": "{max: 9}"}, Blueprint: {"name": "t", "length": "{max: 9}"}}


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize(("rules", "field"), [(rules, field) for rules, fields in FIELDS.items() for field in fields])
def test_awkward_values_are_refused_by_line_or_can_be_stored(rules: type[ContentRules], field: str, value: str) -> None:
    line = field.format(AWKWARD[value])
    others = [f"{name}: {text}" for name, text in REQUIRED[rules].items() if name != field.partition(":")[0]]
    text = "\n".join([*others, line])
    refusal = ""
    try:
        read = rules.from_yaml(text)
    except PermanentFailure as failure:
        refusal = str(failure)
    if refusal:
        assert f"line {len(others) + 1}" in refusal or "this is not YAML" in refusal
        assert len(refusal) < 2_000
    else:
        stored = json.dumps(read.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
        assert not UNSTORABLE.search(stored)


@pytest.mark.parametrize(
    "document",
    ["[" * 600, "{" * 600, b"test: \xff\xfe", "test: \0"],
    ids=["nested lists", "nested mappings", "not UTF-8", "NUL"],
)
def test_documents_that_are_no_yaml_are_refused(document: str | bytes) -> None:
    with pytest.raises(PermanentFailure, match="not YAML"):
        Policy.from_yaml(document)


def test_longest_name_of_a_test_is_as_long_as_an_id() -> None:
    assert len(Policy.from_yaml(f"test: {'x' * MAX_ID_LENGTH}\nlength: {{max: 9}}").test) == MAX_ID_LENGTH
    with pytest.raises(PermanentFailure, match="line 1: test: must have at most 600 bytes in UTF-8, got 603"):
        Policy.from_yaml(f"test: {'語' * 201}\nlength: {{max: 9}}")


@pytest.mark.parametrize(
    "document",
    [b"a: " + b"[" * 3000, b"a: " + b"9" * 5000, b"secret: \xff\xfe", b"a: [secret"],
    ids=["nested lists", "more digits than Python reads", "not UTF-8", "open list"],
)
def test_file_of_sources_that_is_no_yaml_is_refused_without_its_text(tmp_path: Path, document: bytes) -> None:
    path = tmp_path / "sources.yaml"
    path.write_bytes(document)
    path.chmod(0o600)
    with pytest.raises(PermanentFailure, match=r"sources\.yaml") as refusal:
        read_sources(Settings(_env_file=None, irt_pull_sources=path))
    assert "secret" not in "".join(traceback.format_exception(refusal.value))
