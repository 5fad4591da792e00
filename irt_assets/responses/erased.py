"""Who was erased: what is kept of them is a salted hash.

The hash keeps an old file from bringing a learner back (see `intake`). What does not belong here: erasing (see
`jobs.retention.erasure`).
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from resources.postgres.database import one_value, records

HASHED = "encode(sha256({salt} || convert_to({user_id}, 'UTF8')), 'hex')"
"""What is kept of a learner's id, both given as expressions."""


@dataclass(frozen=True)
class Erasure:
    """A tombstone. `finished_at`: None where it was interrupted; `removed`: rows and files by where they were."""

    erasure_id: int
    erased_by: str
    reason: str
    begun_at: datetime
    finished_at: datetime | None
    removed: dict[str, int]

    @property
    def name(self) -> str:
        return _name(self.erasure_id, self.begun_at)


_COLUMNS = "erasure_id, erased_by, reason, begun_at, finished_at, removed"


def erasures(connection: psycopg.Connection) -> list[Erasure]:
    """Every tombstone, the first one first."""
    return _read(connection, "true")


def erasures_of(connection: psycopg.Connection, user_id: str) -> list[Erasure]:
    """The erasures of a learner, the first one first."""
    return _read(connection, f"learner_hash = {HASHED.format(salt='salt', user_id='%s::text')}", user_id)


def _read(connection: psycopg.Connection, condition: str, *values: Any) -> list[Erasure]:
    query = f"SELECT {_COLUMNS} FROM erasure e WHERE {condition} ORDER BY erasure_id"
    return records(connection, Erasure, query, values)


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


def record(connection: psycopg.Connection, erasure_id: int, removed: Mapping[str, int]) -> None:
    """Add to the tombstone what was removed, in the transaction that removes it."""
    connection.execute(
        """UPDATE erasure SET removed = (
             SELECT coalesce(jsonb_object_agg(name, n), '{}') FROM (
               SELECT key AS name, sum(value::bigint) AS n FROM (
                 SELECT * FROM jsonb_each_text(removed) UNION ALL SELECT * FROM jsonb_each_text(%s::jsonb)) every
               GROUP BY key) added)
           WHERE erasure_id = %s""",
        (json.dumps(removed), erasure_id),
    )


def finish(connection: psycopg.Connection, erasure_id: int) -> None:
    connection.execute("UPDATE erasure SET finished_at = now() WHERE erasure_id = %s", (erasure_id,))
