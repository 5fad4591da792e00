"""What the other groups work with: responses, calibrations, anchors, curves, priors, compiled loops, errors."""
