"""What items and tests tell of θ, what drift took from it, and what retiring items would cost."""
