"""Items that measure several dimensions: structure, fit, scores and indices of two-tier models (Cai 2010)."""
