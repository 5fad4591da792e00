"""How answers, the item bank and learners come in: files, the inbox, posts and pulls.

Callers use `load` (files of answers into the log), `bank` (items and learners), `mapping` (columns, and the presets for
the usual exports) and `report`. The other modules are their parts: `readers` (files; each kind in a module of its own),
`cells` (values as text), `matrix` (the columns that are items), `scoring` (right and wrong), `times`, `clean` (values),
`staging` (each answer once), `ingest` (tables in memory into the log).

Nothing is imported here, because the commands on files use some of these modules without a database.
"""
