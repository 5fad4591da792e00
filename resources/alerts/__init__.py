"""Alerts on their way to people: the outbox, the channels, and what a failed unit says."""
