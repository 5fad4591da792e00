"""Psychometrics on files, without a database: files in, an answer out; one module per command of `irt`.

What belongs here: what a command of `irt fit`, `score`, `link` and `simulate-responses` does with its files, as
functions that return dataclasses. What does not: numerics (psychometrics, engines) and printing (cli/desk.py).
"""

from typing import Literal

Scoring = Literal["eap", "map", "wle", "ml"]
