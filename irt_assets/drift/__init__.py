"""Drift: find the items that moved against the published set, the size of the change, and its kind."""
