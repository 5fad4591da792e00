"""What tests and benchmarks share: simulated worlds, servers under load or killed, an issuer of tokens.

It imports neither of the two, and neither imports the other.
"""
