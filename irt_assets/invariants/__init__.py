"""The room of invariants: what must be true of everything that is stored, looked at every day, read only."""
