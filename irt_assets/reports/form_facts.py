"""Read a form in a month: its item analysis, the published values of its items, and the month's fit."""

from dataclasses import dataclass

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.item_analysis.stored import FormRow, ItemRow, analysed_months, read_forms, read_items
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.ledger.linked_windows import linked_origin, linkings_of
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.ledger.publications import publications_in_force
from irt_assets.responses.scales import Scale
from irt_psychometrics import ItemParameters
from resources.failures import PermanentFailure


@dataclass(frozen=True, kw_only=True)
class FormFacts:
    """A form, or all answers, in a month.

    Attributes:
        form: its statistics; the name of all answers is empty.
        items: its items in their order.
        published: the items whose values are in force at the month's end.
        fit: fit statistics of the month's fit, or of the origin window's fit, over all forms; or None.
    """

    scale: Scale
    month: str
    form: FormRow
    items: tuple[ItemRow, ...]
    published: ItemParameters
    fit: SetStatistics | None

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
    published = [each for each in publications_in_force(connection, scale.scale_id, end) if each.item_id in names]
    linked = next((fit for fit in linkings_of(connection, scale, chosen, 1) if fit.month == chosen), None)
    if linked is None and overlapping_origin(connection, scale.scale_id, start, end):
        linked = linked_origin(connection, scale)
    return FormFacts(
        scale=scale,
        month=chosen,
        form=forms[form_id],
        items=tuple(items),
        published=ItemParameters.from_rows([each.item_id for each in published], [each.values for each in published]),
        fit=linked.spec.fit_statistics if linked else None,
    )
