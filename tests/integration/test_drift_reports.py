"""Drift reports of a small world: read from its tables, written by the command, stored by the asset."""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import pypdfium2
import pytest

from irt_assets.definitions import build_defs
from irt_assets.drift.month import ScaleDrift
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.reports.assets import DRIFT_REPORT, DRIFT_REPORT_JOB, REPORT_SOURCES
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import Facts, gather
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.truth import Truth
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, folder_store, rows
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.integration.graph import Graph, metadata

Faulty = tuple[Settings, Truth, dict[str, list[ScaleDrift]]]


def facts_of(settings: Settings, month: str) -> Facts:
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[SCALE]
        state = MonthState(month, SCALE, State.GREEN, "made up")
        return gather(connection, folder_store(settings), month, scale, state)


def test_facts_contain_planted_faults_with_proposals_and_observed_proportions(faulty: Faulty) -> None:
    settings, truth, _ = faulty
    facts = facts_of(settings, MONTHS[1])
    planted = {fault.kind: fault.item_ids[0] for fault in truth.bank.faults}
    leaked, drifted = facts.items[planted["leak"]], facts.items[planted["drift"]]
    assert leaked.proposal.action is Action.RETIRE
    assert drifted.proposal.action in (Action.RE_ESTIMATE, Action.DROP_ANCHOR)
    for item in (leaked, drifted):
        assert item.observed.n.sum() == item.n, "every fitted answer is in one group"
        assert item.observed.proportion.sum() > 0
        assert item.values.b < item.published.b, "both became easier"


def test_observed_proportions_follow_the_months_curve_and_not_the_published_curve(faulty: Faulty) -> None:
    """The drifted item moved by 1.2; 200 answers in groups of 25 have an SE of 0.1 each, their mean of 0.035."""
    settings, truth, _ = faulty
    facts = facts_of(settings, MONTHS[1])
    (drifted,) = (facts.items[f.item_ids[0]] for f in truth.bank.faults if f.kind == "drift")

    def off(curve: Any) -> float:
        return abs(float((drifted.observed.proportion - curve.curve(drifted.observed.theta)).mean()))

    assert off(drifted.values) < 0.1
    assert off(drifted.published) > 0.15


def test_first_months_facts_contain_the_anchors_and_name_the_missing_comparison(calibrated: Settings) -> None:
    facts = facts_of(calibrated, MONTHS[0])
    assert facts.not_compared == f"it has not been judged yet: materialise item_drift of {MONTHS[0]}"
    assert facts.fit
    assert [linked.month for linked in facts.linkings] == [MONTHS[0]]
    assert facts.in_force == len([i for i in facts.items.values() if i.is_anchor])


def test_facts_of_an_unfitted_month_name_the_calibrate_command(calibrated: Settings) -> None:
    assert (
        facts_of(calibrated, "2026-08").not_compared == "2026-08 has not been fitted: `irt calibrate --month 2026-08`"
    )


def test_report_command_writes_the_last_months_under_the_documents_file_names(
    faulty: Faulty, irt: IrtOf, tmp_path: Path
) -> None:
    settings, _, _ = faulty
    done = irt(settings)("report", "drift", "--last", "3", "--out", tmp_path / "made", "--json")
    assert done.code == 0, done.err
    assert [(one["month"], one["window"]) for one in done.json] == [(MONTHS[1], 1), (MONTHS[0], 2)]
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    by_window = {name: data for name, data in files.items() if name.startswith("drift_window_")}
    assert len(by_window) == 6
    for name, data in by_window.items():
        found = re.fullmatch(r"drift_window_([12])_\d{8}_\d{6}\.(html|pdf|docx)", name)
        assert found, name
        assert files.pop(f"drift_{MONTHS[2 - int(found[1])]}.{found[2]}") == data
        del files[name]
    assert not files
    (newest,) = (tmp_path / "made").glob("drift_window_1_*.pdf")
    assert f"Drift report {MONTHS[1]}" in pypdfium2.PdfDocument(newest)[0].get_textpage().get_text_bounded()


