"""The JWT verifier: answers nginx with the owner of a request's token, or a refusal.

`tokens` and `keys` do not depend on HTTP: the θ API, the dashboard and the layer before Dagster use them, too.
Nothing here imports Dagster or numba, or connects to the database.
"""
