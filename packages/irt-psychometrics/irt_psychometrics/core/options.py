"""Choices of a caller: models, maximum scores, distributions of ability, and methods of linking and equating.

Imports nothing, so that the command line can list them.
"""

from typing import Literal, get_args

DrawnModel = Literal["rasch", "1pl", "2pl", "3pl", "pcm", "rsm", "gpcm"]
"""Names of the item models of which the command `simulate` draws items."""
Model = Literal[DrawnModel, "grm"]
"""Names of item models; see `fit`."""
ScaleModel = Literal[Model, "3pl+gpcm", "3pl+grm"]
"""Names of models of a scale: of its items scored 0 and 1, and of those with more scores."""
MODELS: tuple[Model, ...] = get_args(Model)
DEFAULT_MODEL: DrawnModel = "2pl"
MAX_SCORE = 20
"""The largest maximum score that an item may have."""
MAX_POINTS = 100
"""The largest maximum score of an item that is analysed without a model."""
Latent = Literal["normal", "histogram"]
"""Distributions of θ: normal, or free weights on the nodes."""
LatentRule = Literal["normal", "histogram", "auto"]
"""A distribution of θ, or "auto", which tests the normal distribution and chooses."""
Method = Literal["stocking-lord", "haebara", "mean-sigma", "mean-mean"]
"""Linking methods; see `link`."""
EquatingMethod = Literal["identity", "mean", "linear", "circle-arc", "equipercentile", "kernel"]
"""Methods of equating by distributions of raw scores; see `equating.equate`."""
Adjustment = Literal["tucker", "levine", "levine-true-score", "frequency-estimation", "chained"]
"""Adjustments for groups of different ability, with common items; see `equating.equate`."""
ItemMethod = Literal["true-score", "observed-score"]
"""Methods of equating by item parameters; see `equating.equate_by_items`."""
