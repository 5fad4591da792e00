"""Read a form in a month: its item analysis, the published values of its items, and the month's fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import psycopg

from irt_assets.common.partitions import Month, month_of
from irt_assets.item_analysis.stored import FormRow, ItemRow as Analysed, analysed_months, read_forms, read_items
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.ledger.linked_windows import linked_origin, linkings_of
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.ledger.publications import publications_in_force
from irt_assets.scales.scale import Scale
from irt_assets.scores.form_tables import FormTable, compute_month, form_items, newest_tables
from irt_assets.scores.issued import IssuedScore, current_scores
from irt_assets.scores.left_out import items_left_out
from irt_assets.scores.releases import TableRelease, preview_release, released_tables
from irt_psychometrics import ItemParameters
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure


@dataclass(frozen=True, kw_only=True)
class ReportedForm:
    """The scores that a form's learners get.

    Attributes:
        released: the table in force, or None.
        release: the release of the newest table, if it is not in force; or None.
        why: the reason why the form has no table; empty if it has.
        by_theta: whether scores are handed out by each learner's θ.
        issued: if so, the current scores of the month's sittings that were handed out.
        left_out: items that do not count in the form's score.
    """

    released: FormTable | None = None
    release: TableRelease | None = None
    why: str = ""
    by_theta: bool = False
    issued: tuple[IssuedScore, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def table(self) -> FormTable | None:
        """The table in force, or else the newest one."""
        return self.released or (self.release.table if self.release else None)


@dataclass(frozen=True, kw_only=True)
class FormFacts:
    """A form, or all answers, in a month.

    Attributes:
        form: its statistics; the name of all answers is empty.
        items: its items in their order.
        values: the values of its items that are in force at the month's end, by item.
        fit: fit statistics of the month's fit, or of the origin window's fit, over all forms; or None.
        fit_id: this fit, or None.
        reported: its reported scores, or None: all answers together, and some scales, report no scores.
    """

    scale: Scale
    month: str
    form: FormRow
    items: tuple[Analysed, ...]
    values: Mapping[str, ItemRow]
    fit: SetStatistics | None
    fit_id: str | None = None
    reported: ReportedForm | None = None

    @cached_property
    def published(self) -> ItemParameters:
        """The items whose values are in force at the month's end."""
        return ItemParameters.from_rows([*self.values], self.values.values())

    @property
    def name(self) -> str:
        return self.form.form_id or "all answers"


def form_facts(connection: psycopg.Connection, scale: Scale, form_id: str, month: str | None = None) -> FormFacts:
    """Read the form in the month. The default is the newest month of the scale with an analysis.

    Raises PermanentFailure if the scale has no analysis of the form in the month.
    """
    months = analysed_months(connection, scale.scale_id)
    chosen = months[-1] if month is None and months else month
    forms = {form.form_id: form for form in read_forms(connection, scale.scale_id, chosen)} if chosen in months else {}
    if chosen is None or form_id not in forms:
        known = ", ".join(filter(None, forms)) or "none"
        there = f"forms of {chosen}: {known}" if chosen in months else f"analysed months: {', '.join(months) or 'none'}"
        raise PermanentFailure(f"scale {scale.scale_id} has no item analysis of the form {form_id!r}; {there}")
    items = read_items(connection, scale.scale_id, chosen, form_id=form_id)
    start, end = Month(chosen).bounds
    names = {item.item_id for item in items}
    published = publications_in_force(connection, scale.scale_id, end)
    linked = next((fit for fit in linkings_of(connection, scale, chosen, 1) if fit.month == chosen), None)
    if linked is None and overlapping_origin(connection, scale.scale_id, start, end):
        linked = linked_origin(connection, scale)
    return FormFacts(
        scale=scale,
        month=chosen,
        form=forms[form_id],
        items=tuple(items),
        values={each.item_id: each.values for each in published if each.item_id in names},
        fit=linked.spec.fit_statistics if linked else None,
        fit_id=linked.fit_id if linked else None,
        reported=_read_reported(connection, scale, form_id, chosen)
        if form_id and scale.rules.scores.score_slope
        else None,
    )


def _read_reported(connection: psycopg.Connection, scale: Scale, form_id: str, month: str) -> ReportedForm:
    if scale.rules.scores.score_by == "theta" or form_id not in form_items(connection, scale.scale_id):
        current = current_scores(connection, scale_id=scale.scale_id, form_id=form_id)
        issued = tuple(score for score in current if score.status == "issued" and month_of(score.sat_at) == month)
        return ReportedForm(by_theta=True, issued=issued, why="its scores are handed out by each learner's θ")
    newest = newest_tables(connection, scale.scale_id).get(form_id)
    left_out = tuple(items_left_out(connection, scale.scale_id, form_id))
    if newest is None:
        why = compute_month(connection, scale, month)[1].get(form_id, f"materialise form_score_tables of {month}")
        return ReportedForm(why=why, left_out=left_out)
    released = released_tables(connection, scale.scale_id).get(form_id)
    is_new = released is None or released.table_id != newest.table_id
    release = preview_release(connection, scale.scale_id, form_id) if is_new else None
    return ReportedForm(released=released, release=release, left_out=left_out)
