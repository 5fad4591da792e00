"""An installation of the release before months closed is upgraded: its files are written again without ids, months
close with them, and nothing is fitted again."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from irt_assets.common.partitions import Month
from irt_assets.ledger import snapshot_upgrade
from irt_assets.responses.facts import KEY
from irt_assets.responses.snapshot import Snapshot, current_snapshots, read_snapshot
from irt_assets.responses.snapshot_files import store_parquet
from resources.files.object_store import FolderStore
from resources.postgres import schema
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import IrtOf

JUNE, JULY = rooms.MONTHS
RELEASE_BEFORE = "0052_movement"
FITS = "SELECT fit_id, fitted_at, snapshot_hash FROM {} ORDER BY fit_id"
STATES = "SELECT month, state, decided_by, snapshot_hash FROM month_state"
PUBLISHED = "SELECT * FROM item_parameter_publication ORDER BY publication_id"


@pytest.fixture
def settings(published: Settings) -> Settings:
    """Both months of the small world were published, and July waits once more for an earlier month."""
    database, store = Database(published), rooms.folder_store(published)
    for snapshot in snapshots(database).values():
        name_learners(database, store, snapshot)
    schema.downgrade(database, RELEASE_BEFORE)
    run_sql(database, "UPDATE publication_step SET state = 'pending' WHERE month = %s", (JULY,))
    run_sql(database, "UPDATE calibration_scale SET rules = rules || '{\"late_days\": null}'")
    return published


def snapshots(database: Database) -> dict[str, Snapshot]:
    with database.connect() as connection:
        return current_snapshots(connection)


def name_learners(database: Database, store: FolderStore, snapshot: Snapshot) -> None:
    """Store a snapshot as earlier releases did, with the ids of attempts, learners and sessions."""
    table = read_snapshot(store, snapshot)
    users: dict[int, str] = dict(rows(database, "SELECT learner_key, user_id FROM learner"))
    ids = {
        "attempt_id": pa.array([f"a{row:08d}" for row in table["row"].to_pylist()]),
        "user_id": pa.array([users[key] for key in table[KEY].to_pylist()]),
        "session_id": table["session"].cast(pa.string()),
    }
    others = {name: table[name] for name in table.column_names if name not in ("row", "session", KEY)}
    former = store_parquet(store, f"scored_responses/{snapshot.month}", pa.table(ids | others))
    store.delete(snapshot.uri)
    where = (former.sha256, snapshot.snapshot_hash)
    run_sql(database, "UPDATE scored_snapshot SET uri = %s WHERE snapshot_hash = %s", (former.key, where[1]))
    for name in ("scored_snapshot", "fit_staging", "mirt_fit_meta"):
        run_sql(database, f"UPDATE {name} SET snapshot_hash = %s WHERE snapshot_hash = %s", where)


def test_upgrade_closes_the_published_month_and_fits_nothing_again(settings: Settings, irt: IrtOf) -> None:
    database, store, typed = Database(settings), rooms.folder_store(settings), irt(settings)
    before = {name: rows(database, FITS.format(name)) for name in ("fit_staging", "mirt_fit_meta")}
    published = rows(database, PUBLISHED)
    [(june,)] = rows(database, "SELECT snapshot_hash FROM scored_snapshot WHERE month = %s", (JUNE,))
    late = rooms.attempt("somebody new", "i01", Month(JUNE).end - timedelta(days=1))
    rooms.add_attempts(database, [late])  # the month is stale

    upgraded = typed("db", "upgrade")
    assert upgraded.code == 0, upgraded.err
    for said in ("two snapshots written again", "late_days was empty and is 14 now", f"stored files: {JUNE};"):
        assert said in upgraded.out
    assert "wait to be judged, which takes about one minute" in upgraded.out
    assert rows(database, STATES) == [(JUNE, "closed", "upgrade", june)]
    assert {name: rows(database, FITS.format(name)) for name in before} == before
    assert rows(database, PUBLISHED) == published
    assert len(rows(database, "SELECT FROM snapshot_rewrite WHERE old_hash <> new_hash")) == len(rooms.MONTHS)
    for snapshot in snapshots(database).values():
        assert not {"user_id", "attempt_id", "session_id"} & {*read_snapshot(store, snapshot).column_names}
    results = {one["name"]: one for one in typed("invariants", "run", "--json").json["invariants"]}
    for name in ("snapshots_match_their_hash", "published_parameters_come_from_sound_fits"):
        assert results[name]["violations"] == [], name

    again = typed("db", "upgrade")
    assert again.code == 0
    assert not any(said in again.out for said in ("written again", "late_days", "stored files"))
    assert rows(database, STATES) == [(JUNE, "closed", "upgrade", june)]


def test_upgrade_that_dies_while_files_are_written_is_completed_by_the_next(
    settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    cite, typed = snapshot_upgrade._cite, irt(settings)
    cited: list[str] = []

    def dies_at_the_second(connection: object, former: str, new: str) -> None:
        cited.append(former)
        if len(cited) == len(rooms.MONTHS):
            raise KeyboardInterrupt
        cite(connection, former, new)  # type: ignore[arg-type]

    with monkeypatch.context() as until_then:
        until_then.setattr(snapshot_upgrade, "_cite", dies_at_the_second)
        assert typed("db", "upgrade").code != 0
    assert "one snapshot written again" in typed("db", "upgrade").out
    store = rooms.folder_store(settings)
    assert len([key for key, _ in store.list("snapshots/scored_responses")]) == len(rooms.MONTHS)
    for snapshot in snapshots(Database(settings)).values():
        assert KEY in read_snapshot(store, snapshot).column_names
