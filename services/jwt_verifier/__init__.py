"""The JWT verifier: tells nginx whose token a request carries, or to refuse it.

`tokens` and `keys` know nothing of HTTP: the θ API, the dashboard and the layer before Dagster verify with them too.
Nothing here imports Dagster or numba, or connects to the database.
"""
