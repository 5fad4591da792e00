"""The normal quantile of 95 % intervals."""

Z95 = 1.959964
"""Standard deviations on either side of the mean that contain 95 % of a normal distribution."""
