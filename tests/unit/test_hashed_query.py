"""What of a month's hash can be held without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.data_versions import QUERY
from irt_assets.responses.row_hash import query_of_sums
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import window_rows
from resources.cluster.relational import on_postgres

SCALES = {"usual": {}, "short": {"lookback_months": 2}}
START, END = datetime(2001, 2, 1, tzinfo=UTC), datetime(2001, 3, 1, tzinfo=UTC)


def test_another_query_makes_stored_hashes_void() -> None:
    """A stored hash counts as current only while it was computed by the query that computes it now."""
    scales = {name: Scale(name, rules=Rules.from_settings(changed)) for name, changed in SCALES.items()}
    text = query_of_sums(window_rows(START, END, scales), on_postgres)
    digest = sha256(text.encode()).hexdigest()
    assert digest == QUERY, f"months are hashed by another query: let data_versions.QUERY be {digest!r}"
