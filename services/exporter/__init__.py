"""The platform's state for Prometheus: schedules, months, invariants, the daemon, alerts and runs.

See docs/how-to/metrics.md.
"""
