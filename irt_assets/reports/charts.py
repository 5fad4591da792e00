"""Charts as SVG text, small enough for hundreds in a report, and the same on screen and on paper.

Everything is in presentation attributes, since a PDF's images see no style sheet; a `<title>` shows a value where the
pointer rests. What does not belong here: what is drawn (see the callers), and plots for the UI (the modules `plots`).

Colours are two of Okabe and Ito's; a line that is dashed, or a mark of another shape, says the same in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from markupsafe import Markup, escape

BLUE, ORANGE, GREY, BLACK = "#0072B2", "#D55E00", "#767676", "#1a1a1a"
Numbers = Iterable[float]
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 10, 32
_NAME = 60, 10  # the space that a name takes
_TICK_NAME = 30


@dataclass
class Chart:
    """One pair of axes, x and y in the units of the data; parts are drawn in the order in which they are added.

    x, y: lower and upper end of the axis. `x_names`: labels at 0, 1, 2 … in place of numbers. `described`: what the
    chart shows, for those who do not see it.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    described: str
    width: int = 330
    height: int = 210
    x_names: Sequence[str] = ()
    _parts: list[str] = field(default_factory=list)

    def line(self, xs: Numbers, ys: Numbers, colour: str, *, dashed: bool = False, width: float = 1.8) -> Chart:
        dash = ' stroke-dasharray="6 3"' if dashed else ""
        self._parts.append(
            f'<polyline points="{self._path(xs, ys)}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
        )
        return self

    def band(self, xs: Numbers, low: Numbers, high: Numbers, colour: str) -> Chart:
        xs, low, high = list(xs), list(low), list(high)
        outline = self._path([*xs, *reversed(xs)], [*low, *reversed(high)])
        self._parts.append(f'<polygon points="{outline}" fill="{colour}" fill-opacity="0.18"/>')
        return self

    def intervals(self, xs: Numbers, low: Numbers, high: Numbers, colour: str, width: float = 1.1) -> Chart:
        """A vertical line from low to high at each x, cut at the axes."""
        moves = "".join(
            f"M{self._x(x)} {self._y(lo)}V{self._y(hi)}" for x, lo, hi in zip(xs, low, high, strict=True) if lo == lo
        )
        self._parts.append(f'<path d="{moves}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        return self

    def points(
        self,
        xs: Numbers,
        ys: Numbers,
        colour: str,
        shape: Literal["circle", "triangle", "cross"] = "circle",
        titles: Sequence[str] = (),
        size: float = 2.6,
    ) -> Chart:
        for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if not math.isfinite(y):
                continue
            px, py = self._x(x), self._y(y)
            mark = {
                "circle": f'<circle cx="{px}" cy="{py}" r="{size}" fill="{colour}"',
                "triangle": f'<path fill="{colour}" '
                f'd="M{px} {py - 1.5 * size:.1f}l{1.4 * size:.1f} {2.5 * size:.1f}h{-2.8 * size:.1f}z"',
                "cross": f'<path d="M{px - size:.1f} {py - size:.1f}l{2 * size:.1f} {2 * size:.1f}m0 {-2 * size:.1f}'
                f'l{-2 * size:.1f} {2 * size:.1f}" stroke="{colour}" stroke-width="1.6"',
            }[shape]
            title = f"><title>{escape(titles[k])}</title></{mark[1:].split()[0]}>" if titles else "/>"
            self._parts.append(mark + title)
        return self

    def names(self, xs: Numbers, ys: Numbers, names: Sequence[str]) -> Chart:
        """Names next to points, except those that would overlap an earlier one."""
        middle, taken = sum(self.x) / 2, list[tuple[float, float]]()
        for x, y, name in zip(xs, ys, names, strict=True):
            at, right = (self._x(x), self._y(y)), x <= middle
            if any(abs(at[0] - px) < _NAME[0] and abs(at[1] - py) < _NAME[1] for px, py in taken):
                continue
            taken.append(at)
            text = f'<text x="{at[0] + (5 if right else -5):.1f}" y="{at[1] + 3:.1f}"'
            text += f' text-anchor="{"start" if right else "end"}"'
            label = f"{escape(_short(name, 22))}</text>"
            self._parts.append(f'{text} stroke="white" stroke-width="3">{label}{text}>{label}')  # white around black
        return self

    def level(self, y: float) -> Chart:
        """A thin line across, as at 0."""
        return self.line(self.x, (y, y), GREY, width=0.8)

    def svg(self) -> Markup:
        """The chart, safe to stand in HTML: every text in it is escaped."""
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        parts = []
        for tick in _ticks(*self.y):
            py = self._y(tick)
            parts.append(f'<path d="M{_LEFT} {py}H{right}" stroke="#E4E4E4" stroke-width="0.7"/>')
            parts.append(f'<text x="{_LEFT - 4}" y="{py + 3:.1f}" text-anchor="end">{tick:g}</text>')
        every = math.ceil(len(self.x_names) * _TICK_NAME / (right - _LEFT)) or 1
        named = [(float(k), name) for k, name in enumerate(self.x_names) if (len(self.x_names) - 1 - k) % every == 0]
        for tick, text in named or [(tick, f"{tick:g}") for tick in _ticks(*self.x)]:
            px = self._x(tick)
            parts.append(f'<path d="M{px} {bottom}v3" stroke="{GREY}" stroke-width="0.8"/>')
            parts.append(f'<text x="{px}" y="{bottom + 12}" text-anchor="middle">{escape(text)}</text>')
        parts += self._parts
        parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="{GREY}" stroke-width="0.8"/>')
        middle = (_LEFT + right) / 2
        parts.append(f'<text x="{middle}" y="{self.height - 5}" text-anchor="middle">{escape(self.x_label)}</text>')
        turned = f"rotate(-90 10 {(_TOP + bottom) / 2})"
        parts.append(
            f'<text x="10" y="{(_TOP + bottom) / 2}" text-anchor="middle" transform="{turned}">'
            f"{escape(self.y_label)}</text>"
        )
        described = escape(self.described)
        return Markup(  # noqa: S704 - numbers of ours, and text that was escaped above
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img" '
            f'aria-label="{described}" xmlns="http://www.w3.org/2000/svg" font-size="9" fill="{BLACK}" '
            f'font-family="NanumGothic, DejaVu Sans, sans-serif">{"".join(parts)}</svg>'
        )

    def _x(self, value: float) -> float:
        return round(_LEFT + self._share(value, self.x) * (self.width - _LEFT - _RIGHT), 1)

    def _y(self, value: float) -> float:
        return round(self.height - _BOTTOM - self._share(value, self.y) * (self.height - _BOTTOM - _TOP), 1)

    @staticmethod
    def _share(value: float, ends: tuple[float, float]) -> float:
        return min(max((value - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0)

    def _path(self, xs: Numbers, ys: Numbers) -> str:
        return " ".join(f"{self._x(x)},{self._y(y)}" for x, y in zip(xs, ys, strict=True) if math.isfinite(y))


def ends_of(*values: Numbers, least: float = 0.1) -> tuple[float, float]:
    """Ends of an axis that holds all of the values (those that are not finite aside), with some room."""
    found = np.array([v for some in values for v in some if v is not None and math.isfinite(v)])
    if not found.size:
        return -1.0, 1.0
    low, high = float(found.min()), float(found.max())
    room = 0.08 * max(high - low, least)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within the axis, four to eight of them."""
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
