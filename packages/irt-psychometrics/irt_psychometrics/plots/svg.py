"""Render charts as SVG text, small enough for hundreds of charts in a report, and identical on screen and on paper.

Styles are presentation attributes, because style sheets do not apply to images in a PDF. A `<title>` shows the value
of a point under the pointer. Colours are similar to those of Okabe and Ito, which people with any kind of colour vision
can distinguish.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from irt_psychometrics.plots.axes import Axes, Boxes, Line, Names, Part, Points, shortened

COLOURS = {
    "blue": "#0072B2", "orange": "#D55E00", "grey": "#767676", "black": "#1a1a1a", "green": "#007A5E",
    "purple": "#A8578A", "sky": "#3A9BD0", "yellow": "#A89A00",
}  # fmt: skip
DASHES = {
    "solid": "", "dash": ' stroke-dasharray="6 3"', "dot": ' stroke-dasharray="1.5 2.5"',
    "dashdot": ' stroke-dasharray="7 3 1.5 3"',
}  # fmt: skip
FONT = "NanumGothic, Noto Sans CJK KR, DejaVu Sans, sans-serif"
WIDTH, PIXELS = 720, 900
"""Width of a picture in the units of its charts, and in pixels."""
MAX_POINTS = 1000
"""Maximum number of points of a series in a picture, so that it stays below 150 kB. Longer series are thinned."""
_RIGHT, _BOTTOM, _LINE, _LETTER = 8, 32, 12, 5.2
_NAME = 60, 10  # width and height of the space for a name
_TICK_NAME = 30
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


def bare(chart: Axes) -> str:
    """Render the chart without background and legend, with a title at each point that has one."""
    return _document(
        "".join(_Drawing(chart, chart.width).body()), (chart.width, chart.height), chart.width, chart.described
    )


def render_framed(chart: Axes) -> str:
    """Render the chart on white below its legend, with a title at each point that has one."""
    body, height = _rows([chart], 1, chart.width, None, *_legend([chart], chart.width, 4.0))
    return _document(body, (chart.width, height), round(PIXELS * chart.width / WIDTH), chart.described)


def image(title: str, charts: Sequence[Axes], columns: int) -> str:
    """Render charts under a title on white, with a legend of the parts that have names."""
    y = 4.0
    parts = []
    for line in (line for text in title.split("\n") for line in textwrap.wrap(text, 130)):
        y += _LINE
        parts.append(f'<text x="4" y="{y}" font-size="10">{_escape(shortened(line, 200))}</text>')
    legend, y = _legend(charts, WIDTH, y)
    body, height = _rows(charts, columns, WIDTH, MAX_POINTS, [*parts, *legend], y)
    return _document(body, (WIDTH, height), PIXELS, title)


def _legend(charts: Sequence[Axes], whole: int, y: float) -> tuple[list[str], float]:
    """Legend of the parts that have names, below `y`. Returns its elements and the y at which it ends."""
    parts, x = [], float(whole)
    for name, part in {part.name: part for chart in charts for part in chart.parts if part.name}.items():
        width = 34 + _LETTER * len(name)
        if x + width > whole:
            x, y = 4.0, y + _LINE + 2
        parts.append(_sample(part, x, y - 3) + _text(x + 22, y, name))
        x += width
    return parts, y


def _rows(
    charts: Sequence[Axes], columns: int, whole: int, most: int | None, above: Sequence[str], y: float
) -> tuple[str, float]:
    """Background, the elements `above`, and the charts from `y` on. Returns them and the total height."""
    parts = [*above]
    y += 6
    width = whole // columns
    for start in range(0, len(charts), columns):
        row = charts[start : start + columns]
        for k, chart in enumerate(row):
            body = "".join(_Drawing(chart, width, most).body())
            parts.append(f'<g transform="translate({k * width} {y})">{body}</g>')
        y += max(chart.height for chart in row) + 4
    return f'<rect width="{whole}" height="{y}" fill="white"/>' + "".join(parts), y


class _Drawing:
    """A chart in `width`. If `most` is set, it limits the number of points of a series, and points have no titles. If
    it is None, all points are drawn, with titles."""

    def __init__(self, chart: Axes, width: int, most: int | None = None) -> None:
        self.chart, self.most = chart, most
        longest = max((len(name) for name in chart.y_names.values()), default=0)
        self.left = max(42.0, min(20 + _LETTER * longest, width / 3))
        self.right, self.top, self.bottom = (
            width - _RIGHT,
            22 if chart.heading else 10,
            chart.height - (_BOTTOM if chart.x_label else 18),
        )

    def body(self) -> Iterator[str]:
        chart, left, right, top, bottom = self.chart, self.left, self.right, self.top, self.bottom
        behind = [part for part in chart.parts if isinstance(part, Boxes) and part.pale]
        for box in behind:
            yield from self._boxes(box)
        for tick, text in list(chart.y_names.items()) or [*map(_tick_label, _ticks(*chart.y))]:
            py = self._y(tick)
            yield f'<path d="M{left:g} {py}H{right}" stroke="#E4E4E4" stroke-width="0.7"/>'
            yield _text(left - 4, py + 3, text, "end")
        for tick, text in self._x_ticks():
            px = self._x(tick)
            yield f'<path d="M{px} {bottom}v3" stroke="{COLOURS["grey"]}" stroke-width="0.8"/>'
            yield _text(px, bottom + 12, text, "middle")
        draw: dict[type, Any] = {Line: self._line, Points: self._points, Boxes: self._boxes, Names: self._names}
        for part in chart.parts:
            if part not in behind:
                yield from draw[type(part)](part)
        yield (
            f'<path d="M{left:g} {top}V{bottom}H{right}" fill="none" stroke="{COLOURS["grey"]}" stroke-width="0.8"/>'
        )
        yield _text((left + right) / 2, chart.height - 5, chart.x_label, "middle")
        yield _text(
            10, (top + bottom) / 2, chart.y_label, "middle", f' transform="rotate(-90 10 {(top + bottom) / 2})"'
        )
        if chart.heading:
            yield _text(left, 12, chart.heading, "start", ' font-weight="bold"')
        for k, note in enumerate(chart.notes):
            yield _text(left + 5, top + 9 + 10 * k, note)

    def _line(self, line: Line) -> Iterator[str]:
        if line.low:
            outline = self._path([*line.xs, *reversed(line.xs)], [*line.low, *reversed(line.high)])
            yield f'<polygon points="{outline}" fill="{COLOURS[line.colour]}" fill-opacity="0.18"/>'
        xs, ys = line.xs, line.ys
        if line.steps:
            xs, ys = [x for x in xs for _ in "ab"][1:], [y for y in ys for _ in "ab"][:-1]
        yield (
            f'<polyline points="{self._path(xs, ys)}" fill="none" stroke="{COLOURS[line.colour]}" '
            f'stroke-width="{line.width}"{DASHES[line.dash]}/>'
        )

    def _points(self, points: Points) -> Iterator[str]:
        colour = COLOURS[points.colour]
        step = 1 if self.most is None else math.ceil(len(points.xs) / self.most)
        shown = [k for k in range(0, len(points.xs), step) if math.isfinite(points.ys[k])]
        if step > 1:
            yield _text(self.right - 2, self.bottom - 4, f"one of {step} points is drawn", "end")
        if points.joined:
            yield from self._line(Line(points.xs, points.ys, points.colour, width=0.7))
        moves = "".join(
            f"M{self._x(points.xs[k])} {self._y(points.low[k])}V{self._y(points.high[k])}"
            for k in shown
            if points.low and math.isfinite(points.low[k])
        ) + "".join(
            f"M{self._x(points.left[k])} {self._y(points.ys[k])}H{self._x(points.right[k])}"
            for k in shown
            if points.left and math.isfinite(points.left[k])
        )
        if moves:
            yield f'<path d="{moves}" fill="none" stroke="{colour}" stroke-width="1.1" stroke-opacity="0.7"/>'
        low, high = sorted(self.chart.y)
        marks: dict[str, list[str]] = {}
        for k in shown:
            x, y = points.xs[k], points.ys[k]
            shape: str = "caret-up" if y > high else "caret-down" if y < low else points.shape
            at = f"M{self._x(x)} {self._y(y)}"
            if points.titles and self.most is None:
                yield _marks(shape, [at], points.size, colour, f"<title>{_escape(_clean(points.titles[k]))}</title>")
            else:
                marks.setdefault(shape, []).append(at)
        for shape, places in marks.items():
            yield _marks(shape, places, points.size, colour)

    def _boxes(self, boxes: Boxes) -> Iterator[str]:
        opacity = 0.13 if boxes.pale else 0.35 if boxes.hatched else 1
        for k, (left, right) in enumerate(zip(boxes.xs, boxes.right, strict=True)):
            x, y = self._x(left), self._y(boxes.top[k])
            fill = boxes.fills[k] if boxes.fills else COLOURS[boxes.colour]
            yield (
                f'<rect x="{x}" y="{y}" width="{self._x(right) - x:.1f}" height="{self._y(boxes.ys[k]) - y:.1f}" '
                f'fill="{fill}" fill-opacity="{opacity}"/>'
            )
            if boxes.texts and boxes.texts[k]:
                middle = (x + self._x(right)) / 2, (y + self._y(boxes.ys[k])) / 2 + 3
                halo = ' stroke="white" stroke-width="2.5" paint-order="stroke"'
                yield _text(*middle, boxes.texts[k], "middle", halo)

    def _names(self, names: Names) -> Iterator[str]:
        taken = list[tuple[float, float]]()
        for x, y, name in zip(names.xs, names.ys, names.names, strict=True):
            px, py, text = self._x(x), self._y(y), shortened(name, 22)
            near = [level for other, level in taken if abs(px - other) < _NAME[0]]
            levels = (py, py - _NAME[1], py + _NAME[1])
            level = next((level for level in levels if all(abs(level - one) >= _NAME[1] for one in near)), None)
            if level is None:
                continue
            taken.append((px, level))
            right = px + 5 + _LETTER * len(text) <= self.right + _RIGHT
            place = px + (5 if right else -5), level + 3, text, "start" if right else "end"
            yield _text(*place, ' stroke="white" stroke-width="3"') + _text(*place)  # white around black

    def _x_ticks(self) -> list[tuple[float, str]]:
        """Labels of the x axis: as many names as fit, including the last one; without names, round numbers or days."""
        chart = self.chart
        if chart.x_names:
            every = math.ceil(len(chart.x_names) * _TICK_NAME / (self.right - self.left)) or 1
            return list(chart.x_names.items())[::-1][::every]
        if chart.dated:
            places = [chart.x[0] + (chart.x[1] - chart.x[0]) * share for share in (0.1, 0.35, 0.6, 0.85)]
            return [(day, f"{date(1970, 1, 1) + timedelta(day):%Y-%m-%d}") for day in map(math.floor, places)]
        return [*map(_tick_label, _ticks(*chart.x))]

    def _x(self, value: float) -> float:
        return round(self.left + _share(value, self.chart.x) * (self.right - self.left), 1)

    def _y(self, value: float) -> float:
        return round(self.bottom - _share(value, self.chart.y) * (self.bottom - self.top), 1)

    def _path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(f"{self._x(x)},{self._y(y)}" for x, y in zip(xs, ys, strict=True) if math.isfinite(y))


def _marks(shape: str, places: Sequence[str], r: float, colour: str, title: str = "") -> str:
    """One path with a mark at each position (`M… …`)."""
    wide = f"{1.4 * r:.1f}"
    outline, stroke = {
        "circle": ("h.01", 2 * r),
        "cross": (f"m{-r:.1f} {-r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}", 1.6),
        "triangle": (f"m0 {-1.5 * r:.1f}l{1.4 * r:.1f} {2.5 * r:.1f}h{-2.8 * r:.1f}z", 0),
        "diamond": (f"m0 -{wide}l{wide} {wide}l-{wide} {wide}l-{wide} -{wide}z", 0),
        "square": (f"m{-r:.1f} {-r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}z", 0),
        "caret-up": (f"l{r:.1f} {2 * r:.1f}h{-2 * r:.1f}z", 0),
        "caret-down": (f"l{r:.1f} {-2 * r:.1f}h{-2 * r:.1f}z", 0),
    }[shape]
    drawn = "".join(place + outline for place in places)
    style = f'fill="none" stroke="{colour}" stroke-width="{stroke:g}"' if stroke else f'fill="{colour}"'
    return f'<path d="{drawn}" {style} stroke-linecap="round">{title}</path>'


def _sample(part: Part, x: float, y: float) -> str:
    """Sample of a part for the legend."""
    colour = COLOURS[part.colour]
    if isinstance(part, Points):
        return _marks(part.shape, [f"M{x + 9} {y}"], part.size, colour)
    if isinstance(part, Line):
        return f'<path d="M{x} {y}h18" stroke="{colour}" stroke-width="{part.width}"{DASHES[part.dash]}/>'
    return f'<rect x="{x}" y="{y - 4}" width="18" height="8" fill="{colour}" fill-opacity="0.3"/>'


def _document(body: str, box: tuple[float, float], pixels: int, described: str) -> str:
    width, height = box
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{pixels}" height="{height * pixels / width:g}" role="img" '
        f'aria-label="{_escape(_clean(described))}" xmlns="http://www.w3.org/2000/svg" font-size="9" '
        f'fill="{COLOURS["black"]}" font-family="{FONT}">{body}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{_escape(_clean(text))}</text>'


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _clean(text: str) -> str:
    """Replace characters that XML does not allow, and shorten the text to 1000 characters."""
    return shortened(text, 1000)


def _share(value: float, ends: tuple[float, float]) -> float:
    return min(max((value - ends[0]) / (ends[1] - ends[0]), 0.0), 1.0)


def _tick_label(tick: float) -> tuple[float, str]:
    """Position of a tick, and its number with a true minus sign."""
    return tick, f"{tick:g}".replace("-", "−")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within the axis, at most seven."""
    low, high = min(low, high), max(low, high)
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]
