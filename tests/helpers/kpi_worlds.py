"""Random learners with every edge case of the KPIs, in memory, in DuckDB and in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from irt_assets.common.partitions import months_between
from irt_assets.ledger.encoding import item_as_json
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses import verdicts as stored_verdicts
from irt_assets.responses.item_time import ensure_item_times
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow
from resources.cluster.relational import Run, on_duckdb
from resources.postgres.database import Database
from resources.postgres.log_months import make_verdict_month
from tests.helpers.kpi_reference import Attempt, World, verdicts
from tests.testbed.partitions import ensure_month_partitions

WEEK = "2026-10-26"
END = datetime(2026, 11, 2, tzinfo=UTC)
"""End of the week, in which summer time ends in New York. The look-backs contain its end in Europe and a leap day."""

ATTEMPT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("topic_id", pa.string()),
        ("session_id", pa.string()),
        ("form_id", pa.string()),
        ("position", pa.int32()),
        ("started_at", pa.timestamp("us", "UTC")),
        ("completed_at", pa.timestamp("us", "UTC")),
        ("correct", pa.bool_()),
        ("response", pa.string()),
        ("response_time_ms", pa.int64()),
        ("hint_used", pa.bool_()),
        ("hints_used", pa.int32()),
        ("mode", pa.string()),
        ("recorded_at", pa.timestamp("us", "UTC")),
    ]
)
VERDICT_SCHEMA = pa.schema(
    [
        ("learner_key", pa.int64()),
        ("item_id", pa.string()),
        ("completed_at", pa.timestamp("us", "UTC")),
        ("reason", pa.string()),
        ("score", pa.int16()),
        ("max_score", pa.int16()),
    ]
)


def attempt(number: int, user: str, item: str, at: datetime, **others: Any) -> Attempt:
    """Returns a live, correct answer without further values, apart from `others`."""
    row = dict.fromkeys(ATTEMPT_SCHEMA.names) | {
        "id": f"{number:06d}",
        "user_id": user,
        "item_id": item,
        "completed_at": at,
        "correct": True,
        "mode": "live",
    }
    assert not set(others) - set(row)
    return row | others


def random_world(
    seed: int, *, end: datetime = END, learners: int = 24, scales: tuple[str, ...] = ("math", "read")
) -> World:
    """Learners with one to hundreds of answers, including nulls, zeros, ties, repeats, omissions, hints and haste."""
    rng = np.random.default_rng(seed)
    items: dict[str, tuple[str, str | None]] = {}
    published: dict[str, dict[str, tuple[float, float, float]]] = {scale: {} for scale in scales}
    for scale in scales:
        for j in range(70):
            item = f"{scale}-{j:02d}"
            items[item] = (scale, None if j % 9 == 0 else f"topic {j % 4}")
            if j % 10:
                c = 0.2 if j % 7 == 0 else 0.0
                published[scale][item] = (float(rng.lognormal(0, 0.3)), float(rng.normal(0, 1)), c)
    known: dict[str, dict[str, Any]] = {}
    attempts: list[Attempt] = []
    names = [*items, "not in the bank"]
    for i in range(learners):
        user = f"u{i:02d}"
        if i % 6:  # every sixth learner has answers but no record
            known[user] = {
                "target_scale_id": None if i % 5 == 0 else scales[i % len(scales)] if i % 11 else "no such scale",
                "target_theta": None if i % 7 == 0 else float(rng.normal(0, 1)),
                "is_test": i % 13 == 0,
            }
        amount = [1, 3, 30, 150, 330][i % 5]
        spans = [400, 90, 56, 50, 25]
        idle = 20.0 if i % 4 == 3 else 0.0
        places = rng.choice(len(names), amount, replace=i % 3 == 0 or amount > len(names))
        for k in range(amount):
            span = spans[rng.integers(len(spans))]
            at = end - timedelta(days=idle) - timedelta(microseconds=int(rng.random() * span * 86400e6) + 1)
            if k % 17 == 0:  # exactly at the edge of a window
                at = end - timedelta(days=int(rng.choice([14, 28, 56, 180, 365]))) - timedelta(microseconds=int(k % 2))
            item = names[places[k]]
            seen = rng.random()
            practice = rng.random() < 0.6
            attempts.append(
                attempt(
                    len(attempts),
                    user,
                    item,
                    at,
                    topic_id=items.get(item, ("", None))[1] or "unknown",
                    session_id=None if i % 8 == 5 or seen < 0.1 else f"s{at:%m%d}-{k % 3}",
                    form_id=None if practice else "A",
                    position=None if seen > 0.8 else int(rng.integers(1, 12)),
                    started_at=None
                    if i % 9 == 4 or seen < 0.2
                    else at - timedelta(seconds=float(rng.normal(300, 200))),
                    correct=None if rng.random() < 0.12 else bool(rng.random() < 0.65),
                    response_time_ms=[None, 0, 300, int(rng.lognormal(10, 0.6))][min(3, int(rng.random() * 20))],
                    hints_used=None
                    if i % 10 == 7 or rng.random() < 0.2
                    else int(rng.random() < 0.2) * int(rng.integers(1, 6)),
                    mode="sandbox" if rng.random() < 0.05 else "live",
                )
            )
            if rng.random() < 0.04:  # two answers at the same instant
                attempts.append(attempts[-1] | {"id": f"{len(attempts):06d}", "correct": bool(rng.random() < 0.5)})
    return World(
        attempts,
        items,
        published,
        known,
        {scales[0]: {"rapid_min_times": 4, "lookback_months": 3}, scales[-1]: {"hinted": "exclude"}},
        {scales[0]: (0.2, 1.1)},
    )


def scales_of(world: World) -> dict[str, Scale]:
    return {
        scale: Scale(
            scale, *world.population.get(scale, (0.0, 1.0)), rules=Rules.from_settings(world.rules.get(scale, {}))
        )
        for scale in sorted(world.scales())
    }


def published_of(world: World) -> dict[str, PublishedSet]:
    return {
        scale: PublishedSet({item: ItemRow(*abc) for item, abc in world.published.get(scale, {}).items()}, "made up")
        for scale in world.scales()
    }


def in_duckdb(world: World) -> Run:
    """Returns DuckDB with the world and the verdicts of the reference."""
    connection = duckdb.connect()
    run = on_duckdb(connection)
    connection.register("attempt", pa.Table.from_pylist(world.attempts, ATTEMPT_SCHEMA))
    connection.register(
        "question", _rows({"item_id": i, "scale_id": s, "topic_id": t} for i, (s, t) in world.items.items())
    )
    users = sorted({a["user_id"] for a in world.attempts} | world.learners.keys())
    keys = {user: key for key, user in enumerate(users)}
    known = {user: {"learner_key": keys[user]} | world.learners.get(user, {}) for user in users}
    connection.register("learner", _learners(known))
    counted = [a | {"learner_key": keys[a["user_id"]], "score": score} for a, score in verdicts(world)]
    connection.register(
        "attempt_verdict",
        pa.Table.from_pylist([{name: a.get(name) for name in VERDICT_SCHEMA.names} for a in counted], VERDICT_SCHEMA),
    )
    return run


def _rows(rows: Any) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def _learners(learners: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    schema = {
        "learner_key": pa.int64(),
        "target_scale_id": pa.string(),
        "target_theta": pa.float64(),
        "is_test": pa.bool_(),
    }
    usual = {"target_scale_id": None, "target_theta": None, "is_test": False}
    rows = [{"user_id": user} | usual | dict(values) for user, values in learners.items()]
    return pa.Table.from_pylist(rows, pa.schema([("user_id", pa.string()), *schema.items()]))


def load(database: Database, world: World) -> None:
    """Load the world with the verdicts of the reference. Initialises its scales and puts their parameters in force."""
    months = [a["completed_at"].strftime("%Y-%m") for a in world.attempts]
    with database.connect() as connection, connection.cursor() as cursor:
        ensure_month_partitions(connection, min(months), max(months))
        cursor.executemany(
            "INSERT INTO question (item_id, scale_id, topic_id) VALUES (%s, %s, %s)",
            [(item, scale, topic) for item, (scale, topic) in world.items.items()],
        )
        cursor.executemany(
            "INSERT INTO learner (user_id, attributes, is_test, target_scale_id, target_theta)"
            " VALUES (%s, '{}', %s, %s, %s)",
            [
                (user, values.get("is_test", False), values.get("target_scale_id"), values.get("target_theta"))
                for user, values in world.learners.items()
            ],
        )
        columns = ["id", *(c for c in ATTEMPT_SCHEMA.names if c not in ("id", "topic_id", "hint_used", "recorded_at"))]
        cursor.executemany(
            f"INSERT INTO response_log (attempt_id, {', '.join(columns[1:])})"
            f" VALUES ({', '.join(['%s'] * len(columns))})".encode(),
            [[a[c] for c in columns] for a in world.attempts],
        )
        for scale in scales_of(world).values():
            cursor.execute(
                "INSERT INTO calibration_scale (scale_id, origin, mu, sigma, rules) VALUES (%s, '{}', %s, %s, %s)",
                (scale.scale_id, scale.mu, scale.sigma, json.dumps(scale.rules.non_defaults())),
            )
        cursor.executemany(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES (%s, %s, %s, '2000-01-01', 'origin', 'made up', '', '')""",
            [
                (s, item, item_as_json(ItemRow(*values)))
                for s, items in world.published.items()
                for item, values in items.items()
            ],
        )
        for month in months_between(min(months), max(months)):
            make_verdict_month(connection, month)
        cursor.executemany(
            """INSERT INTO attempt_verdict
                 (attempt_id, completed_at, learner_key, item_id, scale_id, score, rules_hash, recorded_at, judged_at)
               SELECT %s, %s, learner_key, %s, %s, %s, 0, now(), now() FROM learner WHERE user_id = %s""",
            [
                (a["id"], a["completed_at"], a["item_id"], world.scale_of(a["item_id"]), score, a["user_id"])
                for a, score in verdicts(world)
            ],
        )
        cursor.execute(
            """INSERT INTO attempt_verdict
                 (attempt_id, completed_at, learner_key, item_id, scale_id, reason, rules_hash, recorded_at, judged_at)
               SELECT r.attempt_id, r.completed_at, learner_key, r.item_id, coalesce(q.scale_id, 'default'), 'repeat',
                      0, r.recorded_at, now()
               FROM response_log r JOIN learner USING (user_id) LEFT JOIN question q ON q.item_id = r.item_id
               WHERE NOT EXISTS (SELECT FROM attempt_verdict v WHERE v.attempt_id = r.attempt_id)"""
        )
    mark_judged(database, min(a["completed_at"] for a in world.attempts).date(), END.date())


def mark_judged(database: Database, start: date, end: date) -> None:
    """Mark the days of [start, end) as judged, as judging a year takes a minute."""
    with database.connect() as connection:
        for month in months_between(f"{start:%Y-%m}", f"{end:%Y-%m}"):
            ensure_item_times(connection, month.previous)
        for fingerprint in stored_verdicts._differing_fingerprints(connection, start, end):
            stored_verdicts._store_fingerprint(connection, fingerprint)
