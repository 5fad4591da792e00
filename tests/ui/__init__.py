"""A package, so that the platform ends with the last test of this folder."""
