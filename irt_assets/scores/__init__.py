"""Scores that are handed out: score tables of forms, equating, pass marks, and issued scores.

Does not belong here: item parameters and θ (`ledger`, `abilities`), and pages about scores (`reports`).
"""
