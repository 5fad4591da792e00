"""The ledger: written in month order, for any order of calibrations."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from irt_assets.abilities.batch import measure
from irt_assets.calibration.month import publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions import exports
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.publications import in_force
from irt_assets.ledger.steps import Step, pending_steps, steps
from jobs.sensors import plan_requests
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import SCALE, add_items, call, link_made_up, made_up_calibration, rows, run_sql, stage_made_up
from tests.helpers.sentences import missing_sentences, refusal

ANCHORS = {item: (1.0, b) for item, b in (("K1", -1.0), ("K2", 0.0), ("K3", 1.0))}
JAN, FEB, MAR, APR, MAY = (f"2026-0{k}" for k in range(1, 6))
TIMES = {month: Month(month).end for month in (JAN, FEB, MAR, APR, MAY)}


@pytest.fixture
def ledger(database: Database) -> Database:
    """A scale with only its three anchors published, from January on."""
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    add_items(database, dict.fromkeys(["J", "F", "M", "A", "Y", "always", "held"]))
    initialise(database, SCALE, first_month=JAN, thresholds={"min_anchors": 3})
    return database


def link(ledger: Database, store: FolderStore, month: str, *, red: bool = False, shift: float = 0.0) -> str:
    """The month's linked fit: the anchors, an item of all months and one that is new in this month.

    Every number identifies its month: b is the month's number, plus `shift`.
    """
    number = int(month[-2:]) / 10 + shift
    new = {JAN: "J", FEB: "F", MAR: "M", APR: "A", MAY: "Y"}[month]
    items = dict.fromkeys((*ANCHORS, "always", new, "held"), (1.1, number))
    calibration = made_up_calibration(items, b_se={"held": 1.5})
    return link_made_up(ledger, store, month, calibration, q_p=1e-6 if red else 0.5)


def publish(ledger: Database, store: FolderStore, month: str, unsettled: Sequence[str] = ()) -> dict[str, Step]:
    return publish_month(ledger, store, month, set(unsettled) - {month}, None)[SCALE]


def calibrate(ledger: Database, store: FolderStore, month: str, **others: Any) -> Step:
    """Link a month and publish it. Returns the publication step."""
    link(ledger, store, month, **others)
    return publish(ledger, store, month)[month]


def publications(ledger: Database) -> list[tuple[Any, ...]]:
    """Publications besides the origin: item, month, b and the time from which it is in force."""
    return rows(
        ledger,
        """SELECT item_id, month, b, effective_from FROM item_parameter_publication
           WHERE rule <> 'origin' ORDER BY effective_from, item_id""",
    )


def proposals(ledger: Database) -> dict[tuple[str, str], str]:
    """Why an item was only proposed, by month and item."""
    return {(m, i): reason for m, i, reason in rows(ledger, "SELECT month, item_id, why FROM item_parameter_proposal")}


def states(ledger: Database) -> dict[str, str]:
    return {month: step.state for month, step in call(ledger, steps, SCALE).items()}


def tick(ledger: Database, store: FolderStore, unsettled: Sequence[str]) -> None:
    """Publish pending months, like the daemon, until nothing is requested. Fails if the requests do not end."""
    for _ in range(10):
        expected = plan_requests(call(ledger, pending_steps), {}, unsettled)
        if not expected:
            return
        for ask in expected:
            publish(ledger, store, ask.month, unsettled)
    pytest.fail("the sensor asks for ever")


def clear(ledger: Database) -> None:
    """Reset the ledger to the origin."""
    with ledger.connect() as connection:
        for table in ("mirt_fit_meta", "mirt_item_params", "fit_staging", "publication_step"):
            connection.execute(f"DELETE FROM {table}".encode())
        connection.execute("DELETE FROM item_parameter_proposal")
        connection.execute("DELETE FROM item_parameter_publication WHERE rule <> 'origin'")


# -- order -------------------------------------------------------------------------------------------

RED, MISSING = FEB, APR
"""February's anchors disagree. April has no answers, so its run fails immediately and stores no rows."""


