"""Delivery of alerts to people: the outbox, the channels, and alerts about failed units of systemd."""
