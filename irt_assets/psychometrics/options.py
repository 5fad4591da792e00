"""What a caller chooses from: models and linking methods. Imports nothing, so that the command line can list them."""

from __future__ import annotations

from typing import Literal

Model = Literal["rasch", "1pl", "2pl", "3pl"]
Method = Literal["stocking-lord", "haebara", "mean-sigma", "mean-mean"]
