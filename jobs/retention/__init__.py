"""Which rows, files and runs are deleted, and when: retention times, pruning, and the erasure of a learner."""
