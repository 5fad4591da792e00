"""The inbox: files of a folder or a bucket that are imported, left, or set aside."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from irt_assets.intake import inbox as room
from irt_assets.intake.arrivals import source_states
from irt_assets.intake.assets import INBOX_FILE
from irt_assets.intake.inbox import FileOutcome, files_set_aside, import_waiting_files, requeue_files, scan_inbox
from irt_assets.runs.in_process_runs import evaluate_sensor
from irt_assets.servers.instance import dagster_instance
from resources.failures import PermanentFailure, TransientFailure
from resources.files.inbox_files import FOLDERS, FolderInbox, inbox_of
from resources.postgres.database import LOCK, Database, lock_key
from resources.settings import Settings
from tests.helpers.rooms import call
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.typed import IrtOf
from tests.helpers.workbooks import write_cells
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.ci

FIRST = "2026-06"
AT_ONCE = timedelta(0)
HEADER = "attempt_id,user_id,item_id,completed_at,correct\n"


def answers(first: int, last: int, time_of: str = "2026-07-01T12:00:00Z") -> str:
    return "".join(f"a{k},u{k % 7},q{k % 5},{time_of},{k % 2}\n" for k in range(first, last))


class Desk:
    """An inbox in a folder, and a database that imports its files."""

    def __init__(self, database: Database, root: Path) -> None:
        self.database, self.root = database, root
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True)

    def write(self, name: str, text: str | bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def import_waiting(self, **options: Any) -> dict[str, FileOutcome]:
        """Import all waiting files. Returns each file's outcome by name."""
        found = import_waiting_files(self.from_june, FolderInbox(self.root), **{"unchanged_for": AT_ONCE} | options)
        return {str(Path(one.path).relative_to(self.root)): one for one in found}

    @property
    def from_june(self) -> Database:
        return Database(self.database.settings.model_copy(update={"irt_first_month": FIRST}))

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(text.encode()).fetchall()

    def alerts(self) -> list[str]:
        """Keys of the inbox's open alerts."""
        found = self.query("SELECT key FROM alert WHERE resolved_at IS NULL ORDER BY key")
        return [key.replace(f"{self.root}/", "") for (key,) in found]


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path / "inbox")


def outcomes(found: dict[str, FileOutcome]) -> dict[str, str]:
    return {name: one.result for name, one in found.items()}


def test_questions_learners_and_answers_are_imported_by_kind_and_in_order_of_name(desk: Desk) -> None:
    desk.write("attempts/_import.yaml", "strict: true\n")
    desk.write("attempts/b.csv.gz", gzip.compress((HEADER + answers(10, 20)).encode()))
    desk.write("attempts/2026/07/a.csv", HEADER + answers(0, 10))
    desk.write("questions/bank.csv", "item_id\n" + "".join(f"q{k}\n" for k in range(5)))
    desk.write("learners/all.csv", "user_id\n" + "".join(f"u{k}\n" for k in range(7)))
    found = desk.import_waiting()
    assert (list(found), set(outcomes(found).values()), [one.report.accepted for one in found.values()]) == (
        ["questions/bank.csv", "learners/all.csv", "attempts/2026/07/a.csv", "attempts/b.csv.gz"],
        {"taken"},
        [5, 7, 10, 10],
    )
    assert desk.query("SELECT source, kind, accepted FROM intake ORDER BY arrived_at") == [
        (str(desk.root / "questions/bank.csv"), "question", 5),
        (str(desk.root / "learners/all.csv"), "learner", 7),
        (str(desk.root / "attempts/2026/07/a.csv"), "inbox", 10),
        (str(desk.root / "attempts/b.csv.gz"), "inbox", 10),
    ]
    [source] = call(desk.database, source_states)
    assert (source.source, source.stored) == ("inbox", 20)
    assert desk.import_waiting() == {}


