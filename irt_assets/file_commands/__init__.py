"""Psychometrics on files, without a database: the commands of `irt_psychometrics.commands` with our reader and engines.

What belongs here: what the platform adds to them. What does not: printing (cli/desk.py).
"""
