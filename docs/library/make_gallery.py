"""Write the gallery of figures from simulated answers: gallery.md, and an SVG file of each figure in images/.

python docs/library/make_gallery.py            # writes the files
python docs/library/make_gallery.py --check    # exit code 1: prints the names of outdated files
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics import Dimensions, DimensionsFit, ItemWarning, Responses, datasets, fit as fit_of, plots
from irt_psychometrics.dif import Dif
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.itemfit import item_fit
from irt_psychometrics.linking import AnchorSet, link_to_anchors
from irt_psychometrics.scoring import estimate_abilities

FOLDER = Path(__file__).parent
SEED = 20
PERSONS = 2000
RIGHT_OR_WRONG, SCORED = 24, 4
MAX_SCORE = 3
MISFIT, TURN = 21, 0.3
"""The item whose answers do not follow its model, and θ above which they get worse."""
ROUNDING = 0.3
"""Numbers of a drawing may differ by this many pixels between processors."""

HEAD = """\
# Gallery

Every figure of the library is a chart. A notebook shows it, and `chart.save("figure.png")` writes it as SVG, PNG or
PDF. `chart.to_matplotlib(ax)` draws it on axes of matplotlib, to combine it with your own, and
`plotly.graph_objects.Figure(chart.to_plotly())` makes an interactive figure of it. PNG, PDF and axes need the extra
`plots`: `pip install "irt-psychometrics[plots]"`. A figure of two panels is a picture; its `charts` have the same
methods. Bands and bars are 95 % intervals. Differences shown by colour are also shown by a dash or a shape.

Results draw themselves: `f.plot("i07")` draws the curve of an item, `f.plot()` persons and items, `f.score(x).plot()`
abilities, `f.information().plot()` information, and `plot()` of `link`, `find_drift` and `find_dif` their results. The
functions on this page draw the same figures from any of these objects.

