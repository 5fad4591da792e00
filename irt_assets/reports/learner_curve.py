"""The curve of a learner's level as inline SVG, for screen and paper alike. Made by hand: a figure costs a millisecond.

The vertical axis is θ, labelled by how many of 100 learners of the population N(μ, σ²) are below. What does not belong
here: the text next to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup, escape

from irt_assets.psychometrics.core.confidence import Z95

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 230, 40, 14, 24, 24
PERCENTILES = ((2.0, "98"), (1.0, "84"), (0.0, "50"), (-1.0, "16"), (-2.0, "2"))
"""SDs from the mean of the population, and how many of 100 are below."""
HIGHEST = 2.6
FONT = "NanumGothic, Noto Sans CJK KR, DejaVu Sans, sans-serif"


@dataclass(frozen=True)
class Level:
    """A measurement: θ and its standard error as of the end of a day."""

    day: date
    theta: float
    se: float


def curve(
    levels: Sequence[Level], target: float | None, *, mu: float, sigma: float, axis: str, goal: str, ends: Sequence[str]
) -> Markup:
    """θ over time with its 95 % interval, at least one measurement, oldest first; `ends` are the first and last date.

    Beyond 2.6 SD of the population the curve is cut off. Raises ValueError where σ is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"the population's SD must be above 0, got {sigma}")
    span = (levels[-1].day - levels[0].day).days

    def x(level: Level) -> float:
        share = (level.day - levels[0].day).days / span if span else 0.5
        return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)

    def y(theta: float) -> float:
        z = max(-HIGHEST, min(HIGHEST, (theta - mu) / sigma))
        return TOP + (HIGHEST - z) / (2 * HIGHEST) * (HEIGHT - TOP - BOTTOM)

    low = [(x(v), y(v.theta - Z95 * v.se)) for v in levels]
    high = [(x(v), y(v.theta + Z95 * v.se)) for v in levels]
    points = [(x(v), y(v.theta)) for v in levels]
    parts = []
    grid = [(y(mu + z * sigma), label) for z, label in PERCENTILES]
    lines = "".join(f"M{LEFT} {at:.1f}H{WIDTH - RIGHT}" for at, _ in grid)
    parts.append(f'<path d="{lines}" stroke="#dcdcdc"/>')
    parts += [_text(LEFT - 6, at + 4, "end", label) for at, label in grid]
    if len(levels) > 1:
        parts.append(f'<path d="M{_path([*high, *reversed(low)])}Z" fill="#cde3f2"/>')
        parts.append(f'<path d="M{_path(points)}" fill="none" stroke="#0072b2" stroke-width="2.5"/>')
    else:
        (px, _), (_, top), (_, bottom) = points[0], high[0], low[0]
        parts.append(f'<path d="M{px:.1f} {top:.1f}V{bottom:.1f}" stroke="#9cc6e3" stroke-width="8"/>')
    dots = "".join(f"M{px:.1f} {py:.1f}h.01" for px, py in points)
    parts.append(f'<path d="{dots}" stroke="#0072b2" stroke-width="7" stroke-linecap="round"/>')
    if target is not None:
        at = y(target)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#b34700" stroke-dasharray="7 4"/>')
        parts.append(_text(WIDTH - RIGHT, at - 5 if at > TOP + 14 else at + 14, "end", goal, "#8f3900"))
    parts.append(_text(LEFT + 4, TOP / 2, "start", axis))
    parts.append(_text(points[0][0], HEIGHT - 6, "start" if span else "middle", ends[0]))
    if span:
        parts.append(_text(points[-1][0], HEIGHT - 6, "end", ends[1]))
    return Markup(  # noqa: S704 - numbers, and words that _text has escaped
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="{FONT}" font-size="12">{"".join(parts)}</svg>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{px:.1f} {py:.1f}" for px, py in points)


def _text(px: float, py: float, anchor: str, text: str, colour: str = "#595959") -> str:
    return f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
