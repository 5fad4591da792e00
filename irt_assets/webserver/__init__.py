"""The webserver: Dagster's UI behind our own layers, which check requests and serve the reports.

Without a login, anyone who reaches the UI may use it, so it listens only on this machine (docs/how-to/web.md). What
does not belong here: issuing and verifying tokens (see `services.jwt_verifier`).
"""
