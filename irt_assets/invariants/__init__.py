"""Invariants: statements about everything that is stored. A daily read-only evaluation checks that they are true."""
