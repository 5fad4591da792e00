"""The requirements and the effects of a new policy of an adaptive test, for the person who decides."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.adaptive.banks import read_test_bank
from irt_assets.adaptive.changes import effects_of_policy
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import versions_in_force
from resources.failures import PermanentFailure
from resources.postgres.database import one_value


def preview_policy(connection: psycopg.Connection, policy: Policy, since: datetime) -> list[str]:
    """The changes against the version in force at `since`, warnings, and the simulated effect, in words.

    Raises PermanentFailure if the test cannot be given by the set in force then, if a form has the same name, or if
    it starts at θ of now on a scale that is not fitted by level.
    """
    test, former = policy.test, versions_in_force(connection, since).get(policy.test)
    if one_value(connection, "SELECT EXISTS (SELECT FROM form WHERE form_id = %s)", (test,)):
        raise PermanentFailure(f"{test} is a form with fixed items; give the adaptive test another name")
    bank = read_test_bank(connection, policy, since)
    places = bank.plan.places  # raises if the limits cannot be met
    if policy.start == "theta-now" and bank.scale.rules.fit.assignment != "by_level":
        raise PermanentFailure(
            f"test {test} starts at θ of now: its items depend on ability from before the month, which makes slopes "
            f"too small on the linear scale {policy.scale}. Set `start: population`, or fit the scale by level: "
            f"`irt calibrate --month MONTH --scale {policy.scale} --set assignment=by_level`"
        )
    before, after = dict(_values(former.policy) if former else []), dict(_values(policy))
    lines = [
        f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in {**before, **after}
        if before.get(name, "none") != after.get(name, "none")
    ]
    if former is None:
        lines = [f"test {test} is new, with {len(places):,} items"]
    elif not lines:
        lines = [f"the policy of test {test} is the one in force, version {former.version}"]
    lines += [
        f"{limit.name}: no item in use, so this limit has no effect"
        for limit in bank.test.limits
        if places.keys().isdisjoint(limit.items)
    ]
    if policy.unscored and not bank.unscored:
        lines.append("every item in use has published values, so there are no unscored items to give")
    return lines + effects_of_policy(connection, policy, since)


def _values(policy: Policy) -> Iterator[tuple[str, Any]]:
    """The values of a policy by their names in YAML, such as length.max."""
    for name, value in policy.model_dump(mode="json").items():
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", "none" if own is None else own) for part, own in value.items())
        else:
            yield name, "none" if value is None else value
