"""How runs are launched: the run launchers, the coordinator that names who asked, sizes of pods, logs of runs.

Empty on purpose: the daemon and the webserver import `jobs.launching.launcher`, and need nothing of the graph. What
does not belong here: which runs are requested, and when (see `jobs.schedules` and `jobs.sensors`).
"""
