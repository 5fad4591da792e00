"""Simulated worlds, known fits and fixtures for tests of the library. Other tests and benchmarks use them, too.

The package imports nothing of the platform, and is not part of the installed library.
"""
