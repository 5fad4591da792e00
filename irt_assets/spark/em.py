"""The em engine on Apache Spark: learners' answers stay on the executors in shards, and the driver gets sums over
learners.

On one CPU type, a fit has the same bits as in memory (see `reductions`). If the shards fit into the driver's memory,
they are fetched, and the driver's threads compute the sums.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from irt_assets.engines.em import EmEngine
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.spark.answers import SparkAnswers
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import FitRequest, fit_em
from irt_psychometrics.itemfit import ItemSums
from irt_psychometrics.items import item_model
from resources.cluster.spark import spark_jobs
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_log = logging.getLogger("irt_assets.calibration")


def fit_on_spark(
    session: SparkSession,
    frame: DataFrame,
    settings: Settings,
    *,
    reference: str | None = None,
    report: Callable[[str], None] = _log.info,
    then: Callable[[SparkAnswers, Calibration], None] | None = None,
    max_scores: Mapping[str, int] | None = None,
    **options: Unpack[FitRequest],
) -> Calibration:
    """Run `fit_em` on the scored answers in `frame`. They are laid out on the executors, and fetched if the driver can
    hold them.

    Args:
        frame: columns learner_key, item_id and score, and with groups `group`, which is constant within a learner.
        reference: label of the reference group. None: the largest group, as in `fit_em`.
        report: called with a sentence on where sums are computed.
        then: called with the answers and their fit, before executors release the answers.
        max_scores: maximum scores of the items that are scored above 1.
        options: options of `fit_em`; models by item are in the order of the sorted item ids.

    Raises PsychometricsError as `fit_em` does, and for fits that only one machine supports: with weights of learners,
    or with models for more than two scores outside the partial credit family.
    """
    if "weight" in frame.columns:
        raise PsychometricsError("weights of learners are not supported on Spark: fit on one machine")
    model = item_model(options.get("model", DEFAULT_MODEL))
    if model.path == "general":
        raise PsychometricsError(f"a {model.spoken} is not fitted on Spark yet: fit it on one machine")
    answers = SparkAnswers(session, frame, settings, reference, report, max_scores)
    try:
        options["threads"] = settings.irt_threads
        found = fit_em(answers, **options)
        if then is not None:
            then(answers, found)
        return found
    finally:
        answers.close()


@dataclass
class EmOnSpark(EmEngine):
    """The em engine for `responses` whose answers are in a DataFrame, or are a sample of the answers there.

    A fit of `responses` uses all answers of the DataFrame, on Spark. Fits of other responses run in this process.

    `sampled`: `responses` are a sample, so sums over all learners are kept for the statistics. If items are scored
    0 … m there are no such sums, and the statistics are the sample's.
    """

    session: SparkSession = field(kw_only=True)
    frame: DataFrame = field(kw_only=True)
    settings: Settings = field(kw_only=True)
    responses: Responses = field(kw_only=True)
    sampled: bool = field(kw_only=True)
    _sums: list[tuple[Calibration, ItemSums]] = field(default_factory=list, init=False)

    def calibrate(
        self,
        responses: Responses,
        *,
        groups: Sequence[str] | None = None,
        reference: str | None = None,
        **options: Unpack[FitRequest],
    ) -> Calibration:
        """Fit as `fit_em` does. Raises PsychometricsError if the fit of `responses` has groups of learners."""
        if responses is not self.responses:
            return super().calibrate(responses, groups=groups, reference=reference, **options)
        if groups is not None:
            raise PsychometricsError(
                "a scale whose items are assigned by level is fitted in groups of learners, which executors do not "
                "support yet: unset IRT_SPARK on a machine with memory for its answers"
            )
        then = self._keep_sums if self.sampled else None
        most = {item: n - 1 for item, n in zip(responses.item_ids, responses.n_categories.tolist(), strict=True)}
        if not isinstance(model := options.get("model", ""), str):
            by_item = dict(zip(responses.item_ids, model, strict=True))
            options["model"] = tuple(by_item[item] for item in sorted(by_item))
        on = self.session, self.frame, self.settings
        with spark_jobs(self.session, "fit of item parameters"):
            return fit_on_spark(*on, reference=reference, report=self._report, then=then, max_scores=most, **options)

    def item_sums(self, calibration: Calibration) -> ItemSums | None:
        return next((sums for known, sums in self._sums if known is calibration), None)

    def _keep_sums(self, spark_answers: SparkAnswers, calibration: Calibration) -> None:
        assert spark_answers.answers is not None
        if calibration.convergence.converged and calibration.item_model.highest_score == 1:
            self._sums.append(
                (
                    calibration,
                    ItemSums.from_answers(spark_answers.answers, calibration, threads=self.settings.irt_threads),
                )
            )

    def _report(self, sentence: str) -> None:
        _log.info(sentence)
        self.summed = sentence
