"""What a caller chooses from: models, distributions of ability and linking methods.

Imports nothing, so that the command line can list them.
"""

from __future__ import annotations

from typing import Literal

Model = Literal["rasch", "1pl", "2pl", "3pl"]
Latent = Literal["normal", "histogram"]
LatentRule = Literal["normal", "histogram", "auto"]
Method = Literal["stocking-lord", "haebara", "mean-sigma", "mean-mean"]
