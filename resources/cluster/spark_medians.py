"""Faster medians on Spark. Other engines do not need this module, because their `median` is fast.

Spark's `percentile` counts equal values of a group. That is efficient if groups are items, whose many times repeat, and
slow if groups are learners, who have few. Here a learner's median is the middle of the sorted list of values.
"""

from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

LEARNER_ID = "user_id"


@ibis.udf.agg.builtin
def collect_list(values: float) -> list[float]:  # type: ignore[empty-body]
    """The values that are not null."""


@ibis.udf.scalar.builtin
def sort_array(values: list[float]) -> list[float]:  # type: ignore[empty-body]
    """The values in ascending order, NaN last."""


@ibis.udf.scalar.builtin
def size(values: list[float]) -> int:  # type: ignore[empty-body]
    """The number of values."""


@ibis.udf.scalar.builtin
def get(values: list[float], index: int) -> float:  # type: ignore[empty-body]
    """The value at the index, which counts from 0; null if there is none."""


def medians_of_learners_by_lists(expression: ir.Table) -> ir.Table:
    """The expression, with medians computed from lists in each aggregation that groups by learner."""
    return expression.op().replace(_aggregation_by_lists).to_expr()


def _aggregation_by_lists(node: ops.Node, changed: dict[str, Any] | None) -> ops.Node:
    new = node.__recreate__(changed) if changed else node
    if not isinstance(new, ops.Aggregate) or LEARNER_ID not in new.groups:
        return new
    metrics = {name: metric.replace(_median_by_list, filter=ops.Value) for name, metric in new.metrics.items()}
    return new.copy(metrics=metrics)


def _median_by_list(node: ops.Node, changed: dict[str, Any] | None) -> ops.Node:
    new = node.__recreate__(changed) if changed else node
    if not isinstance(new, ops.Median) or new.where is not None or not new.arg.dtype.is_floating():
        return new
    values = sort_array(collect_list(new.arg.to_expr()))
    middle = [get(values, index) for index in ((size(values) - 1) // 2, size(values) // 2)]
    return ((middle[0] + middle[1]) / 2).op()
