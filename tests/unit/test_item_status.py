"""Answers to withdrawn items, which do not count: singly and as a mask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from irt_assets.scales.item_status import Withdrawals, microseconds

DAY = datetime(2026, 12, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
WITHDRAWN = Withdrawals({"b": ((DAY, DAY + timedelta(days=2)), (DAY + timedelta(days=5), None)), "z": ((DAY, None),)})


def test_withdrawal_includes_its_first_moment_and_excludes_its_end() -> None:
    covered = {
        after: WITHDRAWN.covers("b", DAY + after)
        for after in (-TICK, TICK * 0, timedelta(days=2) - TICK, timedelta(days=2), timedelta(days=5) - TICK)
    }
    assert list(covered.values()) == [False, True, True, False, False]
    assert WITHDRAWN.covers("b", DAY + timedelta(days=5_000))
    assert not WITHDRAWN.covers("a", DAY)


def test_mask_of_withdrawn_answers_equals_covers_for_each_answer() -> None:
    ids, rng = np.array(["a", "b", "z"], dtype=object), np.random.default_rng(1)
    item = rng.integers(0, 3, 400).astype(np.int32)
    hours = rng.integers(-24, 200, 400)
    at = np.array([microseconds(DAY + timedelta(hours=int(h))) for h in hours])
    mask = WITHDRAWN.mask(item, ids, at)
    assert mask.tolist() == [
        WITHDRAWN.covers(ids[i], DAY + timedelta(hours=int(h))) for i, h in zip(item, hours, strict=True)
    ]
    assert 0 < mask.sum() < mask.size
    assert not Withdrawals().mask(item, ids, at).any()
