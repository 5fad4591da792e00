"""The dashboard: the bank, the months and what waits for a decision, for people who do not want to learn Dagster.

A page is made of what is stored, by the functions that commands and reports use, and has an address that can be sent to
a colleague. Belongs here: what is shown, and where a click leads. Does not belong here: any number's computation.
"""
