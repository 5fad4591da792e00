"""A home of code from before the first release, restored from its backup and upgraded: nothing that was found or
decided has changed, and no month asks to be made again.

`earlier_home.tar.xz` was made by commands of commit a98e52568e, whose schema is 0032. It holds what `irt backup` wrote
(`backup`), the store's files (`objects`), and what commands printed (`said.json`). Pictures were taken out of Dagster's
events, and the dump is not compressed. Of 120 learners a month, June and July 2026 are calibrated on two scales: `left`
is placed by the bank's anchors and has a pass mark, `right` by June as its origin and has a rule of its own. `few` has
too few answers to be fitted. A proposal is accepted and an item withdrawn, both from 2099 on, so that all looks the
same until then; another proposal is rejected, a learner erased, and the invariants were evaluated.
"""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import current_snapshots, read_snapshot
from resources.files.object_store import ObjectStore, object_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema_version import schema_version
from resources.settings import Settings
from tests.helpers.rooms import rows
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.typed import IrtOf
from tests.integration.backups import empty_database

MONTHS = ("2026-06", "2026-07")

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("s3")]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).with_name("earlier_home.tar.xz")) as files:
        files.extractall(tmp_path / "earlier", filter="data")
    return tmp_path / "earlier"


@pytest.fixture
def home(
    earlier: Path, postgres: EmbeddedPostgres, s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A database without a table, and a bucket with the earlier home's files."""
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    with empty_database(postgres.start(), tmp_path / "home") as settings:
        settings = settings.model_copy(update={"s3_bucket": BUCKET})
        store = object_store(settings)
        for file in (earlier / "objects").rglob("*.*"):
            store.put(str(file.relative_to(earlier / "objects")), file.read_bytes())
        yield settings


def within(then: Any, now: Any) -> bool:
    """Whether `now` is `then` but for keys that were not there, files, which were written again, and for last digits,
    which depend on the processor."""
    if isinstance(then, dict) and isinstance(now, dict):
        files = ("rewritten", "snapshot")
        return all(name in now and within(value, now[name]) for name, value in then.items() if name not in files)
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(within, then, now))
    return math.isclose(then, now, rel_tol=1e-12) if isinstance(then, float) else bool(then == now)


def answers_judged_otherwise(database: Database, store: ObjectStore) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Reason in the stored months and in the verdicts, by learner and attempt of answers that count in one of them."""
    with database.connect() as connection:
        snapshots = current_snapshots(connection)
    columns = ("learner_key", "item_id", "completed_at")
    then = {
        tuple(row[name] for name in columns): None if str(row["reason"]).startswith("few_") else row["reason"]
        for snapshot in snapshots.values()
        for row in read_snapshot(store, snapshot, columns=[*columns, "reason"]).to_pylist()
    }
    judged = """SELECT user_id, attempt_id, reason, v.learner_key, item_id, completed_at
                FROM attempt_verdict v JOIN learner USING (learner_key)"""
    return {
        (user, attempt): (then[*answer], reason)
        for user, attempt, reason, *answer in rows(database, judged)
        if tuple(answer) in then and then[*answer] != reason
    }


def test_a_home_of_earlier_code_is_upgraded_with_all_that_was_found_and_decided(
    earlier: Path, home: Settings, irt: IrtOf
) -> None:
    """Its files come into a bucket. The command compares the rows, the sets in force and the invariants."""
    database, typed = Database(home), irt(home)
    (backup,) = (earlier / "backup").iterdir()
    restored = typed("restore", backup, "--verify")
    assert restored.code == 0, restored.err
    assert schema_version(database).fault is None
    assert "three snapshots written again with learners' keys" in typed("db", "upgrade").out
    assert "written again" not in typed("db", "upgrade").out
    store = object_store(home)
    files = [key for key, _ in store.list("snapshots")]
    assert files
    assert not {"user_id", "attempt_id"} & {
        name for key in files for name in pq.read_schema(BytesIO(store.get(key))).names
    }
    for words, then in json.loads((earlier / "said.json").read_text("utf-8")).items():
        now = typed(*words.split()).json
        if words.startswith("status"):  # the rest is of the moment
            of_months = {(one["month"], one["scale_id"]): one for one in now["months"]}
            then, now = then["months"], [of_months[one["month"], one["scale_id"]] for one in then["months"]]
        assert within(then, now), words
    with database.connect() as connection:
        rules = {scale: one.rules.changed() for scale, one in read_scales(connection).items()}
    given = {"min_responses": 50, "min_anchor_responses": 30}
    assert {scale: {name: of[name] for name in given} for scale, of in rules.items() if scale != "few"} == {
        "left": given,
        "right": given,
    }
    assert rules["right"]["max_rmsd"] == 0.08

    theta = """SELECT user_id, scale_id, set_hash, n_items, theta, se FROM mirt_ability
               WHERE (kind, window_end) = ('monthly', %s) ORDER BY 1, 2"""
    end = Month(MONTHS[1]).end
    stored = rows(database, theta, (end,))
    assert len(stored) > 200
    measure(database, MONTHS[1], "again")
    again = rows(database, theta, (end,))
    assert [one[:3] for one in again] == [one[:3] for one in stored]
    counts_otherwise = answers_judged_otherwise(database, store)
    assert {*counts_otherwise.values()} == {("rapid", None), (None, "not_reached")}, "item times, and long sessions"
    others = {user for user, _ in counts_otherwise}
    both = [(now[3:], then[3:]) for now, then in zip(again, stored, strict=True) if now[0] not in others]
    same = [(now, then) for now, then in both if now[0] == then[0]]  # other answers of months without a snapshot
    assert len(same) > 0.8 * len(stored)
    rounded = {"rtol": 1e-12, "atol": 1e-14}  # the latter where θ is near 0
    np.testing.assert_allclose(*zip(*same, strict=True), **rounded)