def test_report_command_refuses_unknown_months_and_scales_and_names_the_existing(
    faulty: Faulty, irt: IrtOf, tmp_path: Path
) -> None:
    settings, _, _ = faulty
    for words, message in (
        (["--month", "2031-01"], f"there are: {', '.join(MONTHS)}"),
        (["--month", MONTHS[0], "--scale", "nonsense"], f"there are: {SCALE}"),
        (["--month", MONTHS[0], "--last", "2"], "give one of them"),
    ):
        refused = irt(settings)("report", "drift", *words)
        assert (refused.code, message in " ".join(refused.err.split())) == (2, True), refused.err
    (tmp_path / "file").write_text("", "utf-8")
    refused = irt(settings)("report", "drift", "--month", MONTHS[0], "--out", tmp_path / "file")
    assert (refused.code, "REPORT_OUTPUT_DIR" in refused.err) == (2, True), refused.err


def test_drift_report_asset_stores_all_files_and_a_second_run_replaces_their_rows(
    faulty: Faulty, instance: dg.DagsterInstance
) -> None:
    settings, _, _ = faulty
    graph = Graph(settings, instance)
    for _ in range(2):
        result = graph.run(MONTHS[1], DRIFT_REPORT_JOB)
    kept = rows(graph.database, 'SELECT format, "window", url, sha256, user_id FROM report_file ORDER BY format')
    assert [(one[0], one[1], one[4]) for one in kept] == [
        ("docx", f"{MONTHS[1]}/{SCALE}", None),
        ("html", f"{MONTHS[1]}/{SCALE}", None),
        ("pdf", f"{MONTHS[1]}/{SCALE}", None),
    ]
    for extension, _, url, digest, _ in kept:
        key = graph.store.key(url) or ""
        assert re.fullmatch(rf"reports/drift/{MONTHS[1]}/{SCALE}_\d{{8}}_\d{{6}}\.{extension}", key)
        assert sha256(graph.store.get(key)).hexdigest() == digest
    reported = metadata(result, "drift_report")
    assert reported["report"].startswith(f"{MONTHS[1]} of scale {SCALE} is")
    assert reported["decide in"] == "the dashboard, or `irt release`"
    ids = [
        artifact_id for (artifact_id,) in rows(graph.database, "SELECT artifact_id FROM report_file ORDER BY format")
    ]
    links = [reported[name] for name in ("download for Word", "open the report", "download as PDF")]
    assert links == [f"/reports/{artifact_id}" for artifact_id in ids]


def test_html_is_written_with_a_warning_if_the_pdf_of_a_drift_report_fails(
    faulty: Faulty, irt: IrtOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    settings, _, _ = faulty
    graph = Graph(settings, instance)
    graph.run(MONTHS[1], DRIFT_REPORT_JOB)
    monkeypatch.setitem(sys.modules, "typst", None)
    result = graph.run(MONTHS[1], DRIFT_REPORT_JOB)
    assert rows(graph.database, "SELECT format FROM report_file") == [("html",)], "no PDF says what no longer is so"
    assert "Without PDF and Word file: " in metadata(result, "drift_report")["report"]
    command = irt(settings)("report", "drift", "--month", MONTHS[1], "--out", tmp_path)
    assert (
        command.code,
        missing_sentences(command.out + command.err, "no PDF and no Word file: ", "pip install typst"),
    ) == (1, [])
    assert {path.suffix for path in tmp_path.iterdir()} == {".html"}


def test_report_is_requested_once_after_its_sources_even_if_a_drift_check_failed(
    settings: Settings,
    instance: dg.DagsterInstance,
) -> None:
    """No job runs: the materialisations are reported to Dagster, which evaluates the graph's own conditions."""
    defs = build_defs(settings.model_copy(update={"irt_first_month": MONTHS[0]}))
    cursor = None

    def asked() -> set[str]:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
        cursor = found.cursor
        return set(found.get_requested_partitions(dg.AssetKey(DRIFT_REPORT)))

    def made(asset: str) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=MONTHS[1]))

    assert asked() == set()
    for asset in REPORT_SOURCES[:-1]:
        made(asset)
    assert asked() == set()
    far = dg.AssetCheckEvaluation(
        check_name="no_item_drifted_far",
        asset_key=dg.AssetKey("item_drift"),
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        blocking=False,
        metadata={},
        partition=MONTHS[1],
    )
    instance.report_runless_asset_event(far)
    made(REPORT_SOURCES[-1])
    assert (asked(), asked()) == ({MONTHS[1]}, set())
    for asset in REPORT_SOURCES:
        made(asset)
    assert asked() == {MONTHS[1]}, "made again, it is asked for again"
