"""What every room uses: partitions, names of jobs, wording, retries, progress, and the environment of Dagster."""
