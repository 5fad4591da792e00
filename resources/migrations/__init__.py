"""Alembic's environment: the steps that turn one version of the schema into the next.

A step is written out and never imports the registry, which goes on changing. There are no steps
back: those would drop what was computed; a backup is the way back. Upgrading from code and
comparing a database with the registry are in `resources.schema`.
"""
