"""Records of erased learners. Only a salted hash of a learner's id is kept.

The hash prevents an import of an old file from restoring the learner (see `intake`).
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
"""SQL of a learner's salted hash, with the SQL expressions `salt` and `user_id`."""


@dataclass(frozen=True)
class Erasure:
    """The record of an erasure.

    Attributes:
        finished_at: None if the erasure was interrupted.
        removed: number of removed rows and files, by table or folder.
    """

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
    """All erasures, oldest first."""
    return _read_erasures(connection, "true")


def erasures_of(connection: psycopg.Connection, user_id: str) -> list[Erasure]:
    """The erasures of a learner, oldest first."""
    return _read_erasures(connection, f"learner_hash = {HASHED.format(salt='salt', user_id='%s::text')}", user_id)


def _read_erasures(connection: psycopg.Connection, condition: str, *values: Any) -> list[Erasure]:
    query = f"SELECT {_COLUMNS} FROM erasure e WHERE {condition} ORDER BY erasure_id"
    return records(connection, Erasure, query, values)


def names_of_erased(connection: psycopg.Connection) -> Callable[[str], str]:
    """Return a function of a learner's id that returns the name of the erasure, or "" if there is no erasure."""
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
    """Record that a learner is being erased. Returns the id of the erasure.

    All erasures share one salt, so that an import hashes each learner once.
    """
    salt = one_value(connection, "SELECT salt FROM erasure ORDER BY erasure_id LIMIT 1") or secrets.token_bytes(32)
    return one_value(
        connection,
        "INSERT INTO erasure (learner_hash, salt, erased_by, reason) VALUES (%s, %s, %s, %s) RETURNING erasure_id",
        (_hash(salt, user_id), salt, by, reason),
    )


def record(connection: psycopg.Connection, erasure_id: int, removed: Mapping[str, int]) -> None:
    """Add to the record the number of removed rows and files, in the transaction that removes them."""
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
