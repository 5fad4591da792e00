"""SAT12's item 32, whose key 5 is wrong: its counts, and the correlations of R's psych for the key and for option 3."""

from __future__ import annotations

from irt_assets.item_analysis.stored import ItemRow, OptionRow, TracePoint

CHOICES = {"1": (75, 0.125, -0.045), "2": (110, 0.183, -0.19), "3": (266, 0.443, 0.203), "4": (45, 0.075, -0.07)}
TRACE = tuple(
    TracePoint(rest=rest, n=200, share=share, low=share - 0.07, high=share + 0.07)
    for rest, share in ((12.0, 0.33), (17.5, 0.43), (23.9, 0.58))
)
OPTIONS = tuple(
    OptionRow(
        option=name,
        is_key=name == "5",
        n=n,
        share=share,
        mean_rest=18.0,
        rest_correlation=r,
        thirds=(0.33, 0.43, 0.58),
        trace=TRACE,
        flags=("above_key",) if name == "3" else (),
    )
    for name, (n, share, r) in (CHOICES | {"5": (97, 0.162, 0.037)}).items()
)
ITEM_32 = ItemRow(
    item_id="item_32",
    form_id="",
    presented=600,
    n=600,
    omitted=7,
    not_reached=0,
    mean=0.162,
    sd=0.368,
    facility=0.162,
    facility_se=0.015,
    item_rest=0.037,
    biserial=0.056,
    alpha_if_deleted=0.802,
    lower=0.15,
    upper=0.22,
    rest="sum",
    key="5",
    options=OPTIONS,
)
