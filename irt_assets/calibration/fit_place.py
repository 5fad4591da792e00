"""Where a month's fit adds up over learners: in this process, or on Spark's executors.

What does not belong here: how either does it (see `engines.em`, `engines.executors`).
"""

from __future__ import annotations

from irt_assets.engines.em import EmEngine
from irt_assets.psychometrics.core.models import Responses
from irt_assets.responses.snapshot import Snapshot
from irt_assets.responses.snapshot_files import part_keys
from resources.object_store import ObjectStore
from resources.settings import Settings

BYTES_AN_ANSWER = 1.5
"""What an answer takes in a fit's layout."""


def placed(
    engine: EmEngine, settings: Settings, store: ObjectStore, snapshot: Snapshot, scale_id: str, responses: Responses
) -> EmEngine:
    """The engine that fits `responses`, the scored answers of a scale in a snapshot, where IRT_SPARK_FIT says."""
    too_large = BYTES_AN_ANSWER * responses.n_responses > settings.irt_spark_fit_bytes
    where = settings.irt_spark_fit
    if settings.irt_spark is None or where == "driver" or (where == "auto" and not too_large):
        return engine
    from irt_assets.engines.executors import EmOnSpark
    from resources.spark import path_for_spark, spark_session

    session = spark_session(settings)
    files = [path_for_spark(store.uri(key)) for key in part_keys(store, snapshot.uri)]
    attempts = session.read.parquet(*files)
    frame = attempts.where(attempts.reason.isNull() & (attempts.scale_id == scale_id))
    return EmOnSpark(
        engine.threads,
        session=session,
        frame=frame.select("user_id", "item_id", "score"),
        settings=settings,
        responses=responses,
    )
