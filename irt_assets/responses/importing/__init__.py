"""Importing what others logged: answers, the item bank, learners.

What callers need: `load` (answers into the database), `bank` (items and learners), `mapping` (columns, and the presets
for the usual exports) and `report`. The parts: `readers` (files; each kind in a module of its own), `cells` (values as
text), `matrix` (which columns are items), `scoring` (what is right), `times`, `clean` (values), `staging`.

Nothing is imported here, as the commands on files read with the parts and need no database.
"""
