"""Alembic's environment: the first schema, and the steps that turn one version of it into the next.

A step is written out and never imports the registry, which goes on changing; none is changed once it is released.
Upgrading from code and comparing a database with the registry are in `resources.postgres.schema`.
"""
