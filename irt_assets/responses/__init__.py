"""Answers that calibration and scoring may use: facts about attempts, the rules of a scale, the file of a month.

What does not belong here: how answers come in (see `intake`).
"""
