"""A simulated company: a log with known truth and planted faults, and its files in the platform's import format."""
