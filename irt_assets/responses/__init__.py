"""Answers that calibration and scoring may use: facts about attempts, verdicts, the file of a month.

What does not belong here: how answers come in (see `intake`), and the rules of a scale (see `scales`).
"""
