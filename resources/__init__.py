"""The foundations of the platform: settings, the database and its tables, the object store.

Nothing here knows psychometrics or the asset graph, and nothing connects when imported.
"""
