"""What people and programs outside Dagster talk to: one package a service, each started by itself."""
