"""Monitoring of the platform: late jobs, alerts, and the overview of `irt status`."""
