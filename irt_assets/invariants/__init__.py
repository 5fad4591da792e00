"""Invariants: what must be true of everything that is stored, checked every day, read only."""
