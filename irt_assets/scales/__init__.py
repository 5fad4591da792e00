"""Scales: their rules, the decisions on them, the status and the keys of their items, and which models they score.

Answers and their judgement belong to `responses`.
"""