class Backfill:
    """January to May, requested at once. Each run has three moments: linked, published, ended."""

    def __init__(self, ledger: Database, store: FolderStore) -> None:
        self.ledger, self.store = ledger, store
        self.unsettled = {JAN, FEB, MAR, APR, MAY}

    def link(self, month: str) -> None:
        if month != MISSING:
            link(self.ledger, self.store, month, red=month == RED)

    def publish(self, month: str) -> None:
        if month != MISSING:
            publish(self.ledger, self.store, month, self.unsettled)

    def end(self, month: str) -> None:
        self.unsettled -= {month}

    def run(self, month: str) -> None:
        self.link(month)
        self.publish(month)
        self.end(month)

    def outcome(self) -> tuple[Any, ...]:
        tick(self.ledger, self.store, self.unsettled)
        done = {month: state for month, state in states(self.ledger).items() if state != "held"}
        return publications(self.ledger), sorted(proposals(self.ledger)), done


@pytest.fixture
def in_order(ledger: Database, store: FolderStore) -> Iterator[tuple[Any, ...]]:
    """The ledger that the months leave when they run one after the other."""
    backfill = Backfill(ledger, store)
    for month in sorted(backfill.unsettled):
        backfill.run(month)
    yield backfill.outcome()
    clear(ledger)


def test_months_in_order_publish_their_new_items(in_order: tuple[Any, ...]) -> None:
    published, proposed, done = in_order
    assert published == [
        ("J", JAN, 0.1, TIMES[JAN]),
        ("always", JAN, 0.1, TIMES[JAN]),
        ("M", MAR, 0.3, TIMES[MAR]),
        ("Y", MAY, 0.5, TIMES[MAY]),
    ]
    assert proposed == sorted(
        [(month, anchor) for month in (JAN, MAR, MAY) for anchor in ANCHORS] + [(MAR, "always"), (MAY, "always")]
    )
    assert done == dict.fromkeys((JAN, MAR, MAY), "done")


def test_backfill_leaves_the_same_ledger_in_every_order_of_months(
    in_order: tuple[Any, ...], ledger: Database, store: FolderStore
) -> None:
    for order in permutations((JAN, FEB, MAR, APR, MAY)):
        if order.index(APR) > 0:  # empty April only stops holding May; the test below varies its place
            continue
        clear(ledger)
        backfill = Backfill(ledger, store)
        for month in order:
            backfill.run(month)
        assert backfill.outcome() == in_order, order


def test_runs_at_the_same_time_leave_the_same_ledger(
    in_order: tuple[Any, ...], ledger: Database, store: FolderStore
) -> None:
    """The three moments of the runs are interleaved, so a publishing run may see other runs in progress."""
    for seed in range(8):
        clear(ledger)
        backfill = Backfill(ledger, store)
        moments = [month for month in sorted(backfill.unsettled) for _ in range(3)]
        random.Random(seed).shuffle(moments)
        remaining: dict[str, list[Callable[[str], None]]] = {
            month: [backfill.link, backfill.publish, backfill.end] for month in backfill.unsettled
        }
        for month in moments:
            remaining[month].pop(0)(month)
        assert backfill.outcome() == in_order, seed


def test_ledger_sensor_between_runs_does_not_change_the_result(
    in_order: tuple[Any, ...], ledger: Database, store: FolderStore
) -> None:
    clear(ledger)
    backfill = Backfill(ledger, store)
    for month in (MAY, MAR, FEB, JAN, APR):
        backfill.run(month)
        tick(ledger, store, backfill.unsettled)
    assert backfill.outcome() == in_order


