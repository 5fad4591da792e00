"""Findings on the drift, DIF and information of items, for people to read: the same in the Dagster UI, in drift reports
and on the dashboard.

The first columns of a table identify each row. The caller chooses them: an item, a month, or a scale and an item.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from irt_assets.blocks import (
    Badge,
    Cell,
    Column,
    Span,
    Table,
    Text,
    Tone,
    number,
    signed_number,
    table,
    value_with_error,
)
from irt_assets.common.wording import join_names, quantity
from irt_assets.drift.rows import DifRow, DriftRow, InformationRow
from irt_psychometrics.drift import ChangeKind

Row = TypeVar("Row")
RowsWithCells: TypeAlias = Iterable[tuple[Sequence[Cell], Row]]
"""Rows, each with the cells that identify it."""
CURVES = Column(
    "difference of curves",
    number=True,
    format=".3f",
    hint="Mean difference of the two curves over the scale's learners (wABC): 0.05 is five percentage points. It has "
    "no sign: the item became easier if the change in b is negative, and harder if it is positive.",
    bar=True,
)
"""Column with the wABC of an item."""
NAMES = 12
"""Maximum number of items that a sentence names."""
TONES: Mapping[str, Tone] = {"medium": "warning", "high": "bad"}


def severity(level: str) -> Span | Badge:
    return Badge(level, TONES[level]) if level in TONES else Span(level, "quiet")


def drift_summary(rows: Sequence[DriftRow]) -> str:
    """A month's comparisons in a sentence, the largest changes named first."""
    estimated = [row for row in rows if not unestimated_reason(row)]
    counts = Counter(row.severity for row in rows)
    summary = variation_warning(row.details for row in rows)
    summary += f"{counts['high']} high, {counts['medium']} medium of {quantity(len(estimated), 'item')} compared"
    if len(rows) > len(estimated):
        summary += f" and {len(rows) - len(estimated)} tested by proportion correct"
    flagged = sorted(
        (row for row in rows if row.severity != "none"), key=lambda row: (row.severity, -(row.wabc or 0.0))
    )
    named = [f"{row.item_id} ({row.kind})" if row.kind else row.item_id for row in flagged]
    summary += f": {join_names(named, NAMES)}" if flagged else ""
    others = ((row.item_id, row.categories) for row in rows if row.severity == "none")
    summary += other_items_with_categories(others, "moved")
    if across := Counter(row.details["across_models"] for row in rows if "across_models" in row.details):
        summary += "".join(f"; {n} of them {method}" for method, n in across.items())
    return summary


def other_items_with_categories(found: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], verb: str) -> str:
    """Write the end of a sentence on items with named categories that are not flagged as a whole.

    `verb` is the sentence's verb, such as "moved". Returns "" if no item has such categories.
    """
    scores = {item: ", ".join(str(one["score"]) for one in categories) for item, categories in found if categories}
    named = join_names([f"{item} (score ≥ {which})" for item, which in scores.items()], NAMES)
    return f"; single categories {verb} in {quantity(len(scores), 'other item')}: {named}" if scores else ""


def categories_in_words(categories: Sequence[Mapping[str, Any]]) -> str:
    """Describe the named categories of an item in words, such as "score ≥ 2: +0.42 ± 0.10 (wABC 0.071)"."""
    return ", ".join(
        f"score ≥ {one['score']}: {value_with_error(one['shift'], one['se'], sign=True)} "
        f"(wABC {number(one['wabc'], 3)})"
        for one in categories
    )


def variation_warning(details: Iterable[Mapping[str, Any]]) -> str:
    """Beginning of a sentence if a month's items vary by more than drift allows for; otherwise ""."""
    varied = next((detail for detail in details if "most_tau" in detail), None)
    if varied is None or (varied["tau"] is not None and varied["tau"] <= varied["most_tau"]):
        return ""
    found = "they have no line in common" if varied["tau"] is None else f"τ = {varied['tau']:.2f}"
    return (
        f"b of all items varies by more than drift allows for ({found}, item_variation_max = {varied['most_tau']:g}), "
        "so something moves the whole bank: find the cause before you decide on single items, and begin with the "
        "largest changes; "
    )


