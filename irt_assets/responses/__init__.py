"""Which answers calibration and scoring may use: facts, rules of a scale, a month's file.

What does not belong here: how answers come in (see `intake`).
"""
