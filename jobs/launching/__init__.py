"""Launching of runs: the run launchers, the coordinator that records who launched a run, and the logs of runs.

This file is empty on purpose: the daemon and the webserver import `jobs.launching.launcher` and do not need the graph.
What does not belong here: which runs are requested, and when (see `jobs.schedules` and `jobs.sensors`).
"""
