"""The dashboard: the bank, the months and open decisions, for people who do not want to learn Dagster.

A page shows stored data, read with the functions that commands and reports use, and has an address that can be sent to
a colleague. What belongs here: which data is shown, and where a click leads. What does not: the computation of numbers.
"""
