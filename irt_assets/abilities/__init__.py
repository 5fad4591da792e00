"""Learners' θ in the database: measured for a month, on request, and for learners whose request was lost."""
