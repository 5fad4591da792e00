"""Blocks about a form that was assembled: its information, its content, its overlap with other forms, and its items.

The dashboard's page of a form, `irt forms assemble` and `irt forms show` show them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from irt_assets.adaptive.forms import FormDraft, StoredForm
from irt_assets.blocks import (
    Block,
    Cell,
    Figure,
    List,
    Pairs,
    Section,
    Table,
    filled_sections,
    number,
    pairs,
    percent,
    table,
)
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


def assembly_blocks(draft: FormDraft, drafts: Mapping[str, FormDraft]) -> Iterator[Block]:
    """Yield all blocks about a form. `drafts`: the newest draft of each form of the scale."""
    assembly = [drafts[name] for name in draft.blueprint.names]
    yield key_figures(draft)
    yield Section("Information", (information(draft, assembly),))
    yield from content(assembly)
    places = [
        (place, page_link(item, "item", scale=draft.blueprint.scale, item=item) if item else "a new item, by draw")
        for place, item in draft.blueprint.places(draft.items).items()
    ]
    yield Section("Items", (table(("place", "item"), places, small=True),))


def content(assembly: Sequence[FormDraft]) -> Iterator[Block]:
    """Return the rules with the numbers in each form, the overlap of the forms, and the items that were left out."""
    items, numbers = {form.form_id: {*form.items} for form in assembly}, [dict(form.rules) for form in assembly]
    rules = [(rule, *(found.get(rule) for found in numbers)) for rule in numbers[0]]
    common: list[list[Cell]] = [[name, *(len(own & other) for other in items.values())] for name, own in items.items()]
    reasons = [sentence(f"{why}: {join_names(group, MAX_NAMED)}") for why, group in assembly[0].left_out.items()]
    make_table = partial(table, numbers=dict.fromkeys(items, ",.10g"), small=True)
    found = make_table(("rule", *items), rules, caption="Rules, and the number in each form")
    overlap = make_table(("form", *items), common, caption="Items that two forms have in common")
    return filled_sections(
        ("Blueprint", [found]),
        ("Overlap", [overlap] if len(assembly) > 1 else []),
        ("Items that could not be chosen", [List(tuple(reasons))] if reasons else []),
    )


def key_figures(draft: FormDraft) -> Pairs:
    """Return the size of the form, the objective and its proof, and the information with its certainty."""
    wanted = draft.blueprint.objective
    at = [f"θ = {number(theta, 1)}" for theta, _ in draft.points]
    proof = "" if draft.gap is None else f", proven within {draft.gap:.1%} of the best"
    targets = [f" (target {number(least)})" for least in wanted.target] if wanted.target else [""] * len(at)
    promise = f"{percent(draft.reached)} of true banks give the form {'the target' if wanted.target else 'this value'}"
    known = {
        "items": f"{len(draft.items):,}",
        "seed places": join_names(map(str, sorted(draft.blueprint.seed_places))),
        "objective": OBJECTIVES[wanted.kind].format(points=join_names(at)),
        "value": f"{number(draft.objective, 3)}{proof}",
        "information": join_names(
            f"{number(found)} at {point}{target}"
            for (_, found), point, target in zip(draft.points, at, targets, strict=True)
        ),
        "certainty": None if draft.reached is None else promise,
        "published set": draft.set_hash[:12],
    }
    return pairs(known, small=True)


def information(draft: FormDraft, assembly: Sequence[FormDraft]) -> Figure:
    """Draw the form's information with its 95 % interval, the other forms, and the target."""
    theta, low, mean, high = zip(*draft.curve, strict=True)
    top = 1.08 * max(point[-1] for form in assembly for point in form.curve)
    chart = ability_chart(theta, "information", f"Information of form {draft.form_id} by ability.", top)
    others = [form for form in assembly if form.form_id != draft.form_id]
    for form in others:
        chart.line([point[0] for point in form.curve], [point[2] for point in form.curve], "grey", width=1.0)
    chart.line(theta, mean, "blue", draft.form_id, low, high)
    if target := draft.blueprint.objective.target:
        chart.points([theta for theta, _ in draft.points], target, "orange", "target", shape="diamond")
    grey = " Grey: the forms that were assembled with it." if others else ""
    return Figure(chart, f"Information by ability. Band: 95 % interval over the errors of the items.{grey}")


def assembled_forms(forms: Iterable[StoredForm]) -> Table:
    """Return a table with one row per form that was assembled, with links to their pages."""
    rows = [
        (
            page_link(form.form_id, "form", scale=form.blueprint.scale, form=form.form_id),
            *(form.blueprint.scale, len(form.items), form.state),
            *(form.decided_by, f"{form.decided_at:%Y-%m-%d}", form.reason),
        )
        for form in forms
    ]
    columns = ("form", "scale", "items", "state", "by", "on", "why")
    return table(columns, rows, numbers=("items",), caption=quantity(len(rows), "assembled form"))