# -- waiting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moves", "states", "published"),
    [
        pytest.param(
            [("link", MAR), ("publish", MAR, JAN, FEB, APR)], {MAR: "pending"}, {}, id="waits for an earlier month"
        ),
        pytest.param(
            [
                ("link", FEB),
                ("publish", FEB, JAN),
                ("link", MAR),
                ("publish", MAR, JAN),
                ("link", JAN),
                ("publish", JAN),
            ],
            dict.fromkeys((JAN, FEB, MAR), "done"),
            {"J": JAN, "always": JAN, "F": FEB, "M": MAR},
            id="publishes those that waited",
        ),
        pytest.param(
            [("link", JAN), ("publish", JAN, FEB)],
            {JAN: "done"},
            {"J": JAN, "always": JAN},
            id="does not wait for a later month",
        ),
        pytest.param(
            [("link", FEB), ("link", JAN), ("publish", JAN, FEB)],
            {JAN: "done"},
            {"J": JAN, "always": JAN},
            id="leaves a month under way alone: only its run knows when its gates are evaluated",
        ),
        pytest.param(
            [("link", JAN), ("link", FEB), ("publish", FEB)],
            {FEB: "done"},
            {"F": FEB, "always": FEB},
            id="leaves a month whose run was killed after linking to its next run",
        ),
        pytest.param(
            [("red", JAN), ("publish", JAN), ("link", FEB), ("publish", FEB)],
            {FEB: "done"},
            {"F": FEB, "always": FEB},
            id="passes a red month over",
        ),
        pytest.param(
            [("red", JAN), ("publish", JAN), ("link", JAN), ("publish", JAN)],
            {JAN: "done"},
            {"J": JAN, "always": JAN},
            id="publishes a red month that was mended before any later one",
        ),
        pytest.param([("publish", JAN)], {JAN: "held"}, {}, id="holds a month that never was fitted"),
    ],
)
def test_a_run_publishes_months_in_their_order(
    ledger: Database,
    store: FolderStore,
    moves: list[tuple[str, ...]],
    states: dict[str, str],
    published: dict[str, str],
) -> None:
    for verb, month, *under_way in moves:
        if verb == "publish":
            taken = publish(ledger, store, month, under_way)
        else:
            link(ledger, store, month, red=verb == "red")
    assert {month: step.state for month, step in taken.items()} == states
    assert {item: month for item, month, *_ in publications(ledger)} == published
    assert {step.why for step in taken.values() if step.state == "pending"} <= {
        "waits for 2026-01, 2026-02, not settled yet"
    }


def test_pending_month_that_was_fitted_again_waits_for_its_own_run(ledger: Database, store: FolderStore) -> None:
    link(ledger, store, FEB)
    publish(ledger, store, FEB, [JAN])
    link(ledger, store, FEB, shift=0.05)
    link(ledger, store, JAN)
    assert (set(publish(ledger, store, JAN)), publish(ledger, store, FEB)[FEB].state) == ({JAN}, "done")
    assert [row[:3] for row in publications(ledger)][-1] == ("F", FEB, 0.25)


# -- months that run late, again, or turn red --------------------------------------------------------


def test_month_calibrated_after_a_later_month_only_proposes(ledger: Database, store: FolderStore) -> None:
    calibrate(ledger, store, FEB)
    before = publications(ledger)
    step = calibrate(ledger, store, JAN)
    assert (step.state, step.n_published) == ("done", 0)
    assert publications(ledger) == before
    assert "2026-02 was settled before" in proposals(ledger)[JAN, "J"]


def test_rerun_month_only_proposes(ledger: Database, store: FolderStore) -> None:
    calibrate(ledger, store, JAN)
    before = publications(ledger)
    fit_id = link(ledger, store, JAN, shift=0.05)
    extra = made_up_calibration(dict.fromkeys((*ANCHORS, "F"), (1.0, 0.0)))
    assert publish(ledger, store, JAN)[JAN].fit_id == fit_id
    link_made_up(ledger, store, JAN, extra)
    publish(ledger, store, JAN)
    assert publications(ledger) == before
    assert "published already" in proposals(ledger)[JAN, "always"]
    assert "settled before" in proposals(ledger)[JAN, "F"]


def test_repeated_publication_of_the_same_fit_changes_no_rows(ledger: Database, store: FolderStore) -> None:
    first = calibrate(ledger, store, JAN)
    content = (publications(ledger), proposals(ledger))
    second = publish(ledger, store, JAN)[JAN]
    assert (publications(ledger), proposals(ledger)) == content
    assert (second.n_published, second.n_proposed, second.held) == (first.n_published, first.n_proposed, first.held)


def test_anchors_are_only_proposed(ledger: Database, store: FolderStore) -> None:
    calibrate(ledger, store, JAN)
    assert {i: reason for (_, i), reason in proposals(ledger).items()} == dict.fromkeys(
        ANCHORS, "it is an anchor: the anchor set is frozen"
    )
    assert not {row[0] for row in publications(ledger)} & set(ANCHORS)


def test_red_month_neither_publishes_nor_proposes_and_states_the_reason(ledger: Database, store: FolderStore) -> None:
    step = calibrate(ledger, store, JAN, red=True)
    assert step.state == "held"
    assert step.why.startswith("3 anchors disagree (Q = ")
    assert "; decide: take the anchors that changed (a leak, a wrong key, an edited text) out of" in step.why
    assert step.settled_at is None
    assert (publications(ledger), proposals(ledger)) == ([], {})


