"""Which items moved against their published values, how, and how much it matters."""
