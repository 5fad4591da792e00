"""Answers: how they come in, and which of them calibration may use."""
