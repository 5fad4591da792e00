"""Pure psychometrics: arrays and frozen dataclasses in, frozen dataclasses out.

Nothing here knows of Dagster, a database, a file or a data frame. NumPy, SciPy and numba only.
"""
