"""The database: its address, the embedded server, the schema and its history, and bulk reads and writes."""
