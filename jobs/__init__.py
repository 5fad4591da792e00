"""Jobs, schedules, sensors and the run launcher: when and how assets are materialised.

Empty on purpose: the daemon and the webserver import `jobs.launching.launcher`, and need nothing of the graph.
"""
