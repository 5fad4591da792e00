"""Building blocks of the other groups: responses, calibrations, anchors, curves, priors, compiled loops, errors."""
