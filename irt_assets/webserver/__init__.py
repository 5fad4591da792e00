"""The webserver: Dagster's UI behind a layer of our own, which says who may ask for what, and serves the reports.

What belongs here: that layer, and the process that runs both. What does not: a login. Whoever reaches the page may use
it, so it listens on this machine alone (docs/web.md says what to put before it).
"""
