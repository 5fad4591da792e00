"""Code that all packages use: partitions, names of jobs, wording, retries, progress, and Dagster's environment."""
