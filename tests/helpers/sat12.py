"""SAT12 as R's psych describes it: its sum scores, as if it had two items, and item 32, whose key 5 is wrong."""

from __future__ import annotations

from irt_assets.item_analysis.stored import FormRow, ItemRow, OptionRow, TracePoint

CHOICES = {"1": (75, 0.125, -0.045), "2": (110, 0.183, -0.19), "3": (266, 0.443, 0.203), "4": (45, 0.075, -0.07)}
TRACE = tuple(TracePoint(rest=rest, n=200, share=share) for rest, share in ((12.0, 0.33), (17.5, 0.43), (23.9, 0.58)))
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
        flags=("above_key", "beats_key") if name == "3" else (),
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
FORM = FormRow(
    form_id="SAT12",
    n=600,
    n_items=2,
    max_score=2,
    source="log",
    statistics={
        "mean": 18.20,
        "sd": 5.05,
        "median": 18.0,
        "skewness": 0.19,
        "kurtosis": -0.24,
        "alpha": 0.798,
        "alpha_low": 0.774,
        "alpha_high": 0.820,
        "lambda2": 0.805,
        "omega": 0.799,
        "split_half": 0.812,
        "sem": 2.27,
    },
    scores=(120, 300, 180),
)