def test_item_held_back_is_published_by_the_first_month_in_which_the_item_passes(
    ledger: Database, store: FolderStore
) -> None:
    calibrate(ledger, store, JAN)
    link_made_up(ledger, store, FEB, made_up_calibration(dict.fromkeys((*ANCHORS, "held"), (1.0, 0.7))))
    publish(ledger, store, FEB)
    assert ("held", FEB, 0.7, TIMES[FEB]) in publications(ledger)


def fit_again(ledger: Database, store: FolderStore) -> None:
    """The month was fitted again and its run ended there, so the stored linked fit has the old numbers."""
    stage_made_up(ledger, store, JAN, made_up_calibration(dict.fromkeys(ANCHORS, (1.0, 0.0))))


def take_snapshot_again(ledger: Database, _store: FolderStore) -> None:
    run_sql(ledger, "UPDATE scored_snapshot SET superseded_at = now()")
    run_sql(
        ledger,
        """INSERT INTO scored_snapshot
             (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state)
           SELECT month, 'newer', uri, data_hash, n_attempts, counts, rules, verdict_state FROM scored_snapshot""",
    )


@pytest.mark.parametrize(
    ("change", "reason"), [(fit_again, "has not been linked yet"), (take_snapshot_again, "earlier snapshot")]
)
def test_outdated_linked_fit_publishes_no_items(
    ledger: Database, store: FolderStore, change: Callable[[Database, FolderStore], None], reason: str
) -> None:
    link(ledger, store, JAN)
    change(ledger, store)
    step = publish(ledger, store, JAN)[JAN]
    assert (step.state, reason in step.why, publications(ledger)) == ("held", True, [])


def test_snapshots_of_settled_months_are_not_read_again(ledger: Database, store: FolderStore) -> None:
    """Otherwise every step would read the snapshots of all months of a ledger of years."""
    for month in (JAN, FEB):
        calibrate(ledger, store, month)
    link(ledger, store, MAR)
    read = []

    class Recording(FolderStore):
        def version(self, key: str) -> str:  # called at each read
            read.append(key)
            return super().version(key)

    publish(ledger, Recording(store.root), MAR)
    assert {key.split("/")[1] for key in read} == {MAR}


# -- in force ----------------------------------------------------------------------------------------


def test_published_values_are_in_force_from_the_end_of_the_window(ledger: Database, store: FolderStore) -> None:
    calibrate(ledger, store, JAN)
    instant = timedelta(microseconds=1)
    before = call(ledger, in_force, SCALE, TIMES[JAN] - instant)
    at = call(ledger, in_force, SCALE, TIMES[JAN])
    long_before = call(ledger, in_force, SCALE, datetime(2025, 12, 31, tzinfo=UTC))
    assert (set(before.items), set(at.items)) == (set(ANCHORS), {*ANCHORS, "J", "always"})
    assert at.items["always"].abc == (1.1, pytest.approx(0.1), 0.0)
    assert long_before.items == {}
    assert len({before.set_hash, at.set_hash, long_before.set_hash}) == 3


# -- exports -----------------------------------------------------------------------------------------
# `irt export`: values in force on a day, in each kind of file.

