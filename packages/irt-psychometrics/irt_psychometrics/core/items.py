"""Parameters of items on a scale in the form of tables, anchors, publications and reports: a, b and c with D = 1.

`ItemRow` is one item and `ItemParameters` are many, with their curves and errors. Estimates in (a, d), d = −a·b, and
the record of a fit are a `models.Calibration`, whose `items` are `ItemParameters`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import covariances, curves, item_tables, program_forms
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.assumed_errors import assumed_covariances, assumed_errors
from irt_psychometrics.core.confidence import Z95
from irt_psychometrics.core.errors import ItemWarning, PsychometricsError
from irt_psychometrics.core.frames import Column, make, read_frame
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems, model_with, select_others
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.program_forms import Program, ProgramForm
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.wording import some_of

WHOLE_SLOPE = "a·m"
"""Name of the slope of an item's maximum score."""


@dataclass(frozen=True)
class ItemRow:
    """The parameters of one item; errors are None if they are not known.

    Attributes
    ----------
    cov_ab
        Covariance of a and b.
    further
        The parameters that the item's model adds to a, b and c, by name; the error of `u` is `u_se`.

    Examples
    --------
    >>> from irt_psychometrics.items import ItemRow
    >>> str(ItemRow(1.5, 0.2, a_se=0.1, b_se=0.08))
    'a = 1.50 ± 0.10, b = 0.20 ± 0.08'
    """

    a: float
    b: float
    c: float = 0.0
    a_se: float | None = None
    b_se: float | None = None
    cov_ab: float | None = None
    c_se: float | None = None
    further: Mapping[str, float] = field(default_factory=dict, hash=False, kw_only=True)

    WHOLE_SLOPE: ClassVar[str] = WHOLE_SLOPE
    COLUMNS: ClassVar[tuple[str, ...]] = (*program_forms.COLUMNS, *program_forms.OF_OTHER_MODELS)
    """All columns in which other programs write an item; columns of unknown models are refused by name."""
    FACTS: ClassVar[tuple[str, ...]] = program_forms.WINSTEPS_FACTS
    """Columns beside MEASURE in an IFILE of Winsteps, which `parameters_of` reads, too."""
    STEPS_OR_GRADED: ClassVar[str] = program_forms.STEPS_OR_GRADED
    """A note for items whose columns may also be those of graded responses."""
    require_known_model = staticmethod(program_forms.require_known_model)
    form_of = staticmethod(program_forms.form_of)
    is_graded = staticmethod(program_forms.is_graded)
    is_nominal = staticmethod(program_forms.is_nominal)
    parameters_of = staticmethod(program_forms.parameters_of)
    in_metric = staticmethod(program_forms.in_metric)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], before: str = "") -> ItemRow:
        """Read an item from a row with the attributes' names, each with the prefix `before`; errors may be absent."""
        a, b, c = row[before + "a"], row[before + "b"], row.get(before + "c") or 0.0
        errors = (row.get(before + name) for name in ("a_se", "b_se", "cov_ab", "c_se"))
        further = row.get(before + "further") or {}
        return cls(a, b, c, *errors, further={name: float(value) for name, value in further.items()})

    @classmethod
    def if_known(cls, row: Mapping[str, Any], before: str = "") -> ItemRow | None:
        """Read an item as `from_row` does. Returns None if a or b is missing."""
        known = row.get(before + "a") is not None and row.get(before + "b") is not None
        return cls.from_row(row, before) if known else None

    def columns(self, form: ProgramForm, metric_d: float = 1.0) -> dict[str, float]:
        """Return the item's columns in a program's form with D = `metric_d`, and the errors that are known.

        Raises
        ------
        PsychometricsError
            If the form has no place for the item.

        Examples
        --------
        >>> from irt_psychometrics.items import ItemRow
        >>> ItemRow(1.7, 0.5).columns("fasttest", metric_d=1.7)
        {'IRT a': 1.0, 'IRT b': 0.5, 'IRT c': 0.0}
        """
        errors = {name: x for name in ("a_se", "b_se") if (x := getattr(self, name)) is not None}
        own = {"a": self.a, "b": self.b, "c": self.c} | errors | dict(self.further)
        of_program = program_forms.in_metric(own, 1 / metric_d)
        found = program_forms.columns_of(form, of_program)
        steps = [f"{name}_se" for name in found if form == "steps"]
        if form == "winsteps":
            return found | ({"MODLSE": of_program["b_se"]} if "b_se" in of_program else {})
        return found | {name: of_program[name] for name in ("a_se", "b_se", *steps) if name in of_program}

    @property
    def of_model(self) -> dict[str, float]:
        """The parameters that the item's model adds to a and b, with c if they include it."""
        return {"c": self.c, **self.further} if self.c and self.further else dict(self.further)

    @property
    def scored_with(self) -> list[Any]:
        """The parameters with which answers are scored, for JSON: a, b, c, and what the item's model adds to them."""
        return [*self.abc, dict(self.further)] if self.further else [*self.abc]

    def __str__(self) -> str:
        most = self.max_score
        held = {"max_score"} | {name.removesuffix("_se") for name, x in self.further.items() if x == 0}
        known = self.in_brief | {name: x for name, x in self.shown.items() if most == 1 or name not in held}
        values = ", ".join(
            f"{name} = {value:.2f}" + ("" if name == "c" else f" ± {'?' if se is None else format(se, '.2f')}")
            for name, (value, se) in known.items()
        )
        return values if most == 1 else f"{values}, scored 0 … {most}"

    @property
    def shown(self) -> dict[str, tuple[float, float | None]]:
        """The parameters by name, each with its error or None. c is omitted if it is 0."""
        found = {"a": (self.a, self.a_se), "b": (self.b, self.b_se)} | ({"c": (self.c, self.c_se)} if self.c else {})
        further = {name: x for name, x in self.further.items() if not name.endswith("_se")}
        return found | {name: (x, self.further.get(f"{name}_se")) for name, x in further.items()}

    @property
    def in_brief(self) -> dict[str, tuple[float, float | None]]:
        """The parameters `shown`, without a scored item's parameters of each score.

        The a of a partial credit item is the slope of one point. It is followed by a·m, the slope of the maximum score,
        which is comparable to the slope of a 0/1 item, as the a of a graded item is.
        """
        most, shown = self.max_score, self.shown
        if most == 1:
            return shown
        if self.model.path != "scores":
            return {"a": shown["a"], "b": shown["b"]}
        whole = (self.a * most, None if self.a_se is None else self.a_se * most)
        return {"a": shown["a"], WHOLE_SLOPE: whole, "b": shown["b"]}

    @property
    def comparable_slope(self) -> tuple[float, float | None]:
        """The slope, with its error or None, to compare with slopes of 0/1 items: a·m if a belongs to one point."""
        brief = self.in_brief
        return brief.get(WHOLE_SLOPE, brief["a"])

    @property
    def model(self) -> ItemModel:
        """The model that has the further parameters; the most general one of several."""
        return model_with(self.of_model)

    @property
    def steps(self) -> dict[int, tuple[float, float | None]]:
        """The steps of the item's model (`ItemModel.steps`) by score, each with its error or None.

        Empty for 0/1 items, and if the item lacks a score.
        """
        if not self.further:
            return {}
        own = OtherItems.from_parameters({0: self.of_model})[0]
        steps, _ = own.model.steps(own.parameters(np.array([self.a]), np.array([-self.a * self.b]))[:, 0])
        return {k: (step, self.further.get(f"b{k}_se")) for k, step in enumerate(steps.tolist(), 1)}

    @property
    def score_parameters(self) -> dict[str, dict[int, tuple[float, float | None]]]:
        """The steps under the model's word for them, {word: {score: (value, error)}}, for tables by score.

        If the item lacks a score, so that it has no steps, the model's own parameters of each score, such as t.
        """
        if steps := self.steps:
            return {self.model.step_word: steps}
        found: dict[str, dict[int, tuple[float, float | None]]] = {}
        for name, value in self.shown.items():
            if name[-1].isdigit():
                found.setdefault(name[0], {})[int(name[1:])] = value
        return found

    @property
    def without_errors(self) -> dict[str, float]:
        """The parameters `shown`, without their errors."""
        return {name: value for name, (value, _) in self.shown.items()}

    @property
    def max_score(self) -> int:
        """The highest score of an answer to the item."""
        return OtherItems.from_parameters({0: self.of_model})[0].categories[0] - 1 if self.further else 1

    @property
    def absent_scores(self) -> list[int]:
        """The scores without parameters, because nobody had them when the item was calibrated."""
        if not self.further:
            return []
        counted = OtherItems.from_parameters({0: self.of_model})[0].counted_as[0]
        return np.flatnonzero(counted != np.arange(counted.size)).tolist()

    @property
    def abc(self) -> tuple[float, float, float]:
        """a, b and c."""
        return self.a, self.b, self.c

    @property
    def with_errors(self) -> tuple[Any, ...]:
        """a, b, c, a_se, b_se, cov_ab."""
        return *self.abc, self.a_se, self.b_se, self.cov_ab

    @property
    def has_errors(self) -> bool:
        """Whether the errors of a and of b are known."""
        return self.a_se is not None and self.b_se is not None

    def agrees_with(self, other: ItemRow) -> bool:
        """Check whether a and b of `other` lie in this item's 95 % intervals; False if an error is not known."""
        pairs = ((self.a, other.a, self.a_se), (self.b, other.b, self.b_se))
        return all(se is not None and abs(value - own) <= Z95 * se for own, value, se in pairs)

    def curve(self, theta: Floats) -> Floats:
        """Compute P(correct) at `theta` (T,), shape (T,)."""
        return self._alone.curve(theta)[:, 0]

    def score_probabilities(self, theta: Floats) -> Floats:
        """Return P(score | θ), shape (m + 1, T)."""
        return self._alone.curves.score_probabilities(theta)[0]

    @property
    def _alone(self) -> ItemParameters:
        return ItemParameters.from_rows(("",), [self])

    def interval(self, theta: Floats) -> tuple[Floats, Floats] | None:
        """Compute the 95 % interval of the curve at `theta`. Returns None if the errors of a and b are not known."""
        if self.a_se is None or self.b_se is None:
            return None
        off: Any = self.cov_ab or 0.0
        cov = np.array([[self.a_se**2, off], [off, self.b_se**2]])
        low, high = self._alone.probability_at(np.stack(curves.logit_interval(theta, self.a, self.b, cov)))
        return low, high