The figures of this page use simulated answers of 2,000 persons to 24 items scored 0 and 1 and 4 items scored 0 to 3.
`docs/library/make_gallery.py` makes them. In the code, `fit` is a calibration, `x` contains the responses, and `scores`
the abilities.
"""


@dataclass(frozen=True)
class Entry:
    """A figure of the page, which `code` draws."""

    name: str
    title: str
    text: str
    code: str


ENTRIES = (
    Entry(
        "item-curves",
        "Response curves",
        "The probability of a right answer by ability. Points are observed proportions among persons of similar "
        "ability, estimated from their other answers; a curve that misses them does not describe its item.",
        'plots.item_curves(fit, "i07", responses=x)',
    ),
    Entry(
        "wrong-key",
        "A wrong key",
        "The curve of an item with a wrong key falls: the abler a person, the less likely a right answer. `wrong` is a "
        "fit of `irt.datasets.wrong_key()`, in which q07 has a wrong key, and `chosen` contains the responses.",
        'wrong.plot("q07", "q08", responses=chosen)',
    ),
    Entry(
        "several-curves",
        "Several items",
        "Each item has its own colour and dash.",
        'plots.item_curves(fit, ["i02", "i07", "i15", "i21"])',
    ),
    Entry(
        "score-curves",
        "Scores of one item",
        "The probability of each score of an item that is scored 0 to 3.",
        'plots.item_curves(fit, "s2", each_score=True, responses=x)',
    ),
    Entry(
        "test-information",
        "Test information",
        "The range in which the test measures well, and the resulting standard error of θ.",
        "plots.test_information(fit)",
    ),
    Entry(
        "item-information",
        "Item information",
        "The most informative items have names; the others are grey.",
        "plots.item_information(fit)",
    ),
    Entry(
        "wright-map",
        "Wright map",
        "Persons and items on one scale. Items above the persons are too hard for them.",
        "plots.wright_map(fit, scores)",
    ),
    Entry(
        "scores",
        "Abilities",
        "EAP estimates vary less than the population of the fit, because each is shrunk towards its mean.",
        "plots.score_distribution(scores, fit)",
    ),
    Entry(
        "item-fit",
        "Item fit",
        "Infit and outfit are 1 if the model holds. Items are orange if their RMSD exceeds the value that one sound "
        "item in a thousand exceeds. Answers to i22 get worse above θ = 0.3.",
        "plots.item_fit(fit, item_fit(x, fit))",
    ),
    Entry(
        "linking",
        "Linking",
        "A second sample, in which θ has a different mean and SD, compared with the first. Two items have changed and "
        "i22 does not follow its model: the linking leaves them out.",
        "plots.linking(second, anchors, constants)",
    ),
    Entry(
        "drift",
        "Drift",
        "The change of each item since it was published. Bars include the normal variation of items.",
        "plots.drift(moved)",
    ),
    Entry(
        "dif-effects",
        "DIF of all items",
        "The difference of difficulty between two groups of equal ability.",
        "plots.dif_effects(dif)",
    ),
    Entry(
        "dif-curves",
        "DIF of one item",
        "The curves of an item in two groups, each from its own fit, on one scale.",
        'plots.dif_curves(fit, second_linked, "i05", names=("first sample", "second sample"))',
    ),
    Entry(
        "loadings",
        "Several abilities",
        "Loadings on a general and three specific abilities, and the parts of the variance of sums of items (ω). "
        "`bifactor` is the fit of [several abilities](several-abilities.md): more than half of algebra is its own.",
        "bifactor.plot()",
    ),
)


def pages() -> Iterator[tuple[Path, str]]:
    """The page and the files of its figures, each with its content."""
    names = _results()
    parts = [HEAD]
    for entry in ENTRIES:
        figure = eval(entry.code, names)  # noqa: S307 - code of this file, which the page shows
        yield FOLDER / "images" / f"{entry.name}.svg", figure.to_svg() + "\n"
        image = f"![{_description(figure)}](images/{entry.name}.svg)"
        parts.append(f"## {entry.title}\n\n{entry.text}\n\n```python\n{entry.code}\n```\n\n{image}\n")
    yield FOLDER / "gallery.md", "\n".join(parts)


def _description(figure: plots.Chart | plots.Picture) -> str:
    return figure.described if isinstance(figure, plots.Chart) else figure.title


def _results() -> dict[str, Any]:
    """The objects that the code of the entries uses, by name."""
    rng = np.random.default_rng(SEED)
    a, b = rng.uniform(0.7, 1.9, RIGHT_OR_WRONG + SCORED), np.linspace(-2.2, 2.2, RIGHT_OR_WRONG + SCORED)
    b[:RIGHT_OR_WRONG] = rng.permutation(np.linspace(-2.2, 2.2, RIGHT_OR_WRONG))
    b[RIGHT_OR_WRONG:] = (-0.8, -0.2, 0.3, 0.9)
    x = _answers(rng, a, b, rng.normal(0, 1, PERSONS))
    changed = b.copy()
    changed[[4, 16]] += (0.9, -0.8)
    y = _answers(rng, a, changed, rng.normal(0.4, 1.2, PERSONS))
    fit, second = _fit(x), _fit(y)
    anchors = AnchorSet(
        **vars(fit.items),
        scale_id="gallery",
        version="1",
        topics=(None,) * fit.n_items,
        errors_assumed=np.zeros(fit.n_items, dtype=bool),
    )
    constants = link_to_anchors(second, anchors)
    both = Responses(
        np.concatenate([x.person, y.person + x.n_persons]),
        np.concatenate([x.item, y.item]),
        np.concatenate([x.score, y.score]),
        x.n_persons + y.n_persons,
        x.item_ids,
        x.categories,
    )
    groups = ["first sample"] * x.n_persons + ["second sample"] * y.n_persons
    scores = estimate_abilities(
        x, fit.a, fit.d, fit.c, others=fit.curves.others, mean=fit.latent_mean, sd=fit.latent_sd
    )
    chosen = datasets.wrong_key().responses
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ItemWarning)  # it names q07
        wrong = fit_of(chosen)
    return {
        "plots": plots,
        "chosen": chosen,
        "wrong": wrong,
        "item_fit": item_fit,
        "x": x,
        "fit": fit,
        "second": second,
        "second_linked": second.rescaled(constants.slope, constants.intercept),
        "anchors": anchors,
        "constants": constants,
        "moved": Drift.from_comparison(
            Comparison.from_linked_fit(second, constants, anchors, Published.from_anchors(anchors))
        ),
        "dif": Dif.from_responses("sample", both, groups, model=_models()),
        "scores": scores,
        "bifactor": _bifactor(),
    }


def _bifactor() -> DimensionsFit:
    """The fit of the page on several abilities."""
    rng = np.random.default_rng(1)
    names = [f"{topic}{k}" for topic in ("algebra", "geometry", "data") for k in range(1, 9)]
    general, specific = rng.normal(size=(2000, 1)), rng.normal(size=(2000, 3)) * [1.2, 0.5, 0.5]
    z = 1.2 * general + specific.repeat(8, axis=1) + rng.normal(size=24)
    x = Responses.from_wide(dict(zip(names, (z > rng.logistic(size=z.shape)).astype(int).T, strict=True)))
    return fit_of(x, dimensions=Dimensions.bifactor({name: name[:-1] for name in names}))


def _answers(rng: np.random.Generator, a: npt.NDArray[Any], b: npt.NDArray[Any], theta: npt.NDArray[Any]) -> Responses:
    """Simulated answers, of which each person has two thirds."""
    ids = [f"i{j:02}" for j in range(1, RIGHT_OR_WRONG + 1)] + [f"s{j}" for j in range(1, SCORED + 1)]
    steps = np.array([-0.9, 0.0, 0.9])
    matrix = np.empty((theta.size, a.size))
    for j in range(a.size):
        able = np.where((j == MISFIT) & (theta > TURN), TURN - 0.6 * (theta - TURN), theta)
        gained = a[j] * (able[:, None] - b[j] - (steps if j >= RIGHT_OR_WRONG else np.zeros(1)))
        logits = np.column_stack([np.zeros(theta.size), np.cumsum(gained, axis=1)])
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        below = np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)
        matrix[:, j] = (rng.random((theta.size, 1)) > below).sum(axis=1)
    matrix[rng.random(matrix.shape) > 2 / 3] = np.nan
    return Responses.from_wide(matrix, ids, np.where(np.arange(a.size) < RIGHT_OR_WRONG, 2, MAX_SCORE + 1))


def _models() -> list[Any]:
    return ["2pl"] * RIGHT_OR_WRONG + ["gpcm"] * SCORED


def _fit(responses: Responses) -> Any:
    return fit_em(responses, model=_models())


def is_current(path: Path, content: str) -> bool:
    """Whether a file has this content, but for the rounding of numbers in a drawing."""
    if not path.exists():
        return False
    stored = path.read_text(encoding="utf-8")
    if stored == content or path.suffix != ".svg":
        return stored == content
    number = re.compile(r"-?\d+\.?\d*")
    if number.sub("0", stored) != number.sub("0", content):
        return False
    pairs = zip(number.findall(stored), number.findall(content), strict=True)
    return all(abs(float(old) - float(new)) <= ROUNDING for old, new in pairs)


def main(arguments: list[str]) -> int:
    written = list(pages())
    stale = [path for path, content in written if not is_current(path, content)]
    if "--check" in arguments:
        for path in stale:
            sys.stdout.write(f"{path.relative_to(FOLDER)} is not up to date: python docs/library/make_gallery.py\n")
        return bool(stale)
    for path, content in written:
        if path in stale:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
