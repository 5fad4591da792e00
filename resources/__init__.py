"""The foundations of the platform: settings, the database and its tables, the object store.

This package does not depend on psychometrics or the asset graph, and importing it connects to nothing.
"""