@dataclass(frozen=True, eq=False, repr=False)
class ItemParameters(Result):
    """J items on one scale; an item without parameters has NaN.

    Attributes
    ----------
    a, b, c
        Shape (J,).
    cov
        Covariance of (a, b), shape (J, 2, 2), or (1, 2J, 2J) if covariances between items are known; NaN for items
        whose errors are not known.
    further_cov
        Shape (J, M, 2 + M), covariances of the further parameters with (a, b) and with each other. Further parameters
        are logit c, or the M parameters of another model, on the scale of estimation. Entries are 0 for parameters that
        are held. None if all are held, or if no covariances are known.
    others
        Items whose curves are not determined by a, b and c.
    cov_ab_assumed
        Items whose covariances within the item follow from the model, because their source states errors alone.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1.5, 0.8], "b": [0.2, -1.0]})
    >>> items
    <ItemParameters: 2 items>
    >>> irt.ItemParameters.from_json(items.to_json()) == items
    True
    """

    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats
    cov: Floats
    further_cov: Floats | None = None
    others: tuple[OtherItems, ...] = ()
    cov_ab_assumed: tuple[str, ...] = ()
    frame_kind: str | None = None

    @classmethod
    def from_rows(cls, item_ids: Sequence[str], rows: Iterable[ItemRow | None]) -> ItemParameters:
        """Make items from a row for each of `item_ids`; the row of an item without parameters is None.

        Returns
        -------
        ItemParameters
            The items in the order of `item_ids`.

        Raises
        ------
        PsychometricsError
            If no model has a row's further parameters.

        Examples
        --------
        >>> from irt_psychometrics.items import ItemParameters, ItemRow
        >>> ItemParameters.from_rows(["q1", "q2"], [ItemRow(1.5, 0.2), None]).b.tolist()
        [0.2, nan]
        """
        known = list(rows)
        found = [(None,) * 6 if row is None else row.with_errors for row in known]
        further = {j: row.of_model for j, row in enumerate(known) if row is not None and row.further}
        a, b, c, a_se, b_se, cov_ab = np.array(found, dtype=float).reshape(-1, 6).T
        return cls(
            tuple(item_ids),
            a,
            b,
            c,
            covariances.from_errors(a_se, b_se, cov_ab),
            others=OtherItems.from_parameters(further),
        )

    @classmethod
    def from_frame(cls, data: Any, *, item: str | None = None) -> ItemParameters:
        """Read item parameters from a table with a row for each item, such as the table that `to_frame` makes.

        Parameters
        ----------
        data
            A data frame of any kind, or a mapping column → cells. Columns are a and b (b alone for a Rasch model), and
            c, max_score, t0, t1, … if items have them, in the metric D = 1 or of a column D; the standard errors (a_se,
            t1_se, …) and covariances within an item (cov_ab, cov_at1, …) that are known; model for scored items. The
            columns of mirt, TAM, ConQuest and PARSCALE are read, too.
        item
            The column with the items' names. None: the first of item, item_id, question and question_id.

        Returns
        -------
        ItemParameters
            The items in the order of the rows. If an item has errors of a and b, but no cov_ab, covariances follow
            from the model's information for θ ~ N(0, 1), and `cov_ab_assumed` lists the item.

        Warns
        -----
        ItemWarning
            If scored items may follow a graded response model, which has the same columns.

        Raises
        ------
        PsychometricsError
            For a missing column, a column of unknown meaning, an unsupported model, an item in two rows, and values
            that no item has. The message names rows and items.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]}).d.tolist()
        [-0.30000000000000004]
        >>> essay = {"item": ["essay"], "a": [0.8], "b1": [0.5], "b2": [-0.1], "model": ["gpcm"]}
        >>> irt.ItemParameters.from_frame(essay).curves.categories.tolist()
        [3]
        """
        return _read_frame(data, item)

    @classmethod
    def from_program(
        cls, data: Any, program: Program, *, item: str | None = None, metric_d: float | None = None
    ) -> ItemParameters:
        """Read item parameters from a table of another program.

        Parameters
        ----------
        data
            A data frame of any kind, or a mapping column → cells, with a row for each item. For flexMIRT, the tab
            separated -prm file without a header, for example `pandas.read_csv(file, sep="\t", header=None)`.
        program
            "mirt" (`coef(m, simplify = TRUE)$items`, also with `IRTpars = TRUE`), "tam" (`m$item`), "conquest",
            "parscale", "xcalibre", "fasttest" (IRT a, IRT b, IRT c), "winsteps" (an IFILE of 0/1 items, in logits), or
            "flexmirt" (3PL and 2PL items).
        item
            The column with the items' names. None: NAME or ENTRY for Winsteps, the second column for flexMIRT, and
            otherwise the first of item, item_id, question and question_id.
        metric_d
            The D of P = c + (1 − c)/(1 + exp(−D·a(θ − b))). It must be given for "parscale", "xcalibre" and "fasttest",
            where users choose 1 or 1.7. None: 1.

        Returns
        -------
        ItemParameters
            The items in the metric D = 1. Items that Winsteps could not estimate have no parameters.

        Warns
        -----
        ItemWarning
            If scored items may follow a graded response model, which has the same columns.

        Raises
        ------
        PsychometricsError
            If the program has other columns, if `metric_d` is needed, and as for `from_frame`.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> table = {"item": ["q1"], "IRT a": [0.8], "IRT b": [0.5], "IRT c": [0.2]}
        >>> irt.ItemParameters.from_program(table, "fasttest", metric_d=1.7).a.round(2).tolist()
        [1.36]
        """
        return _read_frame(data, item, _metric_of(program, metric_d), program)

    def to_program(self, program: Program, kind: str | None = None, *, metric_d: float | None = None) -> Any:
        """Make a table of the items for another program.

        Parameters
        ----------
        program
            As for `from_program`. A table for flexMIRT is written without a header, tab separated.
        kind
            "pandas", "polars" or "pyarrow". None: the kind of frame from which the items were read, or otherwise the
            first of these that is installed.
        metric_d
            The D of the program; see `from_program`.

        Returns
        -------
        data frame
            A row for each item that has parameters, with standard errors of a and b if the form has a place for them.

        Raises
        ------
        PsychometricsError
            If the program's form has no place for an item, if `metric_d` is needed, or if no data frame of this kind
            can be made.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]})
        >>> items.to_program("mirt", "polars").columns
        ['item', 'a1', 'd']
        """
        return make(self._columns_for(program, _metric_of(program, metric_d)), kind or self.frame_kind)

    def _columns_for(self, program: Program, metric_d: float) -> dict[str, Any]:
        form = program_forms.WRITTEN.get(program, "mirt")
        for some in self.others:
            if some.model.highest_score == 1:
                raise PsychometricsError(f"item {self.item_ids[some.at[0]]}: {program} has no {some.model.spoken}")
        written = {name: cells for name, cells in self._columns().items() if name != "model"}
        rows: list[dict[str, Any]] = []
        for values in zip(*written.values(), strict=True):
            known = {name: x for name, x in zip(written, values, strict=True) if x == x}
            item, further = known.pop("item"), {x: known[x] for x in known if x in ("max_score", *item_tables.T)}
            if "a" not in known:
                continue
            try:
                row: dict[str, Any] = dict(ItemRow.from_row(known | {"further": further}).columns(form, metric_d))
            except PsychometricsError as error:
                raise PsychometricsError(f"item {item}: {error}") from None
            if program == "flexmirt":
                cells = program_forms.flexmirt_cells(item, row)
                rows.append({str(place): cell for place, cell in enumerate(cells, start=1)})
            else:
                model = {"model": "graded"} if "w0" in further and form != "mirt" else {}  # steps have the same columns
                model = {"model": "nominal"} if "s0" in further else model
                rows.append({"NAME" if program == "winsteps" else "item": item} | model | row)
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    MEDIUM_WABC: ClassVar[float] = curves.MEDIUM_WABC
    """Difference of two curves (`wabc`) above which it is not small."""

    def wabc(self, old: ItemParameters, mean: float, sd: float) -> Floats:
        """Compute ∫ |P(θ) − P_old(θ)| φ(θ; mean, sd) dθ (Edelen, Stucky & Chandra 2015).

        Parameters
        ----------
        old
            Parameters of the same J items.
        mean, sd
            Mean and SD of the persons' θ.

        Returns
        -------
        array of shape (J,)
            Mean difference of both curves, 0 … 1.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> old, new = (irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [b]}) for b in (0.0, 0.3))
        >>> new.wabc(old, 0.0, 1.0).round(3).tolist()
        [0.079]
        """
        return wabc(self, old, mean, sd)

    def further_cov_of(self, known: Mapping[int, npt.ArrayLike | None]) -> Floats:
        """Make `further_cov`, shape (J, M, 2 + M), from the covariances of items by their place.

        If an item's covariances are None, they are not known (NaN). Items that are not in `known` have 0.
        """
        found = covariances.padded(None, len(self.item_ids), self.n_further)
        for j, own in known.items():
            found[j] = np.nan if own is None else covariances.padded(np.array([own]), 1, self.n_further)[0]
        return found

    @property
    def joint_cov(self) -> Floats:
        """Covariance of a₁, b₁, a₂, b₂, …, shape (2J, 2J).

        Errors that all anchors have in common are errors of the scale; if they are known, errors of differences are
        smaller.
        """
        return covariances.block_diagonal(self.cov)

    def with_assumed_errors(self) -> Self:
        """Replace all errors of a and b by the errors of a calibration with 500 persons θ ~ N(0, 1).

        Returns
        -------
        ItemParameters
            The same items. Errors are infinite for an item that gives no information.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]})
        >>> items.with_assumed_errors().b_se.round(3).tolist()
        [0.072]
        """
        found = assumed_errors(self.a, self.b, self.c, self.others)
        return replace(self, cov=covariances.from_errors(*found), cov_ab_assumed=())

    def with_assumed_covariances(self) -> Self:
        """Fill unknown covariances within items whose errors of a and b are known.

        The correlations follow from the model's information for persons θ ~ N(0, 1), scaled to the known errors (see
        `assumed_errors.assumed_covariances`). A covariance of 0 would make errors of links and of drift wrong, because
        errors of a and b are correlated unless b is 0.

        Returns
        -------
        ItemParameters
            The same items; `cov_ab_assumed` lists the items that were filled.

        Examples
        --------
        >>> from irt_psychometrics.items import ItemParameters, ItemRow
        >>> items = ItemParameters.from_rows(["q1"], [ItemRow(1.0, 1.5, a_se=0.1, b_se=0.1)])
        >>> items.with_assumed_covariances().cov_ab.round(4).tolist()
        [-0.0078]
        """
        each = self.cov_of_each
        known = np.isfinite(each[:, 0, 0]) & np.isfinite(each[:, 1, 1]) & (each[:, 0, 0] > 0) & (each[:, 1, 1] > 0)
        unknown = known & np.isnan(each[:, 0, 1])
        if not unknown.any():
            return self
        errors = np.sqrt(np.einsum("jpp->jp", self.cov_of_all))
        found, fill = assumed_covariances(self.a, self.b, self.c, self.others, errors), unknown[:, None, None]
        further = None if self.further_cov is None else np.where(fill, found[:, 2:], self.further_cov)
        names = tuple(np.array(self.item_ids, dtype=object)[unknown])
        return replace(
            self,
            cov=np.where(fill, found[:, :2, :2], each),
            further_cov=further,
            cov_ab_assumed=(*self.cov_ab_assumed, *names),
        )

    def _title(self) -> str:
        return f"{len(self.item_ids):,} items"

    def _facts(self) -> dict[str, str]:
        scored, without = int((self.curves.categories > 2).sum()), int((~self.curves.known).sum())
        facts = {"with more than two scores": scored, "without parameters": without}
        return {name: format_value(n) for name, n in facts.items() if n}

    def _columns(self) -> dict[str, Any]:
        assumed = {*self.cov_ab_assumed}
        places = {j for j, item in enumerate(self.item_ids) if item in assumed}
        parameters = self.a, self.b, self.c, self.cov_of_each, self.further_cov, self.others
        return {"item": self.item_ids} | item_tables.write_items(*parameters, places)

    def _html_columns(self) -> dict[str, Any]:
        return {name: cells for name, cells in self._columns().items() if not name.startswith("cov_")}

    @property
    def d(self) -> Floats:
        """Intercepts −a·b, shape (J,)."""
        return -self.a * self.b

    @property
    def cov_of_each(self) -> Floats:
        """Part of `cov` of each item, shape (J, 2, 2)."""
        return covariances.item_blocks(self.cov)

    @property
    def a_se(self) -> Floats:
        """Standard errors of a, shape (J,)."""
        return np.sqrt(self.cov_of_each[:, 0, 0])

    @property
    def b_se(self) -> Floats:
        """Standard errors of b, shape (J,)."""
        return np.sqrt(self.cov_of_each[:, 1, 1])

    @property
    def cov_ab(self) -> Floats:
        """Covariances of a and b, shape (J,)."""
        return self.cov_of_each[:, 0, 1]

    @property
    def curves(self) -> ItemCurves:
        """The items' curves."""
        return ItemCurves(self.a, self.d, self.c, self.others)

    def curve(self, theta: Floats) -> Floats:
        """Compute P(correct), or the expected share of the maximum score, at `theta` (T,).

        Returns
        -------
        array of shape (T, J)
            Probabilities; NaN for items without parameters.

        Examples
        --------
        >>> import irt_psychometrics as irt, numpy as np
        >>> irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]}).curve(np.array([0.2])).tolist()
        [[0.5]]
        """
        return self.curves.probability(theta)

    def curve_at(self, theta: Floats) -> tuple[Floats, Floats]:
        """P(correct) and ∂P/∂z at z = a(θ − b), shape (J, Q) each.

        `theta` has shape (Q,), or (J, Q) if each item has its own θ.
        """
        z, c = self._logits(theta), self.c[:, None]
        p, by_z = curves.probability_at(z, c), curves.slope_at(z, c)
        for some in self.others:
            p[some.at], by_z[some.at] = some.curve_at(z[some.at])[:2]
        return p, by_z

    def probability_at(self, z: Floats) -> Floats:
        """P(correct) of a single item at z = a(θ − b); z has any shape (…, Q)."""
        found = curves.probability_at(z, self.c)
        for some in self.others:
            found = some.curve_at(z.reshape(1, -1))[0].reshape(z.shape)
        return found

    def curve_by_ab(self, theta: Floats) -> Floats:
        """∂P/∂(a, b), shape (J, Q, 2); `theta` as in `curve_at`."""
        _, by_z = self.curve_at(theta)
        return np.stack([by_z * (theta - self.b[:, None]), -by_z * self.a[:, None]], axis=2)

    @property
    def n_further(self) -> int:
        """M, the largest number of further parameters of an item, at least 1."""
        stored = 0 if self.further_cov is None else self.further_cov.shape[1]
        return max(1, stored, *(len(some.further) for some in self.others))

    @property
    def cov_of_all(self) -> Floats:
        """Covariance of each item's a, b and the further parameters, shape (J, 2 + M, 2 + M)."""
        further = covariances.padded(self.further_cov, len(self.item_ids), self.n_further)
        return covariances.with_further(self.cov_of_each, further)

    def by_further(self, theta: Floats) -> Floats:
        """Derivatives of P with respect to the further parameters on the scale of estimation (logit c of a 3PL), shape
        (J, M, Q).

        `theta` as in `curve_at`.
        """
        z, c = self._logits(theta), self.c[:, None]
        found = np.zeros((len(z), self.n_further, z.shape[1]))
        found[:, 0] = curves.by_asymptote_at(z) * (c * (1 - c))
        for some in self.others:
            by = some.curve_at(z[some.at])[2:]
            found[some.at] = 0.0
            found[some.at, : len(by)] = by.swapaxes(0, 1)
        return found

    def _logits(self, theta: Floats) -> Floats:
        return self.a[:, None] * (theta - self.b[:, None])

    def places(self, item_ids: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the places of these items, shape (K,).

        Raises
        ------
        KeyError
            If an item is not among the J items; it names the item.
        """
        place = {item: j for j, item in enumerate(self.item_ids)}
        return np.array([place[item] for item in item_ids], dtype=int)

    def select(self, item_ids: Sequence[str]) -> ItemParameters:
        """Select the items with these ids, in this order.

        Returns
        -------
        ItemParameters
            The items, with the covariances between them.

        Raises
        ------
        KeyError
            For an unknown id; it names the item.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1.5, 0.8], "b": [0.2, -1.0]})
        >>> items.select(["q2"]).a.tolist()
        [0.8]
        """
        j, further = self.places(item_ids), self.further_cov
        own = self.a[j], self.b[j], self.c[j], covariances.select_items(self.cov, j)
        others = select_others(self.others, j, len(self.a))
        own_further = None if further is None else further[j]
        return ItemParameters(tuple(item_ids), *own, own_further, others, self.cov_ab_assumed, self.frame_kind)

    def among(self, item_ids: Sequence[str]) -> ItemParameters:
        """Arrange the items as `item_ids`; an item that is not among the J items gets no parameters.

        Returns
        -------
        ItemParameters
            The items, without covariances between them.
        """
        place = {item: j for j, item in enumerate(self.item_ids)}
        at = [place.get(item, -1) for item in item_ids]
        known = (self.a, self.b, self.c, self.cov_of_each)
        a, b, c, cov = (_values_at(x, at) for x in known)
        further_cov = None if self.further_cov is None else _values_at(self.further_cov, at)
        others = select_others(self.others, np.array(at, dtype=np.intp), len(self.a))
        more = self.cov_ab_assumed, self.frame_kind
        return ItemParameters(tuple(item_ids), a, b, c, cov, further_cov, others, *more)

    def fill_missing_from(self, other: ItemParameters) -> ItemParameters:
        """Fill gaps: items without parameters get the parameters of `other`, the same items in the same order.

        Returns
        -------
        ItemParameters
            The items, without covariances between them and without covariances of further parameters.
        """
        known, places = self.curves.known, np.arange(len(self.item_ids))
        a, b, c = (
            np.where(known, own, filler) for own, filler in ((self.a, other.a), (self.b, other.b), (self.c, other.c))
        )
        others = (
            *select_others(self.others, np.where(known, places, -1), len(places)),
            *select_others(other.others, np.where(known, -1, places), len(places)),
        )
        cov = np.where(known[:, None, None], self.cov_of_each, other.cov_of_each)
        assumed = (*self.cov_ab_assumed, *other.cov_ab_assumed)
        return ItemParameters(self.item_ids, a, b, c, cov, others=others, cov_ab_assumed=assumed)

    def log_by_parameters(self, nodes: Floats) -> tuple[Floats, Floats]:
        """Derivatives of `ItemCurves.score_tables` with respect to the item's P parameters with c held, shape (M, P, Q)
        each."""
        counted = CountedScores.from_curves(self.curves)
        tables = np.zeros((2, len(counted.item_of_row), 2 + self.n_further, len(nodes)))
        tiny, by, p = np.finfo(float).tiny, self.curve_by_ab(nodes).transpose(0, 2, 1), self.curve(nodes).T[:, None]
        tables[0, counted.first_row, :2] = by / np.maximum(p, tiny)
        tables[1, counted.first_row, :2] = -by / np.maximum(1 - p, tiny)
        for some in self.others:
            a, b = (x[some.at][:, None, None] for x in (self.a, self.b))
            by_a, by_d, *by_t = some.model.by_parameters(nodes, some.parameters(self.a, self.d), some.categories)
            by_all = np.stack([by_a - b * by_d, -a * by_d, *by_t])
            for own, first, n in zip(by_all.swapaxes(0, 1), counted.first_row[some.at], some.categories, strict=True):
                tables[0, first : first + n - 1, : len(own)] = own[:, :, 1:n].transpose(2, 0, 1)
                tables[1, first, : len(own)] = own[:, :, 0]
        return tables[0], tables[1]

    def rescaled(self, slope: float, intercept: float) -> Self:
        """Move the items to θ* = slope·θ + intercept, slope > 0: a* = a/slope, b* = slope·b + intercept.

        Returns
        -------
        ItemParameters
            The same items on the new scale.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> items = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]}).rescaled(2.0, 1.0)
        >>> items.a.tolist(), items.b.tolist()
        ([0.75], [1.4])
        """
        by, further = np.tile([1 / slope, slope], len(self.item_ids)), self.further_cov
        return replace(
            self,
            a=self.a / slope,
            b=slope * self.b + intercept,
            cov=covariances.scale(self.cov, by),
            others=tuple(some.rescaled(self.a, self.d, slope, intercept) for some in self.others),
            further_cov=None if further is None else further * np.array([1 / slope, slope, *[1.0] * further.shape[1]]),
        )


def _metric_of(program: Program, metric_d: float | None) -> float:
    """Return the D of a program's table. Raises PsychometricsError for an unknown program, and if D must be given."""
    if program not in program_forms.PROGRAMS:
        raise PsychometricsError(f"program must be one of {', '.join(program_forms.PROGRAMS)}, got {program!r}")
    if metric_d is None and program in program_forms.CHOICE_OF_D:
        raise PsychometricsError(f"{program} is run with D = 1 or D = 1.7; give metric_d, its D")
    return 1.0 if metric_d is None else metric_d