def test_file_that_grew_is_read_again_and_its_stored_answers_are_duplicates(desk: Desk) -> None:
    path = desk.write("attempts/day.csv", HEADER + answers(0, 10))
    desk.import_waiting()
    desk.write("attempts/day.csv", HEADER + answers(0, 15))
    report = desk.import_waiting()["attempts/day.csv"].report
    assert (report.accepted, report.duplicates) == (5, 10)
    os.utime(path)
    assert (outcomes(desk.import_waiting()), desk.query("SELECT count(*) FROM intake")) == (
        {"attempts/day.csv": "unchanged"},
        [(2,)],
    )


@pytest.mark.parametrize(
    "name", [".a.csv", "_a.csv", "a.csv.part", "a.tmp", "a.csv~", "_temporary/a.csv", "\udcff.csv"]
)
def test_files_with_temporary_names_are_ignored(desk: Desk, name: str) -> None:
    desk.write(f"attempts/{name}", HEADER + answers(0, 3))
    desk.write("notes.csv", "nobody looks here")
    assert desk.import_waiting() == {}


def test_file_is_imported_after_a_minute_without_changes(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    assert desk.import_waiting(unchanged_for=room.MIN_UNCHANGED) == {}
    desk.query("UPDATE inbox_file SET seen_at = seen_at - interval '61 s' RETURNING 1")
    desk.write("attempts/a.csv", HEADER + answers(0, 5))
    assert desk.import_waiting(unchanged_for=room.MIN_UNCHANGED) == {}
    desk.query("UPDATE inbox_file SET seen_at = seen_at - interval '61 s' RETURNING 1")
    assert desk.import_waiting(unchanged_for=room.MIN_UNCHANGED)["attempts/a.csv"].report.accepted == 5


def test_file_is_imported_even_if_the_clock_was_set_back(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    assert desk.import_waiting(unchanged_for=room.MIN_UNCHANGED) == {}
    desk.query("UPDATE inbox_file SET seen_at = seen_at + interval '1 day' RETURNING 1")
    assert outcomes(desk.import_waiting(unchanged_for=room.MIN_UNCHANGED)) == {"attempts/a.csv": "taken"}


BAD = {
    "garbage.csv": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, ""),
    "broken.csv.gz": (gzip.compress(os.urandom(5000))[:2000], "cannot be read"),
    "naive.csv": (HEADER + answers(0, 3, "2026-07-01 12:00:00"), "zone: Europe/Berlin"),
    "no-ids.csv": ("user_id,item_id,correct\nann,q1,1\n", "neither ids nor times"),
    "points.csv": (HEADER + answers(0, 30).replace(",1\n", ",4\n"), "scores are not 0 and 1"),
    "mostly.csv": (HEADER + answers(0, 4) + answers(4, 10, "never"), "6 of 10 rows were rejected as bad_time"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_file_is_set_aside_completely_and_does_not_block_further_files(desk: Desk, name: str) -> None:
    content, reason = BAD[name]
    path = desk.write(f"attempts/{name}", content)
    desk.write("attempts/z.csv", HEADER + answers(100, 103))
    found = desk.import_waiting()
    assert (outcomes(found), reason in found[f"attempts/{name}"].why) == (
        {f"attempts/{name}": "set aside", "attempts/z.csv": "taken"},
        True,
    )
    assert (desk.alerts(), desk.query("SELECT count(*) FROM response_log"), desk.import_waiting()) == (
        [f"inbox attempts/{name}"],
        [(3,)],
        {},  # the unchanged file is not tried again
    )
    with desk.database.connect() as connection:
        [aside] = files_set_aside(connection)
        assert (aside["path"], reason in aside["problem"]) == (path, True)
        assert requeue_files(connection, []) == [path]
    assert outcomes(desk.import_waiting()) == {f"attempts/{name}": "set aside"}
    desk.write(f"attempts/{name}", HEADER + answers(200, 202))
    assert (outcomes(desk.import_waiting()), desk.alerts()) == ({f"attempts/{name}": "taken"}, [])


def test_file_set_aside_is_imported_after_its_folders_options_are_corrected(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 4, "01.07.2026 21:00").replace(",1\n", ",4\n"))
    assert outcomes(desk.import_waiting()) == {"attempts/a.csv": "set aside"}
    columns = "".join(f"  {name}: {name}\n" for name in HEADER.strip().split(","))
    desk.write("attempts/_map.yaml", f"name: ours\ncolumns:\n{columns}time: {{format: '%d.%m.%Y %H:%M'}}\n")
    desk.write("attempts/_import.yaml", "mapping: _map.yaml\nzone: Asia/Seoul\ndichotomise: at=2\n")
    assert (
        outcomes(desk.import_waiting()),
        desk.query("SELECT DISTINCT completed_at FROM response_log"),
        desk.query("SELECT count(*) FROM response_log WHERE correct"),
        desk.alerts(),
    ) == ({"attempts/a.csv": "taken"}, [(datetime(2026, 7, 1, 12, tzinfo=UTC),)], [(2,)], [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("zoen: Europe/Berlin", "zoen"),
        ("zone: Berlin", "zone: Berlin: unknown"),
        ("mapping: _none.yaml", "_none.yaml"),
        ("dichotomise: half", "half"),
        ("- zone", "YAML"),
        ("strict: perhaps", "strict"),
        ("encoding: klingon", "encoding: 'klingon' is not an encoding"),
        ("zone: 'hunter2", ""),
        ("zone: " + "[" * 5000, ""),
        ("zone: 2026-13-45", ""),
        ("a: &a [hunter2]\nb: [*a]", ""),
        ("# hunter2\n" * 200_000, ""),
    ],
)
def test_invalid_options_are_reported_without_their_content_and_block_their_folder(
    desk: Desk, text: str, why: str
) -> None:
    desk.write("attempts/_import.yaml", text)
    desk.write("attempts/a.csv", HEADER + answers(0, 4))
    desk.write("questions/bank.csv", "item_id\nq1\n")
    found = desk.import_waiting()
    assert outcomes(found) == {"questions/bank.csv": "taken", "attempts/_import.yaml": "set aside"}
    reason = found["attempts/_import.yaml"].why
    assert (why in reason, "hunter2" in reason) == (True, False)
    assert (desk.alerts(), desk.import_waiting()) == (["inbox attempts/_import.yaml"], {})
    desk.write("attempts/_import.yaml", "")
    assert (outcomes(desk.import_waiting()), desk.alerts()) == ({"attempts/a.csv": "taken"}, [])


def test_the_key_scores_a_matrix_of_choices(desk: Desk) -> None:
    desk.write("attempts/_import.yaml", "key: _key.csv\nmapping: _map.yaml\n")
    desk.write("attempts/_key.csv", "item,key\ni1,B\ni2,C\n")
    desk.write("attempts/_map.yaml", "name: ours\ncolumns: {user_id: person, completed_at: at}\nwide: {items: 'i*'}\n")
    desk.write("attempts/m.csv", "person,at,i1,i2\nann,2026-07-01T12:00:00Z,B,B\nbob,2026-07-01T12:00:00Z,A,C\n")
    assert (
        outcomes(desk.import_waiting()),
        desk.query("SELECT user_id, item_id FROM response_log WHERE correct ORDER BY 1"),
    ) == (
        {"attempts/m.csv": "taken"},
        [
            ("ann", "i1"),
            ("bob", "i2"),
        ],
    )


def test_a_read_only_inbox_works(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    places = [desk.root, *(desk.root / folder for folder in FOLDERS)]
    for place in places:
        place.chmod(0o500)
    try:
        before = [(place.stat().st_mtime_ns, sorted(place.iterdir())) for place in places]
        assert outcomes(desk.import_waiting()) == {"attempts/a.csv": "taken"}
        assert [(place.stat().st_mtime_ns, sorted(place.iterdir())) for place in places] == before
    finally:
        for place in places:
            place.chmod(0o700)


def of_no_file(path: Path, kind: str, secret: Path) -> None:
    """Make something at `path` that is no regular file of the inbox."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to({"device": Path("/dev/zero"), "file": secret, "folder": secret.parent}[kind])


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "file", "folder"])
def test_only_regular_files_of_the_inbox_are_read(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    secret = tmp_path_factory.mktemp("s") / "token,user_id,item_id,completed_at,correct"
    secret.write_text(HEADER + answers(100, 105))
    path = desk.root / "attempts/a.csv"
    of_no_file(path, kind, secret)
    desk.write("attempts/z.csv", HEADER + answers(0, 3))
    found = desk.import_waiting()
    assert (outcomes(found), "only regular files are accepted" in found["attempts/a.csv"].why) == (
        {"attempts/a.csv": "set aside", "attempts/z.csv": "taken"},
        True,
    )
    assert "token" not in found["attempts/a.csv"].why
    assert desk.query("SELECT count(*) FROM response_log") == [(3,)]
    path.unlink()
    desk.write("attempts/a.csv", HEADER + answers(5, 6))
    assert (outcomes(desk.import_waiting()), desk.alerts()) == ({"attempts/a.csv": "taken"}, [])


def test_inbox_folder_that_is_a_symbolic_link_is_refused(desk: Desk, tmp_path: Path) -> None:
    (desk.root / "attempts").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (desk.root / "attempts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermanentFailure, match="attempts must be a folder, not a link"):
        desk.import_waiting()


def test_unreadable_folder_does_not_block_further_files(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("attempts/shut/a.csv", HEADER + answers(0, 3))
    desk.write("attempts/z.csv", HEADER + answers(3, 6))
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        found = desk.import_waiting()
    assert (outcomes(found), "a folder that cannot be read" in found["attempts/shut"].why) == (
        {"attempts/shut": "set aside", "attempts/z.csv": "taken"},
        True,
    )
    assert (outcomes(desk.import_waiting()), desk.alerts()) == ({"attempts/shut/a.csv": "taken"}, [])


@pytest.mark.parametrize("option", ["mapping", "key"])
@pytest.mark.parametrize("kind", ["up", "absolute", "link"])
def test_options_name_files_of_their_folder_only(desk: Desk, tmp_path: Path, option: str, kind: str) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: 'hunter2\n")
    (desk.root / "attempts/_link.yaml").symlink_to(secret)
    name = {"up": "../../secret.yaml", "absolute": str(secret), "link": "_link.yaml"}[kind]
    desk.write("attempts/_import.yaml", f"{option}: {name}\n")
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    found = desk.import_waiting()
    assert outcomes(found) == {"attempts/_import.yaml": "set aside"}
    reason = found["attempts/_import.yaml"].why
    assert "only regular files" in reason or "not a name of a file in the inbox" in reason
    assert "hunter2" not in reason


def test_file_whose_reader_raises_is_set_aside_without_its_content(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    desk.write("attempts/z.csv", HEADER + answers(3, 6))
    real = room.open_source

    def opened(path: Path, *options: Any) -> Any:
        if path.read_text().startswith(HEADER + "a0"):
            raise OverflowError("hunter2")
        return real(path, *options)

    monkeypatch.setattr(room, "open_source", opened)
    found = desk.import_waiting()
    assert (outcomes(found), found["attempts/a.csv"].why) == (
        {"attempts/a.csv": "set aside", "attempts/z.csv": "taken"},
        "it cannot be read (OverflowError)",
    )


def test_vanished_or_unreadable_file_is_reported(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    vanished, closed = desk.write("attempts/gone.csv", HEADER), desk.write("attempts/shut.csv", HEADER + answers(0, 2))
    real = os.open

    def as_another_account(path: Any, *options: Any, **more: Any) -> int:
        if path == "gone.csv":
            Path(vanished).unlink()
        if path == "shut.csv":
            raise PermissionError(13, "Permission denied", closed)
        return real(path, *options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", as_another_account)
        found = desk.import_waiting()
    assert (outcomes(found), "Permission denied" in found["attempts/shut.csv"].why) == (
        {"attempts/gone.csv": "vanished", "attempts/shut.csv": "set aside"},
        True,
    )
    Path(closed).chmod(0o640)
    assert (outcomes(desk.import_waiting()), desk.query("SELECT path FROM inbox_file")) == (
        {"attempts/shut.csv": "taken"},
        [(closed,)],
    )


def test_unreadable_inbox_is_reported(database: Database, tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"nowhere cannot be read: No such file"):
        list(import_waiting_files(database, FolderInbox(tmp_path / "nowhere")))


def test_second_process_waits_while_the_first_imports_the_inbox(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    waits = """SELECT count(*) = 1 FROM pg_locks JOIN pg_database d ON d.oid = database
               WHERE NOT granted AND datname = current_database()"""
    with ThreadPoolExecutor(1) as pool:
        with desk.database.open(autocommit=True) as other:
            other.execute(f"SELECT pg_advisory_lock({LOCK})".encode(), (lock_key("inbox"),))
            taking = pool.submit(desk.import_waiting)
            wait_for("it to wait", lambda: desk.query(waits) == [(True,)])
        assert outcomes(taking.result()) == {"attempts/a.csv": "taken"}


KILLED = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from irt_assets.intake import inbox
from resources.files.inbox_files import FolderInbox
from resources.postgres.database import Database
from resources.settings import Settings
real = inbox.ingest_answers
def dies(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), int(sys.argv[3]))
inbox.ingest_answers = dies
database = Database(Settings(database_url=sys.argv[1], irt_first_month="2026-06", _env_file=None))
list(inbox.import_waiting_files(database, FolderInbox(Path(sys.argv[2])), unchanged_for=timedelta(0)))
"""


def end_during_import(desk: Desk, signal_number: int) -> int:
    """Import in a process that gets a signal before the first file's commit. Returns the process's exit status."""
    arguments = [sys.executable, "-c", KILLED, desk.database.url, str(desk.root), str(int(signal_number))]
    return subprocess.run(arguments, capture_output=True, text=True, check=False).returncode


def test_file_whose_import_died_twice_is_set_aside_and_later_files_are_imported(desk: Desk) -> None:
    path = desk.write("attempts/a.csv", HEADER + answers(0, 30))
    desk.write("attempts/b.csv", HEADER + answers(30, 40))
    desk.write("attempts/c.csv", HEADER + answers(40, 50))
    assert [end_during_import(desk, signal.SIGKILL) for _ in range(2)] == [-signal.SIGKILL] * 2
    found = desk.import_waiting()
    assert outcomes(found) == {"attempts/a.csv": "set aside", "attempts/b.csv": "taken", "attempts/c.csv": "taken"}
    assert "began 2 times and the process died each time" in found["attempts/a.csv"].why
    assert (desk.alerts(), desk.import_waiting()) == (["inbox attempts/a.csv"], {})
    call(desk.database, requeue_files, [path])
    assert end_during_import(desk, signal.SIGKILL) == -signal.SIGKILL
    assert (outcomes(desk.import_waiting()), desk.alerts()) == ({"attempts/a.csv": "taken"}, [])
    desk.write("attempts/a.csv", HEADER + answers(0, 35))
    assert end_during_import(desk, signal.SIGKILL) == -signal.SIGKILL
    assert outcomes(desk.import_waiting()) == {"attempts/a.csv": "taken"}, "a new version has a new count"


def test_file_whose_import_was_told_to_stop_twice_is_imported(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 30))
    stopped = [end_during_import(desk, signal.SIGTERM) for _ in range(2)]
    assert (stopped, desk.query("SELECT begun FROM inbox_file")) == ([128 + signal.SIGTERM] * 2, [(0,)])
    assert outcomes(desk.import_waiting()) == {"attempts/a.csv": "taken"}


def test_workbook_with_a_cell_far_from_its_table_is_set_aside_and_later_files_are_imported(
    desk: Desk,
) -> None:
    write_cells(desk.root / "attempts/a.xlsx", {"A1": 1, "XFD1048576": 2})
    desk.write("attempts/b.csv", HEADER + answers(0, 10))
    desk.write("attempts/c.csv", HEADER + answers(10, 20))
    found = desk.import_waiting()
    assert outcomes(found) == {"attempts/a.xlsx": "set aside", "attempts/b.csv": "taken", "attempts/c.csv": "taken"}
    assert "delete the rows and columns beyond the table" in found["attempts/a.xlsx"].why


def test_file_of_a_killed_import_is_imported_completely_by_the_next_run(desk: Desk) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 300))
    assert end_during_import(desk, signal.SIGKILL) == -signal.SIGKILL
    assert desk.query("SELECT count(*) FROM response_log") == [(0,)]
    report = desk.import_waiting()["attempts/a.csv"].report
    assert (report.accepted, report.duplicates) == (300, 0)


