"""Drift: which items moved against the published set, how much it matters, and what happened to them."""
