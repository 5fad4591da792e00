"""A fit on Spark equals the fit in memory, bit for bit, whether driver or executors compute the sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from irt_assets.spark import answers as spark_answers, sums as spark_sums
from irt_assets.spark.answers import SparkAnswers
from irt_assets.spark.em import fit_on_spark
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.items import Normal, Priors
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.sums import divide_answers, number_of_shards, sums_of_2pl
from resources.settings import Settings
from tests.helpers.answers_on_spark import ITEMS, World, assert_same
from tests.helpers.what_changed import WHERE_SPARK_CHANGES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [WHERE_SPARK_CHANGES, pytest.mark.on_change(imports=True)]


@pytest.fixture(scope="module")
def small() -> World:
    return World.simulate(1500, 20)


@pytest.fixture(scope="module")
def large() -> World:
    """More than one shard."""
    return World.simulate(10_000, ITEMS)


@pytest.fixture
def frame(spark: SparkSession) -> Callable[..., DataFrame]:
    def make(world: World, *, groups: bool = False, partitions: int = 2) -> DataFrame:
        table = world.table if groups else world.table.drop_columns(["group"])
        return spark.createDataFrame(table).repartition(partitions)

    return make


@pytest.fixture(autouse=True)
def sums_by_the_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let executors compute the sums. By default the driver computes such small fits."""
    monkeypatch.setattr(spark_answers, "DRIVER_BYTES", 0)


SETTINGS = Settings(irt_spark="local[2]", irt_threads=2, _env_file=None)
ANCHORS = anchor_set_of(
    scale_id="default",
    version="1",
    item_ids=("i03", "i11", "i19"),
    a=np.array([1.0, 1.2, 0.8]),
    b=np.array([-0.3, 0.2, 0.6]),
    c=np.zeros(3),
    a_se=np.full(3, 0.1),
    b_se=np.full(3, 0.1),
    cov_ab=np.zeros(3),
    topics=(None,) * 3,
    errors_assumed=np.zeros(3, dtype=bool),
)
KINDS: dict[str, dict[str, Any]] = {
    "2pl": {},
    "rasch": {"model": "rasch"},
    "1pl": {"model": "1pl"},
    "3pl": {"model": "3pl"},
    "priors": {"priors": Priors(b=Normal(0.0, 1.5))},
    "histogram": {"latent": "histogram"},
    "robust": {"testlets": {"i00": "t", "i01": "t", "i02": "t"}},
    "for its likelihood": {"likelihood_only": True},
}


@pytest.mark.parametrize("kind", [k if k == "histogram" else pytest.param(k, marks=pytest.mark.long) for k in KINDS])
def test_a_fit_of_one_shard_on_executors_equals_the_fit_in_memory(spark, frame, small, kind):
    assert number_of_shards(small.responses) == 1
    found = fit_on_spark(spark, frame(small), SETTINGS, **KINDS[kind])
    assert_same(found, fit_em(small.responses, **KINDS[kind]))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["2pl", "3pl"])
@pytest.mark.parametrize("location", ["executors", "driver"])
def test_a_fit_of_several_shards_equals_the_fit_in_memory(spark, frame, large, location, kind, monkeypatch):
    if location == "driver":
        monkeypatch.setattr(spark_answers, "DRIVER_BYTES", 1 << 40)
    found = fit_on_spark(spark, frame(large, partitions=3), SETTINGS, **KINDS[kind])
    assert_same(found, fit_em(large.responses, **KINDS[kind]))


def test_a_fit_of_groups_in_several_shards_equals_the_fit_in_memory(spark, frame, large):
    assert number_of_shards(large.responses) == 4
    found = fit_on_spark(spark, frame(large, groups=True, partitions=3), SETTINGS, reference="b")
    assert_same(found, fit_em(large.responses, groups=large.groups, reference="b"))


def test_a_fit_of_scored_items_equals_the_fit_in_memory(spark, frame):
    world = World.simulate(1500, 20, most=3)
    models = tuple("gpcm" if n > 2 else "2pl" for n in world.responses.n_categories)
    most = dict(zip(world.responses.item_ids, (world.responses.n_categories - 1).tolist(), strict=True))
    found = fit_on_spark(spark, frame(world), SETTINGS, model=models, max_scores=most)
    assert_same(found, fit_em(world.responses, model=models))
    with pytest.raises(PsychometricsError, match="scores must be 0 or 1, found 3 of item i00"):
        fit_on_spark(spark, frame(world), SETTINGS)