def test_file_that_changes_during_its_import_is_not_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    real = room.ingest_answers

    def beside_a_look(*given: Any, **options: Any) -> None:
        real(*given, **options)
        desk.write("attempts/a.csv", HEADER + answers(0, 5))
        call(desk.database, scan_inbox, FolderInbox(desk.root))

    with monkeypatch.context() as patch:
        patch.setattr(room, "ingest_answers", beside_a_look)
        with pytest.raises(TransientFailure, match="was written again"):
            desk.import_waiting()
    assert (
        desk.query("SELECT count(*) FROM response_log"),
        desk.import_waiting()["attempts/a.csv"].report.accepted,
    ) == (
        [(0,)],
        5,
    )


@pytest.fixture
def with_inbox(desk: Desk, settings: Settings) -> Settings:
    return settings.model_copy(update={"irt_inbox": str(desk.root), "irt_first_month": FIRST})


@pytest.fixture
def sensing(with_inbox: Settings) -> Iterator[Callable[[], list[str]]]:
    """A function that ticks the sensor and returns the file of each requested run, in order. All runs succeed."""
    with dagster_instance(with_inbox, Database(with_inbox)) as instance:

        def tick() -> list[str]:
            outcomes = list(evaluate_sensor(instance, with_inbox, "intake"))
            assert all(one.success for one in outcomes), [one.why for one in outcomes]
            runs = [instance.get_run_by_id(one.run_id) for one in outcomes]
            return [run.tags[INBOX_FILE] for run in runs if run is not None]

        yield tick


