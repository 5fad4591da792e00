"""Invariants of what must be there: scales, topics, the nightly run."""

from __future__ import annotations

from datetime import timedelta

from irt_assets.invariants.invariant import Found, InvariantContext, NotTested, Violation, invariant
from irt_assets.ledger.fitted_items import topics_without_items
from irt_assets.ledger.overview import last_night

LONGEST_PAUSE = timedelta(hours=25)


@invariant(
    kind="topics",
    protects="Every scale and every topic that is practised has published items, so that it is measured.",
    fix="Initialise the scale with `irt scale init`; add items to the topic, or wait until theirs have enough answers.",
)
def every_scale_and_topic_is_covered(look: InvariantContext) -> Found:
    if not look.scales:
        yield NotTested("the bank has no items: `irt import questions FILE`")
    for scale_id, scale in look.scales.items():
        if not scale.initialised:
            yield Violation(f"scale {scale_id}", "it has no origin", "an origin")
    for (scale_id, topic), n in topics_without_items(look.connection).items():
        if look.scales[scale_id].initialised:
            yield Violation(f"topic {topic} of scale {scale_id}", f"none of its {n} items is published", "at least one")


@invariant(
    kind="runs",
    protects="Abilities and new items are at most a night old.",
    fix="See in the UI whether the daemon runs and why the last nightly run failed, then start it again.",
)
def the_nightly_calibration_is_fresh(look: InvariantContext) -> Found:
    last = last_night(look.connection)
    if last is None:
        yield NotTested("no nightly calibration has run yet")
    elif look.now - last > LONGEST_PAUSE:
        yield Violation("nightly calibration", f"last at {last:%Y-%m-%d %H:%M} UTC", "within 25 hours")
