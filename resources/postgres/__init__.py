"""The database: where it is, the embedded server, the schema and its history, rows in and out in bulk."""