def settle(desk: Desk) -> None:
    """Set the time at which all waiting files were first seen to a minute ago."""
    with desk.database.connect() as connection:
        scan_inbox(connection, FolderInbox(desk.root))
        connection.execute("UPDATE inbox_file SET seen_at = seen_at - interval '61 s' WHERE taken_at IS NULL")


def test_sensor_requests_a_run_per_file_in_the_order_items_learners_answers(
    desk: Desk, sensing: Callable[[], list[str]]
) -> None:
    assert sensing() == []
    desk.write("attempts/_import.yaml", "strict: true\n")
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    desk.write("attempts/bad.csv", HEADER + answers(0, 3, "never"))
    desk.write("learners/all.csv", "user_id\nu0\nu1\nu2\n")
    desk.write("questions/bank.csv", "item_id\nq0\nq1\nq2\n")
    assert sensing() == [], "every file may still be incomplete"
    settle(desk)
    assert (sensing(), sensing(), sensing()) == (
        ["questions/bank.csv"],
        ["learners/all.csv"],
        ["attempts/a.csv", "attempts/bad.csv"],
    )
    assert (desk.query("SELECT count(*) FROM response_log"), desk.alerts()) == ([(3,)], ["inbox attempts/bad.csv"])
    assert sensing() == []


def test_invalid_options_are_reported_once_for_all_files_of_their_folder(desk: Desk) -> None:
    desk.write("attempts/_import.yaml", "zone: Berlin\n")
    names = [f"attempts/{letter}.csv" for letter in "ab"]
    for name in names:
        desk.write(name, HEADER + answers(0, 3))
    inbox = FolderInbox(desk.root)
    done = [[*import_waiting_files(desk.from_june, inbox, name, unchanged_for=AT_ONCE)] for name in names]
    assert [len(outcomes) for outcomes in done] == [1, 0]
    assert desk.alerts() == ["inbox attempts/_import.yaml"]


