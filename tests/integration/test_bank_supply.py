"""The number of items by topic, now and in the months to come, beside the number that stored blueprints need."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.forms import assemble_forms, store_drafts
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.supply import read_supplies
from irt_assets.blocks.markdown import markdown
from irt_assets.decisions.deciding import decide
from irt_assets.new_items.decided import RETIRE, ItemsRequest
from irt_assets.new_items.progress import SILENT
from irt_assets.reports.scale_blocks import sections
from irt_assets.reports.scale_facts import scale_facts
from irt_assets.scales.scale import read_scales
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.decided import WITHDRAWN, set_policy
from tests.helpers.new_items import NIGHT, pipeline_item, store_pipeline
from tests.helpers.rooms import SCALE, add_items, call, run_sql
from tests.helpers.score_world import SIGNED, build_exam
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf

RULES = f"name: mock\nscale: {SCALE}\nforms: 2\nlength: {{max: 10}}\ntopics: {{topic: {{min: 10}}}}\n"
POLICY = f"test: placement\nscale: {SCALE}\nlength: {{max: 8}}\ntopics: {{algebra: {{min: 1}}}}\n"


def test_bank_is_compared_with_the_stored_blueprints(
    database: Database, settings: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    """The test needs 1 / .25 = 4 items of algebra, the two forms need 2 · 10 = 20 items of the other topic.

    Algebra has i1 and i2, ready comes now and slow in August. Of the other 28 items, i3 is retired, ten go on the 9th
    of October, and i14, which is withdrawn, comes back.
    """
    build_exam(database, tmp_path / "exam", learners=40)
    add_items(database, dict.fromkeys(["slow", "ready", "late"]))
    store_pipeline(
        database,
        pipeline_item("slow", 0.5),
        pipeline_item("ready", 0.2, publishable=True),
        pipeline_item("late", 0.5, stuck=SILENT.reason),
    )
    run_sql(database, "UPDATE question SET topic_id = 'algebra' WHERE item_id IN ('i1', 'i2', 'slow', 'ready', 'late')")
    october = NIGHT + timedelta(days=69)
    for item in (f"i{k}" for k in range(4, 14)):
        run_sql(database, WITHDRAWN, (item, october))
    run_sql(database, WITHDRAWN, ("i14", NIGHT - timedelta(days=9)))
    run_sql(database, WITHDRAWN.replace("withdraw an", "restore an").replace("withdrawn", "in use"), ("i14", october))
    decide(database, RETIRE, ItemsRequest(["i3"]), **SIGNED)
    store_drafts(database, call(database, assemble_forms, Blueprint.from_yaml(RULES), NIGHT), **SIGNED)
    policy = Policy.from_yaml(f"{POLICY}exposure: {{max: .25}}\n")
    set_policy(database, policy, effective_from=NIGHT, **SIGNED)

    day = NIGHT + timedelta(days=1)
    algebra, other = call(database, read_supplies, SCALE, day)
    assert (algebra.in_use, algebra.changes, algebra.stuck) == (2, ((day.date(), 1), (date(2026, 8, 21), 1)), 1)
    assert (other.in_use, other.size(date(2026, 10, 8)), other.size(date(2026, 10, 9))) == (26, 26, 17)
    assert [(own.needed, own.needed_by) for own in (algebra, other)] == [
        (4, "adaptive test placement"),
        (20, "form blueprint mock"),
    ]
    facts = call(database, scale_facts, call(database, read_scales)[SCALE], day)
    [section] = [part for part in sections(facts) if part.title == "Size of the bank to come"]
    sentences = [
        "Algebra runs short: 4 needed for adaptive test placement, 2 in use, 4 by August 2026.",
        "Topic runs short in October 2026: 20 needed for form blueprint mock, 17 left.",
    ]
    assert not missing_sentences(markdown(*section.blocks), *sentences)
    now = " ".join(irt(settings)("items", "pipeline").out.split())
    assert "Topic runs short: 20 needed for form blueprint mock, 17 in use, 17 at most by the forecasts." in now
