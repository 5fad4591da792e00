"""Every invariant, in the order of the report, which is the order of `SEVERITY`."""

from irt_assets.invariants import activity, drift, forecasts, learners, months, publications, reports, scores, snapshots
from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import SEVERITY

_BY_NAME: dict[str, Invariant] = {
    invariant.name: invariant
    for module in (activity, drift, forecasts, learners, months, publications, reports, scores, snapshots)
    for invariant in vars(module).values()
    if isinstance(invariant, Invariant)
}
INVARIANTS = tuple(_BY_NAME[name] for name in SEVERITY)
