"""Information of items and tests on θ, what drift took from it, and what retiring items would cost."""
