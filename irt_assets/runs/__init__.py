"""Whatever starts a run of Dagster, and does a run in its process."""
