"""Psychometrics on files without a database: `irt_psychometrics.commands` with the platform's reader and engines.

Printing is in `cli/desk.py`.
"""
