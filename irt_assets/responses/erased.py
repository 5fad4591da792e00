"""Who was erased: what is kept of them is a salted hash, and which snapshots were written again without them.

The hash keeps an old file from bringing a learner back (see `intake`). The rewritten snapshots say why a hash in the
ledger's history is another than the one that a fit began with. What does not belong here: erasing (see
`jobs.retention.erasure`).
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from resources.postgres.database import one_value, records

HASHED = "encode(sha256({salt} || convert_to({user_id}, 'UTF8')), 'hex')"
"""What is kept of a learner's id, both given as expressions."""


@dataclass(frozen=True)
class Rewrite:
    """A snapshot that was written again: hash and place before and after. `old_data`, `new_data`: the hash of the
    answers, before and after, of the snapshot that a month rests on."""

    old: str
    new: str
    old_uri: str
    new_uri: str
    old_data: str = ""
    new_data: str = ""


@dataclass(frozen=True)
class Erasure:
    """A tombstone. `finished_at`: None where it was interrupted; `removed`: rows and files by where they were."""

    erasure_id: int
    erased_by: str
    reason: str
    begun_at: datetime
    finished_at: datetime | None
    removed: dict[str, int]
    rewritten: list[dict[str, str]]

    @property
    def name(self) -> str:
        return _name(self.erasure_id, self.begun_at)

    @property
    def rewrites(self) -> list[Rewrite]:
        return [Rewrite(**one) for one in self.rewritten]


_COLUMNS = "erasure_id, erased_by, reason, begun_at, finished_at, removed, rewritten"


def erasures(connection: psycopg.Connection) -> list[Erasure]:
    """Every tombstone, the first one first."""
    return _read(connection, "true")


def erasures_of(connection: psycopg.Connection, user_id: str) -> list[Erasure]:
    """The erasures of a learner, the first one first."""
    return _read(connection, f"learner_hash = {HASHED.format(salt='salt', user_id='%s::text')}", user_id)


def _read(connection: psycopg.Connection, condition: str, *values: Any) -> list[Erasure]:
    query = f"SELECT {_COLUMNS} FROM erasure e WHERE {condition} ORDER BY erasure_id"
    return records(connection, Erasure, query.encode(), values)


def names_of_erased(connection: psycopg.Connection) -> Callable[[str], str]:
    """A function of a learner's id that names the erasure, or gives nothing where there is none."""
    rows = connection.execute("SELECT salt, learner_hash, erasure_id, begun_at FROM erasure ORDER BY erasure_id")
    known = {(salt, digest): _name(number, at) for salt, digest, number, at in rows}
    salts = {salt for salt, _ in known}

    def name(user_id: str) -> str:
        return next((known[key] for salt in salts if (key := (salt, _hash(salt, user_id))) in known), "")

    return name


def _name(erasure_id: int, begun_at: datetime) -> str:
    return f"erasure {erasure_id} of {begun_at:%Y-%m-%d}"


def _hash(salt: bytes, user_id: str) -> str:
    return hashlib.sha256(salt + user_id.encode()).hexdigest()


def begin(connection: psycopg.Connection, user_id: str, by: str, reason: str) -> int:
    """Record that a learner is being erased; the id of the erasure. All erasures share one salt, so that an import
    hashes each learner once."""
    salt = one_value(connection, "SELECT salt FROM erasure ORDER BY erasure_id LIMIT 1") or secrets.token_bytes(32)
    return one_value(
        connection,
        "INSERT INTO erasure (learner_hash, salt, erased_by, reason) VALUES (%s, %s, %s, %s) RETURNING erasure_id",
        (_hash(salt, user_id), salt, by, reason),
    )


def record(
    connection: psycopg.Connection, erasure_id: int, removed: dict[str, int], rewritten: Collection[Rewrite]
) -> None:
    """Add to the tombstone what was removed and rewritten, in the transaction that does so."""
    connection.execute(
        """UPDATE erasure SET rewritten = rewritten || %s::jsonb, removed = (
             SELECT coalesce(jsonb_object_agg(name, n), '{}') FROM (
               SELECT key AS name, sum(value::bigint) AS n FROM (
                 SELECT * FROM jsonb_each_text(removed) UNION ALL SELECT * FROM jsonb_each_text(%s::jsonb)) every
               GROUP BY key) added)
           WHERE erasure_id = %s""",
        (json.dumps([asdict(one) for one in rewritten]), json.dumps(removed), erasure_id),
    )


def finish(connection: psycopg.Connection, erasure_id: int) -> None:
    connection.execute("UPDATE erasure SET finished_at = now() WHERE erasure_id = %s", (erasure_id,))


def rewrites_behind(connection: psycopg.Connection) -> Callable[[str], list[tuple[Erasure, Rewrite]]]:
    """A function of a snapshot's hash that gives the erasures that led to it, the last one first; none where nobody
    was erased from it. The tombstones are read once."""
    made_by = {rewrite.new: (one, rewrite) for one in erasures(connection) for rewrite in one.rewrites}

    def behind(snapshot_hash: str) -> list[tuple[Erasure, Rewrite]]:
        found: list[tuple[Erasure, Rewrite]] = []
        while snapshot_hash in made_by and made_by[snapshot_hash] not in found:
            found.append(made_by[snapshot_hash])
            snapshot_hash = found[-1][1].old
        return found

    return behind


def rewrites_in_words(behind: Collection[tuple[Erasure, Rewrite]]) -> str:
    """Why a snapshot's hash changed, in words; empty where it did not."""
    return "; ".join(f"a learner was erased from it ({one.name}), before: {was.old[:12]}…" for one, was in behind)
