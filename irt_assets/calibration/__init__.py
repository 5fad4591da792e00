"""Fits, linking and publication: what a month and a night compute, as assets and their checks."""
