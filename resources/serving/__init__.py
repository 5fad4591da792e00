"""Parts of all our servers: sockets, signals, readiness, logs, metrics, traces, and the check of requests."""
