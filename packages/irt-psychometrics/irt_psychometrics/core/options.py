"""Choices of a caller: models, maximum scores, distributions of ability and linking methods.

Imports nothing, so that the command line can list them.
"""

from typing import Literal, get_args

Model = Literal["rasch", "1pl", "2pl", "3pl", "pcm", "rsm", "gpcm"]
MODELS: tuple[Model, ...] = get_args(Model)
DEFAULT_MODEL: Model = "2pl"
MAX_SCORE = 20
"""The largest maximum score that an item may have."""
Latent = Literal["normal", "histogram"]
LatentRule = Literal["normal", "histogram", "auto"]
Method = Literal["stocking-lord", "haebara", "mean-sigma", "mean-mean"]
