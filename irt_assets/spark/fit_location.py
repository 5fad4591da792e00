"""Choose whether a month's sums over learners are computed in this process or on Spark's executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irt_assets.engines.em import EmEngine
from irt_assets.responses.eligibility.attempts import Reason
from irt_assets.responses.facts import KEY
from irt_assets.responses.snapshot import Snapshot
from irt_assets.responses.snapshot_files import part_keys
from irt_assets.responses.window import ItemCounts
from irt_assets.spark import answers
from irt_assets.spark.em import EmOnSpark
from irt_psychometrics import Responses
from resources.cluster.spark import path_for_spark, spark_session
from resources.files.object_store import ObjectStore
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

BYTES_AN_ANSWER = 1.5
"""Bytes of an answer in a fit's layout."""


def choose_engine(
    engine: EmEngine,
    settings: Settings,
    store: ObjectStore,
    snapshot: Snapshot,
    scale_id: str,
    responses: Responses,
    *,
    sampled: bool,
) -> EmEngine:
    """The engine for a fit of `responses`, the scored answers to a scale in a snapshot.

    It uses Spark if Spark is configured and this process cannot hold the answers, or if they are `sampled`: then
    executors lay out all answers, which are fetched if the driver can hold them.
    """
    is_small = BYTES_AN_ANSWER * responses.n_responses <= answers.DRIVER_BYTES
    if settings.irt_spark is None or (is_small and not sampled):
        return engine
    attempts = _attempts(settings, store, snapshot, scale_id)
    return EmOnSpark(
        engine.threads,
        session=attempts.sparkSession,
        frame=attempts.where(attempts.reason.isNull()).select(KEY, "item_id", "score"),
        settings=settings,
        responses=responses,
        sampled=sampled,
    )


def count_items(settings: Settings, store: ObjectStore, snapshot: Snapshot, scale_id: str) -> ItemCounts:
    """Numbers of answers to a scale's items in a snapshot, counted on Spark."""
    attempts = _attempts(settings, store, snapshot, scale_id)
    few = attempts.reason == str(Reason.FEW_ITEM_RESPONSES)
    known = attempts.where(attempts.reason.isNull() | few)
    aggregates = {"*": "count"} | ({"max_score": "max"} if "max_score" in known.columns else {})
    counted = known.groupBy("item_id", few.alias("few")).agg(aggregates).collect()
    n = {(row["item_id"], bool(row["few"])): row["count(1)"] for row in counted}
    scored, left_out = ({item: n[item, few] for item, few in sorted(n) if few is is_few} for is_few in (False, True))
    most = {row["item_id"]: row["max(max_score)"] or 1 for row in counted} if len(aggregates) > 1 else {}
    categories = np.array([most[item] + 1 for item in scored]) if any(m > 1 for m in most.values()) else None
    return ItemCounts(scored, left_out, categories)


def _attempts(settings: Settings, store: ObjectStore, snapshot: Snapshot, scale_id: str) -> DataFrame:
    files = [path_for_spark(store.uri(key)) for key in part_keys(store, snapshot.uri)]
    attempts = spark_session(settings).read.parquet(*files)
    return attempts.where(attempts.scale_id == scale_id)
