"""Simulated logs with numbers that differ from the product's, such as a small bank or guessed answers."""

from __future__ import annotations

from dataclasses import dataclass

from irt_assets.simulation.scenario import Scenario


@dataclass(frozen=True)
class AnyScenario(Scenario):
    """A scenario with attributes that tests and benchmarks may set. Defaults are the product's values."""

    cohort_means: tuple[float, ...] = Scenario.cohort_means
    cohort_sds: tuple[float, ...] = Scenario.cohort_sds
    growth_mean: float = Scenario.growth_mean
    growth_sd: float = Scenario.growth_sd
    blocks: int = Scenario.blocks
    items_per_block: int = Scenario.items_per_block
    anchors_per_block: int = Scenario.anchors_per_block
    guessing: float = Scenario.guessing
    adaptive_items: int = Scenario.adaptive_items
    adaptive_width: float = Scenario.adaptive_width
    practice_sessions: float = Scenario.practice_sessions
    practice_items: int = Scenario.practice_items
    omit_rate: float = Scenario.omit_rate
    unreached_rate: float = Scenario.unreached_rate
    late_rate: float = Scenario.late_rate

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.practice_items > self.exam_items:
            raise ValueError(f"practice_items ({self.practice_items}) exceeds the {self.exam_items} items seen before")
        if self.exam_items > self.n_items:
            raise ValueError(f"a learner answers {self.exam_items} items, but the bank has {self.n_items}")
