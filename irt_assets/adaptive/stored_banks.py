"""Banks by which sessions of adaptive tests choose items, each stored once under the hash of its content.

Every process builds a session's plan from the stored bank alone. So the session stays the same if values, topics or
pass marks change, if the API restarts, and on every replica.
"""

from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.adaptive.banks import TestBank, hash_content, read_test_bank
from irt_assets.adaptive.versions import read_versions
from irt_assets.ledger.publications import ends_of_sets, in_force
from resources.failures import PermanentFailure
from resources.postgres.database import one_value

MAX_FORMER_SETS = 12
"""Number of former sets that are searched for a session without a stored bank. A month that was published late hides
the sets since its start."""


class SetGone(PermanentFailure):
    """No stored bank and no former published set belongs to a session."""


def store_bank(connection: psycopg.Connection, bank: TestBank) -> None:
    """Store a bank in the caller's transaction, unless it is stored already."""
    stored = "SELECT EXISTS (SELECT FROM adaptive_bank WHERE bank_hash = %s)"
    if not one_value(connection, stored, (bank.content_hash,)):  # the content of 2,500 items has a megabyte
        connection.execute(
            "INSERT INTO adaptive_bank (bank_hash, content) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (bank.content_hash, Jsonb(bank.content)),
        )


def read_session_bank(
    connection: psycopg.Connection, version: int, bank_hash: str | None, set_hash: str, started_at: datetime
) -> TestBank:
    """Read the bank of a session.

    Sessions that began before banks were stored have no `bank_hash`. For them, the newest published set with the hash
    `set_hash` is searched from `started_at` backwards. Raises SetGone if no set has this hash.
    """
    if bank_hash is not None:
        content = one_value(connection, "SELECT content FROM adaptive_bank WHERE bank_hash = %s", (bank_hash,))
        if content is None:
            raise SetGone(f"adaptive_bank has no row {bank_hash}")
        return TestBank.from_content(content, bank_hash)
    [policy] = [own.policy for own in read_versions(connection) if own.version == version]
    for at in (started_at, *ends_of_sets(connection, policy.scale, started_at, MAX_FORMER_SETS)):
        if in_force(connection, policy.scale, at).set_hash == set_hash:
            content = read_test_bank(connection, policy, at).content
            return TestBank.from_content(content, hash_content(content))
    raise SetGone(f"no published set of scale {policy.scale} up to {started_at:%Y-%m-%d %H:%M} has the hash {set_hash}")
