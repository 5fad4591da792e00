"""What people and programs outside Dagster talk to: one package per service, each a process of its own."""
