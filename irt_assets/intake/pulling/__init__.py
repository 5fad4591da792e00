"""Answers from another database or a folder of Parquet: `irt pull`, each minute.

What belongs here: the file of sources, how each source is read, and the state of each pull. What does not: how the rows
get into the log (see `intake.ingest`).
"""
