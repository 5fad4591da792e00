"""Width of confidence intervals."""

Z95 = 1.959964
"""95 % of a normal distribution lie within this many standard deviations of its mean."""
