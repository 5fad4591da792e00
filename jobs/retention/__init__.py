"""Deletion of rows, files and runs: retention times, pruning, and the erasure of a learner."""
