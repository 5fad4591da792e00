"""Start and supervise servers: the stack of `irt serve`, and the single servers that systemd or a pod starts."""
