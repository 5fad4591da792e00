"""What every server of ours is built from: sockets, signals, readiness, logs, metrics, traces, who may ask."""
