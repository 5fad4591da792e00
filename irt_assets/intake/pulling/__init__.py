"""Answers from another database or a folder of Parquet: `irt pull`, each minute.

What belongs here: which sources there are, how each is read, and where each pull stands. What does not: what is done
with the rows (see `intake.take`).
"""
