"""The webserver: Dagster's UI behind our own layers, which decide who may ask for what, and serve the reports.

What belongs here: those layers, and the process that runs all of it. What does not: issuing and verifying tokens (see
`services.jwt_verifier`). Where no login is set up, anyone who reaches the page may use it, so it listens only on this
machine (docs/how-to/web.md).
"""
