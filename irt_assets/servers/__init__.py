"""Whatever keeps a server going: the stack of `irt serve`, and each server that systemd or a pod starts."""
