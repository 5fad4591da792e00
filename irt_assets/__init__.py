"""The asset graph of an assessment platform. Importing this package wires, reads and connects nothing."""
