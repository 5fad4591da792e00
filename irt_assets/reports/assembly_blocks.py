"""Blocks about a form that was assembled: its information, its content, its overlap with other forms, and its items.

The dashboard's page of a form, `irt forms assemble` and `irt forms show` show them.
"""

from collections.abc import Iterator, Mapping, Sequence

from irt_assets.adaptive.forms import FormDraft, StoredForm
from irt_assets.blocks import Block, Cell, Figure, List, Pairs, Section, Table, number, pairs, percent, table
from irt_assets.charts import ability_chart
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, quantity, sentence

MAX_NAMED = 20
OBJECTIVES: Mapping[str, str] = {
    "maximum": "the largest sum of the information at {points}",
    "maximin": "the largest information at the weakest of {points}",
    "target": "the smallest distance to the target at {points}",
    "shortest": "the fewest items that reach the target at {points}",
}


def assembly_blocks(draft: FormDraft, assembly: Sequence[FormDraft]) -> Iterator[Block]:
    """Yield all blocks about a form. `assembly`: the forms that were assembled together, this one included."""
    yield key_figures(draft)
    yield Section("Information", (information(draft, assembly),), "information")
    yield from content(assembly)
    links = [page_link(item, "item", scale=draft.blueprint.scale, item=item) for item in draft.items]
    yield Section("Items", (table(("place", "item"), enumerate(links, 1), small=True),), "items-of-form")


def content(assembly: Sequence[FormDraft]) -> Iterator[Block]:
    """Yield the rules with the numbers in each form, the overlap of the forms, and the items that were left out."""
    first, columns = assembly[0], {form.form_id: dict(form.rules) for form in assembly}
    rows = ((rule, *(rules.get(rule) for rules in columns.values())) for rule, _ in first.rules)
    formats = dict.fromkeys(columns, ",.10g")
    found = table(("rule", *columns), rows, numbers=formats, caption="Rules, and the number in each form", small=True)
    yield Section("Blueprint", (found,), "blueprint")
    if len(assembly) > 1:
        yield Section("Overlap", (overlap(assembly),), "overlap")
    if first.left_out:
        reasons = [f"{reason}: {join_names(items, MAX_NAMED)}" for reason, items in first.left_out.items()]
        yield Section("Items that could not be chosen", (List(tuple(map(sentence, reasons))),), "left-out")


def key_figures(draft: FormDraft) -> Pairs:
    """Return the size of the form, the objective and its proof, and the information with its certainty."""
    wanted = draft.blueprint.objective
    at = [f"θ = {number(theta, 1)}" for theta, _ in draft.points]
    proof = "" if draft.gap is None else f", proven within {draft.gap:.1%} of the best"
    goal = "the target" if wanted.target else "this value"
    certain = draft.reached is not None and f"{percent(draft.reached)} of true banks give the form {goal}"
    target = wanted.target or (None,) * len(at)
    known = {
        "items": f"{len(draft.items):,}",
        "objective": OBJECTIVES[wanted.kind].format(points=join_names(at)),
        "value": f"{number(draft.objective, 3)}{proof}",
        "information": join_names(
            f"{number(found)} at {point}" + ("" if least is None else f" (target {number(least)})")
            for (_, found), point, least in zip(draft.points, at, target, strict=False)
        ),
        "certainty": certain or None,
        "published set": draft.set_hash[:12],
    }
    return pairs(known, small=True)


def information(draft: FormDraft, assembly: Sequence[FormDraft]) -> Figure:
    """Draw the form's information with its 95 % interval, the other forms, and the target."""
    theta, low, mean, high = zip(*draft.curve, strict=True)
    top = 1.08 * max(point[-1] for form in assembly for point in form.curve)
    chart = ability_chart(theta, "information", f"Information of form {draft.form_id} by ability.", top)
    for form in assembly:
        if form.form_id != draft.form_id:
            chart.line([point[0] for point in form.curve], [point[2] for point in form.curve], "grey", width=1.0)
    chart.line(theta, mean, "blue", draft.form_id, low, high)
    if target := draft.blueprint.objective.target:
        chart.points([theta for theta, _ in draft.points], target, "orange", "target", shape="diamond")
    others = " Grey: the forms that were assembled with it." if len(assembly) > 1 else ""
    return Figure(chart, f"Information by ability. Band: 95 % interval over the errors of the items.{others}")


def overlap(assembly: Sequence[FormDraft]) -> Table:
    """Return the number of items that two forms have in common."""
    items = {form.form_id: {*form.items} for form in assembly}
    rows: list[list[Cell]] = [[name, *(len(own & other) for other in items.values())] for name, own in items.items()]
    caption = "Items that two forms have in common"
    return table(("form", *items), rows, numbers=dict.fromkeys(items, ","), caption=caption, small=True)


def assembled_forms(forms: Sequence[StoredForm]) -> Table:
    """Return a table with one row per form that was assembled, with links to their pages."""
    rows = [
        (
            page_link(form.draft.form_id, "form", scale=form.draft.blueprint.scale, form=form.draft.form_id),
            *(form.draft.blueprint.scale, len(form.draft.items), form.state),
            *(form.decided_by, f"{form.decided_at:%Y-%m-%d}", form.reason),
        )
        for form in forms
    ]
    columns = ("form", "scale", "items", "state", "by", "on", "why")
    return table(columns, rows, numbers=("items",), caption=quantity(len(rows), "assembled form"))
