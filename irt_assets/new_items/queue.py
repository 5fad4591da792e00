"""List the items of a scale with stage, seeding limits and pipeline row, for pages and files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.new_items.decided import SeedLimits, read_seeding
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.new_items.stages import UNPUBLISHED, ItemStage, item_stages
from irt_assets.scales.scale import Scale


@dataclass(frozen=True)
class QueuedItem:
    """An item in the queue.

    Attributes:
        limits: limits of the draws, for an item that may be drawn now.
        progress: share of the answers and precisions that the scale's rules demand, for a new item with answers.
        new: row of `item_pipeline`, which only new items with answers have.
    """

    stage: ItemStage
    topic: str | None
    limits: SeedLimits | None
    progress: float | None
    new: PipelineItem | None

    @property
    def is_open(self) -> bool:
        """Whether the item is not published yet, and not rejected."""
        return self.stage.stage in UNPUBLISHED

    @property
    def stuck(self) -> str:
        """Reason why an open item does not get ahead; "" for other items."""
        return (self.new and self.is_open and self.new.stuck) or ""

    def as_row(self) -> Mapping[str, Any]:
        """Return the item as a flat row for files."""
        own = asdict(self.stage) | {"topic_id": self.topic, "progress": self.progress}
        return own | (self.new.as_row() if self.new else {})


def read_queue(connection: psycopg.Connection, scale: Scale, at: datetime) -> list[QueuedItem]:
    """Read every item of a scale with stage, limits and pipeline row, as of `at`."""
    topics: dict[str, str | None] = dict(
        connection.execute("SELECT item_id, topic_id FROM question WHERE scale_id = %s", (scale.scale_id,)).fetchall()
    )
    seeding = read_seeding(connection, scale.scale_id, at)
    new = {item.item_id: item for item in read_pipeline(connection, scale.scale_id)}
    return [
        QueuedItem(
            stage,
            topics.get(stage.item_id),
            seeding.get(stage.item_id),
            new[stage.item_id].progress(scale.rules.seeding) if stage.item_id in new else None,
            new.get(stage.item_id),
        )
        for stage in item_stages(connection, scale.scale_id)
    ]
