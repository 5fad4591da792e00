"""Every invariant, in the order of the report, which is the order of `SEVERITY`."""

from irt_assets.invariants import activity, drift, forecasts, learners, months, publications, reports, snapshots
from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import SEVERITY

_DEFINED: dict[str, Invariant] = {
    one.name: one
    for module in (activity, drift, forecasts, learners, months, publications, reports, snapshots)
    for one in vars(module).values()
    if isinstance(one, Invariant)
}
INVARIANTS = tuple(_DEFINED[name] for name in SEVERITY)
