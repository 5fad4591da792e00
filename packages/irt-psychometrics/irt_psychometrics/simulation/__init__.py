"""Simulated logs with known truth and planted faults."""