def drift_table(id_columns: Sequence[str], rows: RowsWithCells[DriftRow], **options: Any) -> Table:
    """Results of the comparison with the published values. `options`: as in `table`."""
    changes = {"Δb ± SE": "", "95 % interval": "", "Δa ± SE": ""}
    columns: tuple[Text | Column, ...] = (*id_columns, "drift", *changes, CURVES, "q", "kind of change")
    cells = [(*first, *_comparison_cells(row)) for first, row in rows]
    return table(columns, cells, numbers=changes | {"q": ".3g"}, **options)


def _comparison_cells(row: DriftRow) -> tuple[Cell, ...]:
    details = row.details
    kind = row.kind or details.get("across_models") or unestimated_reason(row)
    return (
        severity(row.severity),
        value_with_error(row.delta_b, details.get("delta_b_se"), sign=True),
        " to ".join(map(signed_number, details.get("delta_b_95") or ())) or None,
        value_with_error(row.delta_a, details.get("delta_a_se"), sign=True),
        row.wabc,
        row.q_value,
        "; ".join(filter(None, (kind, categories_in_words(row.categories)))) or None,
    )


def unestimated_reason(row: DriftRow) -> str:
    """Why the month has no estimate, and the test of its proportion correct; "" if it has an estimate."""
    share = row.details.get("proportion_correct")
    if not share:
        return ""
    tested = f"{number(share['observed'], 3)} of {share['n']} correct, expected {number(share['expected'], 3)}"
    return f"{share['why']}; {tested} (z {signed_number(share['z'], 1)})"


def change_in_words(change: Mapping[str, Any], onset: str | None) -> str:
    """The kind of change and the evidence for it, in words.

    `change`: as stored in `item_drift`. `onset`: first day of the change.
    """
    size, z = change["size"], change.get("time_z")
    description = {
        ChangeKind.DRIFT: f"drift: its difficulty moved by {signed_number(size)}",
        ChangeKind.LEAK: f"leak: {number(size, 2)} of the learners know the answer, from {onset} on",
        ChangeKind.WRONG_KEY: f"wrong key: {number(size, 2)} of the learners who do not know the answer choose the "
        "option scored right",
        ChangeKind.EASIER: f"easier by {signed_number(size)}: drift or leak; only response times can show which",
        ChangeKind.UNCLEAR: "unclear: none of drift, leak and wrong key explains the answers much better",
    }[ChangeKind(change["kind"])]
    gains = ", ".join(f"{name} {signed_number(gain, 1)}" for name, gain in change["gains"].items())
    times = (
        f"; correct answers came {'faster' if z < 0 else 'slower'} than usual (z {signed_number(z, 1)})" if z else ""
    )
    option = "; a distractor rises with ability more than the key does" if change["distractor_above_the_key"] else ""
    return f"{description} (gain in 2 log L over the published curve: {gains}){times}{option}"


def dif_table(id_columns: Sequence[str], rows: RowsWithCells[DifRow], **options: Any) -> Table:
    """Results of the comparison of groups of equal ability. `options`: as in `table`."""
    before, after = {"answers": "", "Δb ± SE": "", "Δa ± SE": ""}, {"q": ".3g", "D ± SE": "", "ΔR²": ".3f"}
    groups = (*id_columns, "attribute", "group / against")
    columns: tuple[Text | Column, ...] = (*groups, *before, CURVES, *after, "class", "result")
    return table(columns, [(*first, *_groups(row)) for first, row in rows], numbers=before | after, **options)


DIF_EXPLAINED = (
    "Answers: of the group / of the reference. Δb (above 0: harder for the group; where |b| > 6 or a < 0.2 in a group, "
    "score: the difference of expected scores, below 0: harder), Δa, difference of curves and q: Wald test of items "
    "split by group, the primary one, q over the items of all attributes. D and class: Mantel-Haenszel within forms (A "
    "negligible, B moderate, C large), of a scored item the standardised mean difference in points by Mantel's test; "
    "ΔR²: logistic regression within forms. Low power: fewer than 500 answers in a group."
)