def _read_frame(data: Any, item: str | None, metric_d: float = 1.0, program: Program | None = None) -> ItemParameters:
    frame = read_frame(data)
    if frame is None:
        raise PsychometricsError(
            f"item parameters must be a data frame or a mapping column → cells, got {type(data).__name__}"
        )
    columns = {name: _cells_of(column) for name, column in frame.columns.items()}
    if program == "flexmirt":
        found = program_forms.flexmirt_rows(zip(*columns.values(), strict=True))
        rows = [(f"row {k}", name, row) for k, (name, row) in enumerate(found)]
        names: tuple[str, ...] = (*program_forms.COLUMNS,)
    else:
        of_winsteps = next((name for name in ("NAME", "ENTRY") if name in columns), "item")
        named = item or (of_winsteps if program == "winsteps" else item_tables.item_column([*columns]))
        ids = frame.column(named, "items")
        names = tuple(name for name in columns if name != named)
        if program is not None:
            program_forms.require_columns_of(program, names)
        rows = [
            (f"row {k}", str(ids.label(k)), {name: x for name in names if (x := columns[name][k]) is not None})
            for k in range(len(ids.missing))
        ]
    values = item_tables.read_items(["item", *names], rows, metric_d)
    if values.may_be_graded:
        warnings.warn(f"{program_forms.STEPS_OR_GRADED}: {some_of(values.may_be_graded)}", ItemWarning, stacklevel=3)
    return from_values(values, frame.kind)


def _cells_of(column: Column) -> list[Any]:
    """Return the cells of a column; a missing cell is None."""
    return [None if gone else cell for cell, gone in zip(column.cells, column.missing.tolist(), strict=True)]


def from_values(values: item_tables.ItemValues, kind: str | None = None) -> ItemParameters:
    """Make items from a table's values, with assumed covariances where the table states errors alone."""
    own = {name: x for name, x in vars(values).items() if name != "may_be_graded"}
    return ItemParameters(**own, frame_kind=kind).with_assumed_covariances()


def _values_at(values: Floats, at: Sequence[int]) -> Floats:
    """The values of the items at these places; NaN for the place −1."""
    return np.append(values, np.full((1, *values.shape[1:]), np.nan), axis=0)[at]


def wabc(new: ItemParameters, old: ItemParameters, mean: float, sd: float) -> Floats:
    """Compute ∫ |P_new(θ) − P_old(θ)| φ(θ; mean, sd) dθ, shape (J,), for two sets of parameters of the same J items."""
    grid = Grid.symmetric()
    theta = mean + sd * grid.nodes
    return np.exp(grid.log_weights()) @ np.abs(new.curve(theta) - old.curve(theta))
