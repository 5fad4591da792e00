"""Jobs, schedules, sensors and the run launcher: when and how assets are materialised.

This file is empty on purpose: the daemon and the webserver import `jobs.launching.launcher` and do not need the graph.
"""
