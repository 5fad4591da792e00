"""The job by which people decide in the Dagster UI, as others call it; without what computes."""

from __future__ import annotations

RELEASE_JOB = "release_decision"
