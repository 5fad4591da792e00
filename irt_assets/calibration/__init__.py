"""Fits, linking and publication: the computations of a month and of a night, as assets and their checks."""