def test_sensor_requests_a_file_again_after_a_change_or_a_persons_request(
    desk: Desk, sensing: Callable[[], list[str]]
) -> None:
    path = desk.write("attempts/a.csv", HEADER + answers(0, 3))
    settle(desk)
    assert sensing() == ["attempts/a.csv"]
    desk.write("attempts/a.csv", HEADER + answers(0, 5))
    assert sensing() == []
    settle(desk)
    assert sensing() == ["attempts/a.csv"]
    call(desk.database, requeue_files, [path])
    settle(desk)
    assert sensing() == ["attempts/a.csv"]
    assert desk.query("SELECT count(*) FROM response_log") == [(5,)]


def test_file_whose_run_failed_is_requested_again_after_ten_minutes(
    desk: Desk, with_inbox: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("attempts/a.csv", HEADER + answers(0, 3))
    settle(desk)

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with dagster_instance(with_inbox, Database(with_inbox)) as instance:
        with monkeypatch.context() as patch:
            patch.setattr(room, "open_source", full)
            [failed] = evaluate_sensor(instance, with_inbox, "intake")
            assert not failed.success
        assert list(evaluate_sensor(instance, with_inbox, "intake")) == []
        monkeypatch.setattr("jobs.intake.PAUSE", AT_ONCE)
        [outcome] = evaluate_sensor(instance, with_inbox, "intake")
        assert outcome.success, outcome.why
    assert desk.query("SELECT count(*) FROM response_log") == [(3,)]


def test_command_lists_files_set_aside_and_requeues_a_named_file(desk: Desk, settings: Settings, irt: IrtOf) -> None:
    bad = desk.write("attempts/bad.csv", HEADER + answers(0, 3, "2026-05-31T12:00:00Z"))
    desk.import_waiting()
    typed = irt(settings.model_copy(update={"irt_inbox": str(desk.root)}))
    listed = typed("intake", "list").out
    assert "set aside" in listed
    assert "time_before_first_month" in listed.replace("\n", "")
    assert typed("intake", "again", "/nowhere.csv").code == 2
    assert desk.query("SELECT count(*) FROM inbox_file WHERE problem IS NULL") == [(0,)]
    assert bad in typed("intake", "again", bad).out.replace("\n", "")
    assert desk.query("SELECT path FROM inbox_file WHERE problem IS NULL") == [(bad,)]


@pytest.mark.xdist_group("s3")
def test_inbox_in_a_bucket_is_imported_immediately_and_identifies_files_by_etag(
    s3: SeaweedFS, desk: Desk, settings: Settings
) -> None:
    def put(name: str, text: str) -> None:
        s3.owner().put_object(Bucket=BUCKET, Key=f"in/{name}", Body=text.encode())

    def take() -> dict[str, str]:
        changed_settings = {"irt_inbox": f"s3://{BUCKET}/in", "irt_first_month": FIRST}
        bucket = settings.model_copy(update=changed_settings)
        inbox = inbox_of(bucket)
        assert inbox is not None
        found = import_waiting_files(Database(bucket), inbox)
        return {one.path: f"{one.result} {one.report.accepted} {one.report.duplicates}" for one in found}

    at = f"s3://{BUCKET}/in"
    put("attempts/_import.yaml", "zone: UTC\n")
    put("attempts/a.csv", HEADER + answers(0, 3, "2026-07-01 12:00:00"))
    put("attempts/b.csv.part", "x")
    put("attempts/bad.csv", "nothing,of,ours\n1,2,3\n")
    assert take() == {f"{at}/attempts/a.csv": "taken 3 0", f"{at}/attempts/bad.csv": "set aside 0 0"}
    [(problem,)] = desk.query("SELECT problem FROM inbox_file WHERE problem IS NOT NULL")
    assert f"{at}/attempts/bad.csv" in problem
    put("attempts/a.csv", HEADER + answers(0, 5, "2026-07-01 12:00:00"))
    assert take() == {f"{at}/attempts/a.csv": "taken 2 3"}