def test_a_fit_with_anchors_equals_the_fit_in_memory(spark, frame, small):
    found = fit_on_spark(spark, frame(small), SETTINGS, anchors=ANCHORS)
    assert_same(found, fit_em(small.responses, anchors=ANCHORS))


@pytest.mark.long
def test_standard_errors_by_block_equal_standard_errors_in_memory(spark, frame, large, full_covariance_up_to):
    full_covariance_up_to(5)
    found = fit_on_spark(spark, frame(large), SETTINGS)
    assert found.joint_cov is None
    assert_same(found, fit_em(large.responses))


@pytest.mark.parametrize("partitions", [2, 50])
def test_sums_do_not_depend_on_bundles_waves_and_partitions(spark, frame, small, monkeypatch, partitions):
    """Compares sums in memory with sums of seven shards in three bundles, which come one at a time."""
    monkeypatch.setattr(spark_answers, "_cores", lambda session: partitions)
    divide_answers(monkeypatch, responses_per_shard=5000, bundles=3)
    monkeypatch.setattr(spark_sums, "WAVE_BYTES", 1)
    assert number_of_shards(small.responses) == 7
    on_spark = SparkAnswers(spark, frame(small), SETTINGS, None)
    found = sums_of_2pl(on_spark, ITEMS)
    assert on_spark.shards.rdd.getNumPartitions() == min(partitions, 3)
    on_spark.close()
    for remote, in_memory in zip(found, sums_of_2pl(small.responses, ITEMS), strict=True):
        for one, other in zip(remote, in_memory, strict=True):
            np.testing.assert_array_equal(one, other)


def test_items_with_identical_answers_are_left_out(spark, frame, small):
    score = small.responses.score.copy()
    score[small.responses.item == 4] = 1
    item = small.table["item_id"].to_numpy(zero_copy_only=False)
    table = small.table.set_column(2, "score", pa.array(np.where(item == "i04", 1, small.table["score"]), pa.int8()))
    found = fit_on_spark(spark, frame(dataclasses.replace(small, table=table)), SETTINGS)
    assert found.flags[4]
    assert_same(found, fit_em(dataclasses.replace(small.responses, score=score)))


@pytest.mark.long
def test_unrelated_answers_are_flagged_as_in_memory(spark, frame):
    world = World.simulate(400, 10)
    score = np.random.default_rng(8).integers(0, 2, world.responses.n_responses).astype(np.int8)
    users = sorted(set(world.table["learner_key"].to_pylist()))
    ids = world.responses.item_ids
    table = pa.table(
        {
            "learner_key": [users[k] for k in world.responses.person],
            "item_id": [ids[j] for j in world.responses.item],
            "score": score,
            "group": ["a"] * len(score),
        }
    )
    found = fit_on_spark(spark, frame(dataclasses.replace(world, table=table)), SETTINGS)
    expected = fit_em(dataclasses.replace(world.responses, score=score))
    assert "unrelated" in expected.convergence.reason
    assert_same(found, expected)


def test_weights_other_scores_duplicates_and_several_groups_are_refused(spark, frame, small):
    from pyspark.sql import functions as f

    answers = frame(small)
    with pytest.raises(PsychometricsError, match="weights"):
        fit_on_spark(spark, answers.withColumn("weight", f.lit(2.0)), SETTINGS)
    with pytest.raises(PsychometricsError, match="0 or 1, found 2"):
        fit_on_spark(spark, answers.withColumn("score", f.col("score") + 1), SETTINGS)
    with pytest.raises(PsychometricsError, match="more than once"):
        fit_on_spark(spark, answers.union(answers.limit(3)), SETTINGS)
    with pytest.raises(PsychometricsError, match="more than one group"):
        fit_on_spark(spark, answers.withColumn("group", f.col("item_id")), SETTINGS)


def test_disconnected_answers_are_refused_as_in_memory(spark, frame, small):
    from pyspark.sql import functions as f

    of_learner = f.crc32("learner_key") % 2
    disconnected = frame(small).where((of_learner == 0) == (f.col("item_id") < "i15"))
    with pytest.raises(PsychometricsError, match="2 groups"):
        fit_on_spark(spark, disconnected, SETTINGS)
