"""The dashboard: the bank, the months and open decisions, for people who do not want to learn Dagster.

A page shows stored data, through the functions that commands and reports use, and has an address that can be sent to a
colleague. Belongs here: what is shown, and where a click leads. Does not belong here: any number's computation.
"""
