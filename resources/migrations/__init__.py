"""Alembic's environment: the first schema, and the steps that turn one version of it into the next.

A step is written out and never imports the registry, which keeps changing. A released step is never changed.
`resources.postgres.schema` upgrades from code, and compares a database with the registry.
"""
