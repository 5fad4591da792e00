"""Computation of a learner's record from the columns of `ability` and `behaviour`: KPIs, or the reason for each null.

The formulas and the reasons for them are in docs/reference/kpis.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from irt_assets.common.arrays import Floats
from irt_assets.kpis.behaviour import EIGHT_WEEKS, microseconds
from irt_assets.kpis.kpi_definitions import MIN_ANSWERS, MIN_TIMED, NullReason
from irt_assets.kpis.progress import goal_probability

Bools = npt.NDArray[np.bool_]
Record = dict[str, Any]


@dataclass(frozen=True)
class KpiValues:
    """A KPI of N learners, shapes (N,): `value`, or NaN with the reason in `why`, which is '' otherwise."""

    value: Floats
    why: npt.NDArray[np.object_]


DAY = microseconds(timedelta(days=1))
LONG_SESSION = microseconds(timedelta(minutes=15))


def progress(rows: pd.DataFrame, published: Collection[str]) -> dict[str, KpiValues]:
    """I_t, E_t, R_t and R_t_coverage of learners on scales.

    `rows` has scale_id (null: no scale) and the columns of `ability.abilities`, `behaviour.pace` and
    `behaviour.recovery`, with NaN if these have no row. `published`: the scales with a set in force.
    """
    no_scale, unpublished = _scale_reasons(rows, published)
    numbers = {name: rows[name].to_numpy(dtype=float) for name in rows.columns.difference(["user_id", "scale_id"])}
    counts = {
        name: np.nan_to_num(numbers[name]) for name in ("n_recent", "n_previous", "timed_recent", "timed_previous")
    }
    wrong, again = np.nan_to_num(numbers["wrong"]), np.nan_to_num(numbers["again"])
    with np.errstate(divide="ignore", invalid="ignore"):
        recovered, coverage = numbers["recovered"] / again, again / wrong
    nothing_wrong = (wrong == 0, NullReason.NOTHING_WRONG)
    return {
        "I_t": _values_or_reasons(
            numbers["improvement"],
            no_scale,
            unpublished,
            (counts["n_recent"] < MIN_ANSWERS, NullReason.FEW_RECENT),
            (counts["n_previous"] < MIN_ANSWERS, NullReason.FEW_PREVIOUS),
            (np.isnan(numbers["improvement"]), NullReason.NO_INFORMATION),
        ),
        "E_t": _values_or_reasons(
            np.clip(-np.expm1(numbers["slow_recent"] - numbers["slow_previous"]), 0.0, 1.0),
            no_scale,
            (counts["timed_recent"] < MIN_TIMED, NullReason.FEW_TIMED_RECENT),
            (counts["timed_previous"] < MIN_TIMED, NullReason.FEW_TIMED_PREVIOUS),
        ),
        "R_t": _values_or_reasons(recovered, no_scale, nothing_wrong, (again == 0, NullReason.NOT_AGAIN)),
        "R_t_coverage": _values_or_reasons(coverage, no_scale, nothing_wrong),
    }


def goal(rows: pd.DataFrame, published: Collection[str]) -> KpiValues:
    """P of learners on scales, from scale_id, target_theta and the columns of `ability.abilities`.

    θ is compared with a target, so its total error is used, or the error of measurement if the total one is unknown.
    """
    names = ("theta", "se_total", "se", "since", "target_theta")
    theta, total, measured, since, target = (rows[name].to_numpy(dtype=float) for name in names)
    se = np.where(np.isnan(total), measured, total)
    no_scale, unpublished = _scale_reasons(rows, published)
    return _values_or_reasons(
        goal_probability(theta, se, since, target),
        no_scale,
        (np.isnan(target), NullReason.NO_TARGET),
        unpublished,
        (np.isnan(theta), NullReason.NO_ABILITY),
    )


def _scale_reasons(rows: pd.DataFrame, published: Collection[str]) -> tuple[tuple[Bools, str], tuple[Bools, str]]:
    scale = rows["scale_id"]
    return (scale.isna().to_numpy(), NullReason.NO_SCALE), (
        ~scale.isin(list(published)).to_numpy(),
        NullReason.NOTHING_PUBLISHED,
    )


def _values_or_reasons(value: Floats, *reasons: tuple[Bools, str]) -> KpiValues:
    """The value of each learner if no reason applies, else NaN with the first reason that applies."""
    why = np.select([holds for holds, _ in reasons], [np.array(reason) for _, reason in reasons], "").astype(object)
    return KpiValues(np.where(why == "", value, np.nan), why)


def engagement(presence: pd.DataFrame) -> tuple[Floats, list[list[str]]]:
    """A_t from `behaviour.presence` (NaN: no answer), and the names of each learner's unknown parts."""
    sessions, spread, days = (presence[f"{name}_28"].to_numpy(dtype=float) for name in ("sessions", "spread", "days"))
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = spread / (days - 1)  # NaN for one day
        parts = {
            "sessions": (0.35, np.where(sessions > 0, np.minimum(1.0, sessions / 28), np.nan)),
            "gaps": (0.25, np.minimum(1.0, 1 / gap)),
            "hints": (0.20, 1 - np.minimum(1.0, presence["hints"].to_numpy(dtype=float) / 3)),
            "dwell": (0.20, np.minimum(1.0, presence["dwell"].to_numpy(dtype=float) / LONG_SESSION)),
        }
    return _weighted_sum(parts, counted=days > 0, without=0.0)


def churn(presence: pd.DataFrame, idle: Floats) -> tuple[Floats, list[list[str]]]:
    """S, and the names of each learner's unknown parts. `presence`: `behaviour.presence`; `idle`: µs since the last
    answer."""
    sessions, spread, days = (presence[f"{name}_56"].to_numpy(dtype=float) for name in ("sessions", "spread", "days"))
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.where(days > 1, np.minimum(1.0, spread / (days - 1) / 7), 1.0)
    parts = {
        "last": (0.60, np.minimum(1.0, idle / (14 * DAY))),
        "gaps": (0.25, gap),
        "sessions": (0.15, np.where(sessions > 0, 1 - np.minimum(1.0, sessions / 10), np.nan)),
    }
    return _weighted_sum(parts, counted=idle <= microseconds(EIGHT_WEEKS), without=1.0)


def _weighted_sum(
    parts: Mapping[str, tuple[float, Floats]], *, counted: Bools, without: float
) -> tuple[Floats, list[list[str]]]:
    """Σ weight · part, with 0.5 for an unknown part (NaN), and the names of each learner's unknown parts.

    Returns `without` for learners who are not `counted`.
    """
    total = sum(weight * np.where(np.isnan(part), 0.5, part) for weight, part in parts.values())
    unknown = {name: np.isnan(part) & counted for name, (_, part) in parts.items()}
    named = [[name for name, missing in unknown.items() if missing[i]] for i in range(counted.size)]
    return np.where(counted, np.clip(total, 0.0, 1.0), without), named


def records(columns: Mapping[str, KpiValues]) -> list[Record]:
    """A record per learner: every KPI of `columns`, null where undefined, and the reasons under `why`."""
    found: list[Record] = [{"why": {}} for _ in next(iter(columns.values())).value]
    for name, column in columns.items():
        for record, value, why in zip(found, column.value.tolist(), column.why.tolist(), strict=True):
            record[name] = None if why else value
            if why:
                record["why"][name] = why
    return found