EXCEL_DAY = (datetime(2026, 9, 1) - datetime(1899, 12, 30)).days  # noqa: DTZ001 - Excel has no time zones
"""Number of 2026-09-01 in Excel, which counts days from 1899-12-30."""
READERS = {"csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.mark.parametrize("month", rooms.MONTHS)
def test_exported_parameters_equal_the_values_in_force(months: Database, month: str) -> None:
    at = Month(month).end
    frame = call(months, exports.read_export, "parameters", at)
    expected = call(months, in_force, rooms.SCALE, at).items
    assert {row.item_id: (row.a, row.b, row.c) for row in frame.itertuples()} == {
        item: values.abc for item, values in expected.items()
    }


def test_parameters_exported_in_the_format_of_mirt_equal_our_parameters(months: Database) -> None:
    at = Month(rooms.MONTHS[-1]).end
    ours = call(months, exports.read_export, "parameters", at)
    exported = call(months, exports.read_export, "parameters", at, "mirt", 1.7)
    steps = call(months, exports.read_export, "parameters", at, "steps")
    assert exported.item_id.tolist() == ours.item_id.tolist()
    assert exported.columns.tolist() == ["item_id", "scale_id", "a1", "d", "a_se", "b_se", "D"]
    assert (exported.a1 * 1.7).tolist() == pytest.approx(ours.a.tolist())
    assert (-exported.d / exported.a1).tolist() == pytest.approx(ours.b.tolist())
    assert (exported.a_se * 1.7).tolist() == pytest.approx(ours.a_se.tolist())
    assert steps.b1.tolist() == pytest.approx(ours.b.tolist())


def test_exported_abilities_are_the_newest_of_each_learner_at_the_given_time(months: Database) -> None:
    measured = {month: measure(months, month, f"run of {month}")[0] for month in rooms.MONTHS}
    first, last = (Month(month).end for month in rooms.MONTHS)
    early, late = (call(months, exports.read_export, "abilities", at) for at in (first, last))
    assert sorted(early.theta) == sorted(measured[rooms.MONTHS[0]].theta)
    assert not late.duplicated("user_id").any()
    assert sorted(late.theta[late.window_end == last]) == sorted(measured[rooms.MONTHS[1]].theta)
    answered = dict(rooms.rows(months, "SELECT user_id, max(completed_at) FROM attempt GROUP BY 1"))
    assert (late.as_of <= late.user_id.map(answered)).all()
    assert (late.as_of < late.window_end).all()


def test_exported_flags_contain_every_drifted_item(faulty: tuple[Settings, object, object]) -> None:
    settings = faulty[0]
    with Database(settings).connect() as connection:
        frame = exports.read_export(connection, "flags", Month(rooms.MONTHS[1]).end)
        flagged = {
            item
            for (item,) in connection.execute(
                "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'", (rooms.MONTHS[1],)
            )
        }
        before = exports.read_export(connection, "flags", Month(rooms.MONTHS[0]).start)
    assert flagged
    assert set(frame.item_id[frame.source == "drift"]) == flagged
    assert before.empty


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_every_format_of_export_contains_the_same_rows(kind: exports.Kind, tmp_path: Path) -> None:
    """An id that a spreadsheet would run as a formula is unchanged, except for a leading apostrophe in CSV; times
    are in UTC."""
    frame = pd.DataFrame(
        {
            "item_id": ["=1+1", "+1", "-1", "@x", "\t=1", "http://x.example/a", "03", ""],
            "a": [-1.25, 0.1 + 0.2, None, 1, 2, 3, 4, 5],
            "effective_from": [datetime(2026, 9, 1, tzinfo=UTC)] * 8,
        }
    )
    path = tmp_path / f"parameters.{kind}"
    exports.write_export(frame, kind, path, "parameters, as of 2026-09-01")
    if kind == "xlsx":
        with zipfile.ZipFile(path) as book:
            texts, sheet = (book.read(f"xl/{part}.xml").decode() for part in ("sharedStrings", "worksheets/sheet1"))
        assert not missing_sentences(
            texts, *(f">{text}<" for text in ("effective_from (UTC)", *filter(None, frame.item_id)))
        )
        assert missing_sentences(sheet, f">{EXCEL_DAY}<", "<f>", "hyperlink") == ["<f>", "hyperlink"]
    else:
        as_text = {"dtype": {"item_id": str}, "keep_default_na": False, "na_values": {"a": [""]}}
        back = READERS[kind](path, **(as_text if kind == "csv" else {}))
        formulas = ["'=1+1", "'+1", "'-1", "'@x", "'\t=1"] if kind == "csv" else list(frame.item_id[:5])
        assert list(back.item_id) == [*formulas, *frame.item_id[5:]]
        assert back.a.equals(frame.a)
        assert list(pd.to_datetime(back.effective_from)) == list(frame.effective_from)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("n", "name", "reason"),
    [(2**20, "x.xlsx", "1,048,576 rows do not fit"), (1, "nowhere/x.csv", "nowhere")],
    ids=["more rows than a sheet of Excel has", "no such folder"],
)
def test_export_to_an_unwritable_file_is_refused(tmp_path: Path, n: int, name: str, reason: str) -> None:
    assert reason in refusal(
        exports.write_export, pd.DataFrame(index=range(n)), name[-4:].strip("."), tmp_path / name, "x"
    )
    assert list(tmp_path.iterdir()) == []