def _groups(row: DifRow) -> tuple[Cell, ...]:
    n, wald = row.details.get("n"), row.wald
    of_forms = (row.within_forms.get(name) or {} for name in ("mantel_haenszel", "logistic", "mantel"))
    mantel_haenszel, logistic, mantel = of_forms
    harder = value_with_error(wald.get("delta_b"), wald.get("delta_b_se"), sign=True)
    if wald.get("delta_b") is None and wald.get("shift_se") is not None:
        harder = f"score {value_with_error(wald['shift'], wald['shift_se'], 3, sign=True)}"
    return (
        row.attribute,
        f"{row.focal_group} / {row.reference_group}",
        f"{n['focal']} / {n['reference']}" if n else None,
        harder,
        value_with_error(wald.get("delta_a"), wald.get("delta_a_se"), sign=True),
        wald.get("wabc"),
        row.q_value,
        f"SMD {value_with_error(mantel['smd'], mantel['se'], sign=True)}"
        if mantel
        else value_with_error(mantel_haenszel.get("delta"), mantel_haenszel.get("se"), sign=True),
        logistic.get("delta_r2"),
        row.ets_class,
        _verdict(row),
    )


def _verdict(row: DifRow) -> Text:
    """Whether the difference is large, with remarks on single categories and on the test."""
    remarks = [categories_in_words(row.categories), "low power" if row.details.get("low_power") else ""]
    if row.large:
        return Badge("large", "bad"), "".join(f", {remark}" for remark in remarks if remark)
    remark = row.details.get("why_not") or ("smaller" if row.differs else "within forms alone" * (row.ets_class == "C"))
    return Span(", ".join(filter(None, (remark, *remarks))) or "not large", "quiet")


def information_summary(information: Mapping[str, InformationRow]) -> str:
    """A month's information in a sentence. The row of the whole test has the key ''."""
    if "" not in information:
        return "not tested"
    test = information[""].details
    lost, worst, retiring = test["flagged_items"], test["worst"], test["retiring"]
    named = f" ({join_names(lost, NAMES)})" if lost else ""
    summary = f"{len(lost)} of {test['items']['compared']} items lost information{named}"
    across = [row.details["why"] for row in information.values() if row.details.get("status") == "of another model"]
    summary += f"; {len(across)} are not judged: {across[0]}" if across else ""
    if worst is None:
        return f"{summary}; of the test: {test['why']}"
    summary += (
        f"; the test keeps at least {worst['ratio']:.0%} of its information (θ = {signed_number(worst['theta'], 1)}, "
    )
    summary += (
        f"95 % {worst['low']:.0%} to {worst['high']:.0%}){': more than a fifth is lost' * information[''].flagged}"
    )
    if retiring["items"]:
        summary += (
            f"; without {join_names(retiring['items'], NAMES)} the set in force keeps {retiring['efficiency']:.0%} on "
        )
        summary += f"average and at least {retiring['lowest']:.0%} (θ = {signed_number(retiring['lowest_at'], 1)})"
    return summary


def information_table(id_columns: Sequence[str], rows: RowsWithCells[InformationRow], **options: Any) -> Table:
    """The information of items as published and now, averaged over the population; `options`: as in `table`."""
    kept = {"published": ".3f", "now": ".3f", "kept": ".2f", "at most": ".2f", "q": ".3g"}
    formats = kept | {"most at θ": "+.1f", "share of the test": ".1%"}
    columns = (*id_columns, "lost", "drift", *formats)
    return table(columns, [(*first, *_information(row)) for first, row in rows], numbers=formats, **options)


def _information(row: InformationRow) -> tuple[Cell, ...]:
    details = row.details
    now: Cell = details.get("now", "")
    if details.get("status") == "of another model":
        now = f"{number(details['now'], 3)}, of another model"
    return (
        "yes" if row.flagged else "no",
        details.get("severity"),
        details.get("published"),
        "no estimate" if now is None else now,
        *map(details.get, ("ratio", "upper", "q")),
        details.get("largest_drop", {}).get("theta"),
        details.get("share_of_test"),
    )
