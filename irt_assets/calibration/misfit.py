"""A month's misfit compared with its reference's: which window that is, the comparison, and what a fit keeps of it.

The reference is the window that was looked at once: the origin window; where the anchors are the bank's, the scale's
first month; and from a month on that somebody accepted as it is, that month. Belongs here: finding and reading it. Does
not belong here: the measures (see `psychometrics.fit.misfit`) and what holds a month (see `gates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import class_row
from threadpoolctl import threadpool_limits

from irt_assets.calibration.fits import decode
from irt_assets.calibration.request import Calibrated, FitRequest
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.core.errors import PsychometricsError, breakdowns_explained
from irt_assets.psychometrics.fit.dependence import ParallelAnalysis
from irt_assets.psychometrics.fit.m2 import FormFit
from irt_assets.psychometrics.fit.misfit import LARGEST_RATIO, Change, Measure, Window, change_of_misfit, rmsea_of
from irt_assets.responses.scale_decisions import REFERENCE, decision_in_force, read_decisions
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import Snapshot, read_snapshot
from irt_assets.responses.window import scored_responses_of
from irt_assets.wording import counted, listed
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore

MOST_NAMED = 10
MOST_ALIKE = 5
"""The most items that a sentence on dependence names."""
BY_LEVEL = "items of the scale are assigned by level, and learners of one level are not compared with those of another"
FITTED_BY_LEVEL = "it was fitted by level, and the scale's items are not assigned by level any more"


@dataclass(frozen=True)
class Reference:
    """The window that a month is compared with: a fit, what its spec says of the whole set, and where its answers are.

    `month`: None of an origin window.
    """

    fit_id: str
    month: str | None
    name: str
    calibration: bytes
    statistics: dict[str, Any] | None
    snapshot_hash: str
    uri: str

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(self.month or "the origin", self.snapshot_hash, self.uri, "", 0, {}, {})

    def window(self, store: ObjectStore, scale_id: str) -> Window:
        """Raises PermanentFailure where its answers are not in the store, or are not those that were fitted."""
        table = read_snapshot(
            store,
            self.snapshot,
            lambda problem: (
                f"{problem}. Restore the object store from a backup, or accept a month as what later ones "
                f"are compared with (`irt scale accept misfit --scale {scale_id} --from MONTH`)"
            ),
        )
        responses, _ = scored_responses_of(table, scale_id)
        return Window(responses, decode(self.calibration), kept_dimensions(self.statistics, responses.item_ids))


def find_reference(connection: psycopg.Connection, scale: Scale, month: str) -> Reference | None:
    """The reference of a month of a scale, `scale` being as the month's window follows it; None for the month that is
    one itself. A month that is held is none, unless somebody accepted it."""
    start = month_bounds(month)[0]
    accepted = decision_in_force(read_decisions(connection, scale.scale_id), "misfit", start)
    since = accepted.effective_from if accepted and accepted.value == REFERENCE else None
    values = {"scale": scale.scale_id, "engine": scale.engine, "model": scale.model, "month": month}
    with connection.cursor(row_factory=class_row(Reference)) as cursor:
        origin = cursor.execute(
            """SELECT fit_id, NULL AS month, calibration, model_spec->'fit_statistics' AS statistics, snapshot_hash,
                      model_spec->>'snapshot' AS uri,
                      format('the origin window %%s to %%s', window_start::date, window_end::date) AS name
               FROM mirt_fit_meta
               WHERE kind = 'origin' AND calibration IS NOT NULL
                 AND (scale_id, engine, model) = (%(scale)s, %(engine)s, %(model)s)
               ORDER BY fitted_at DESC LIMIT 1""",
            values,
        ).fetchone()
        if origin is not None and since is None:
            return origin
        return cursor.execute(
            """SELECT * FROM (
                 SELECT DISTINCT ON (f.month) f.fit_id, f.month, f.calibration,
                        f.spec->'fit_statistics'->'set' AS statistics, f.snapshot_hash, s.uri, f.month AS name
                 FROM fit_staging f JOIN scored_snapshot s ON (s.month, s.snapshot_hash) = (f.month, f.snapshot_hash)
                 LEFT JOIN publication_step p ON (p.month, p.scale_id) = (f.month, f.scale_id)
                 WHERE (f.scale_id, f.engine, f.spec->>'model') = (%(scale)s, %(engine)s, %(model)s)
                   AND f.month < %(month)s AND f.month >= %(since)s
                   AND (p.state IS DISTINCT FROM 'held' OR f.month = %(since)s)
                 ORDER BY f.month, f.fitted_at DESC, f.fit_id DESC) latest
               WHERE calibration IS NOT NULL AND jsonb_typeof(statistics) = 'object' ORDER BY month LIMIT 1""",
            values | {"since": f"{since:%Y-%m}" if since else ""},
        ).fetchone()


def compared(
    store: ObjectStore,
    request: FitRequest,
    made: Calibrated,
    statistics: Mapping[str, Any],
    reference: Reference | None,
) -> dict[str, Any]:
    """What a month's spec keeps of the comparison: what it was compared with and what came of it, or `why` it could not
    be compared.

    `statistics`: what the month's fit says of the whole set. `ratio` is the reference's own, None where its dimensions
    could not be tested, and `ratio_together` the items that contribute most to it. `lost`: it should have been
    compared.
    """
    if reference is None:
        return {"reference": None}
    about = {
        "reference": reference.name,
        "fit_id": reference.fit_id,
        "ratio": eigenvalue_ratio(reference.statistics),
        "ratio_together": items_together(reference.statistics),
    }
    if request.by_level:
        return about | {"why": BY_LEVEL}
    try:
        before = reference.window(store, request.scale.scale_id)
    except PermanentFailure as error:
        return about | {"why": str(error), "lost": True}
    if len(before.calibration.populations) > 1:
        return about | {"why": FITTED_BY_LEVEL}
    try:
        with breakdowns_explained("the comparison failed"), threadpool_limits(1, user_api="blas"):
            dimensions = kept_dimensions(statistics, request.responses.item_ids)
            guessing = made.calibration.model == "3pl" or (made.shape is not None and made.shape.guessing)
            now = Window(request.responses, made.calibration, dimensions)
            change = change_of_misfit(now, before, guessing=guessing)
    except PsychometricsError as error:
        return about | {"why": str(error), "lost": True}
    return about | as_plain_data(change)


def as_plain_data(change: Change) -> dict[str, Any]:
    """Plain data for JSON; None for what could not be measured."""

    def plain(measure: Measure | None) -> dict[str, float] | None:
        return None if measure is None else asdict(measure)

    return {
        "items": change.items,
        "growth": {name: plain(measure) for name, measure in change.growth.items()},
        "now": {name: plain(measure) for name, measure in vars(change.now).items()},
        "before": {name: plain(measure) for name, measure in vars(change.before).items()},
        "together": {name: list(items) for name, items in change.together.items()},
    }


def misfit_in_words(statistics: Mapping[str, Any]) -> list[str]:
    """What a fit says of the whole set, for whoever decides whether it will do: a sentence on each statistic."""
    ratio, lz, halves = eigenvalue_ratio(statistics), statistics["lz"], statistics["halves"]
    if ratio is None:
        sentences = ["dimensions could not be tested"]
    else:
        together = items_together(statistics) if ratio > LARGEST_RATIO else []
        largest = f"the largest eigenvalue of the residual correlations is {ratio:.2f} times what one ability gives"
        sentences = [largest + alike(together)]
    if statistics["m2"]:
        forms = [FormFit((), one["learners"], one["m2"], one["df"], one["p"], one["rmsea"]) for one in statistics["m2"]]
        rmsea = rmsea_of(forms)
        interval = f"98 % interval {rmsea.low:.3f} to {rmsea.high:.3f}"
        sentences.append(f"RMSEA₂ of M₂ is {rmsea.value:.3f} ({interval}, {counted(len(forms), 'form')})")
    clusters = "; ".join(listed(cluster, MOST_NAMED) for cluster in statistics["q3"]["clusters"])
    sentences.append(f"items that share more than the ability (Q3): {clusters or 'none'}")
    if lz["rare"] is not None:
        sentences.append(
            f"{lz['rare']:.1%} of {lz['learners']:,} learners have an unlikely response pattern (lz* below the 2 % "
            f"critical value)"
        )
    if halves is not None:
        sentences.append(
            f"the two halves of the items that disagree most place a learner {halves['apart']:.2f} apart in θ, and "
            f"their standard errors explain {halves['expected']:.2f}"
        )
    return sentences


def eigenvalue_ratio(statistics: Mapping[str, Any] | None) -> float | None:
    """Ratio of a fit's largest residual eigenvalue to the one under the model, from its statistics of the whole set."""
    parallel = statistics.get("parallel") if statistics else None
    return parallel["eigenvalue"] / parallel["expected"] if parallel else None


def kept_dimensions(statistics: Mapping[str, Any] | None, item_ids: Sequence[str]) -> ParallelAnalysis | None:
    """The parallel analysis that a fit's statistics were stored with; None of an earlier version's fit, or where an
    item has left the scale since."""
    kept = statistics.get("parallel") if statistics else None
    places = {item: j for j, item in enumerate(item_ids)}
    if not kept or kept.get("se") is None or not places.keys() >= set(kept["together"]):
        return None
    under_model = np.array(kept["under_model"])
    p = (1 + int((under_model >= kept["eigenvalue"]).sum())) / (1 + under_model.size)
    together = tuple(places[item] for item in kept["together"])
    return ParallelAnalysis(kept["eigenvalue"], under_model, p, kept["se"], together, kept["learners"])


def items_together(statistics: Mapping[str, Any] | None) -> list[str]:
    """The items that contribute most to that eigenvalue; empty for a fit by an earlier version."""
    parallel = statistics.get("parallel") if statistics else None
    return parallel.get("together", []) if parallel else []


def alike(items: Sequence[str]) -> str:
    """The end of a sentence on dependence, which names the items; empty where there are none."""
    return f": {listed(items, MOST_ALIKE)} answer alike beyond ability" if items else ""
