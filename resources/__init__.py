"""What the platform stands on: settings, the database and its tables, the object store.

Nothing here knows of psychometrics or of the asset graph, and nothing connects when imported.
"""
