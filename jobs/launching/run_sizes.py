"""Resources of a run with a pod of its own: CPU, memory and time, by the tags of its job.

What does not belong here: how its pod is made (see `kubernetes_launcher`).
"""

from dataclasses import dataclass

from dagster import MAX_RUNTIME_SECONDS_TAG, DagsterRun

from resources.settings import Settings

KIND_TAG = "irt/kind"
OTHER = "other"
SIZES = {
    "daily": ("1", "4Gi"),
    "weekly": ("2", "4Gi"),
    "nightly": ("2", "8Gi"),
    "monthly": ("2", "8Gi"),
    "drift": ("1", "4Gi"),
    "report": ("1", "4Gi"),
    "upkeep": ("500m", "2Gi"),
    OTHER: ("2", "8Gi"),
}
"""CPU that is asked for, and memory, of each kind, unless IRT_RUN_RESOURCES says otherwise: 10⁵ answers a window."""
LONGEST_S = 86_400
"""As `max_runtime_seconds` in dagster.yaml."""


@dataclass(frozen=True)
class RunSize:
    """CPU that is asked for; memory that is asked for and not exceeded; seconds that the run may take."""

    kind: str
    cpu: str
    memory: str
    seconds: int


def size_of(run: DagsterRun, settings: Settings) -> RunSize:
    """A run of unknown kind gets enough for any selection of assets."""
    kind = run.tags.get(KIND_TAG, OTHER)
    kind = kind if kind in SIZES else OTHER
    cpu, memory = (SIZES | settings.run_sizes)[kind]
    tag = run.tags.get(MAX_RUNTIME_SECONDS_TAG, "")
    return RunSize(kind, cpu, memory, int(tag) if tag.isdecimal() else LONGEST_S)
