"""Modules shared by tests and benchmarks: simulated worlds, servers under load or killed, an issuer of tokens.

This package imports neither tests nor benchmarks, which do not import each other.
"""
