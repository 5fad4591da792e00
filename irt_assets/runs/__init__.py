"""Starting of runs: in the daemon's queue, or in this process."""
