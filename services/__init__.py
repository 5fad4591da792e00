"""The services that people and programs outside Dagster use: one package and one process each."""
