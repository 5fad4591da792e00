"""How answers, the item bank and learners come in: files, the inbox, posts and pulls.

What callers need: `load` (files of answers into the log), `bank` (items and learners), `mapping` (columns, and the
presets for the usual exports) and `report`. The parts: `readers` (files; each kind in a module of its own), `cells`
(values as text), `matrix` (which columns are items), `scoring` (what is right), `times`, `clean` (values), `staging`
(each answer once), `take` (tables in memory into the log).

Nothing is imported here, as the commands on files read with the parts and need no database.
"""
