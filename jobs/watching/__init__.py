"""Watching the platform: what is late, which alerts are sent, and the overview of `irt status`."""
