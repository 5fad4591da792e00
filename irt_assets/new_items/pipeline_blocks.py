"""The pipeline of new items as tables and a picture, for the asset and the command line."""

from collections import Counter
from collections.abc import Iterable, Sequence

from irt_assets.blocks import Figure, Table, table
from irt_assets.charts import MAX_NAMES, add_points
from irt_assets.new_items.pipeline import ScalePipeline
from irt_assets.new_items.progress import PipelineItem
from irt_psychometrics.plots import Chart

MAX_SHOWN = 200


def overview(pipelines: Sequence[ScalePipeline]) -> Table:
    """Count each scale's items: publishable, stuck by reason, and the others."""
    rows = []
    for made in pipelines:
        stuck = Counter(item.stuck for item in made.items if item.stuck)
        publishable = sum(item.publishable for item in made.items)
        held = "; ".join(f"{n}: {reason}" for reason, n in stuck.most_common())
        rows.append((made.scale.scale_id, len(made.items), publishable, stuck.total(), held or made.why))
    numbers = dict.fromkeys(("new items", "publishable", "stuck"), ",")
    return table(("scale", *numbers, ""), rows, numbers=numbers)


def items_table(items: Iterable[PipelineItem]) -> Table:
    """List items with values, the expected day of publication, and the reason if an item is stuck."""
    rows = [
        (
            *(item.scale_id, item.item_id, item.n),
            *(item.parameters.get("b"), item.b_se, item.ln_a_se, item.prior_share),
            "publishable" if item.publishable else f"{item.ready_at or 'not foreseen'}",
            "" if item.ready_from is None else f"{item.ready_from} … {item.ready_to or 'later'}",
            item.stuck or "",
        )
        for item in items
    ]
    formats = {"answers": ",", "b": "+.2f", "SE(b)": ".2f", "SE(ln a)": ".2f", "prior's share": ".0%"}
    return table(
        ("scale", "item", *formats, "publishable on", "80 % interval", "stuck"),
        rows[:MAX_SHOWN],
        numbers=formats,
        caption=f"The first {MAX_SHOWN} of {len(rows)} items" if len(rows) > MAX_SHOWN else "",
        empty="no new items have answers",
    )


def progress_picture(made: ScalePipeline) -> Figure:
    """Draw how far each item is on the way to the rules' precisions, by its number of answers."""
    rules = made.scale.rules.seeding
    n, shares = [item.n for item in made.items], [item.progress(rules) for item in made.items]
    kinds = ["publishable" if item.publishable else "stuck" if item.stuck else "" for item in made.items]
    described = "progress of new items by number of answers"
    chart = Chart((0, 1.05 * max(n)), (0, 1.1), "answers", "share of the precision reached", described, width=690)
    named = [(k, item.item_id) for k, item in enumerate(made.items) if item.stuck]
    titles = [f"{item.item_id}: {share:.0%}, {item.n} answers" for item, share in zip(made.items, shares, strict=True)]
    add_points(chart.level(1.0), n, shares, kinds, plain="on the way", named=named[:MAX_NAMES], titles=titles)
    return Figure(chart, described)
