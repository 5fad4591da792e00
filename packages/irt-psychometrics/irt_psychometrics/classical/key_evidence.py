"""Sequential evidence against the key of an item, from the chosen options and rest scores alone.

Does not belong here: item statistics of a finished sample (`item_analysis`), and wrong keys that a fitted curve reveals
(`drift`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.results import Result

LIMITS = np.linspace(-4, 4, 65)[1:-1]
"""Limits of the 64 bins in which rest scores are counted, in SD."""
CORRELATIONS = np.array([0.25, 0.45, 0.65])
"""Biserial correlations on which an equal part of the capital is bet."""
FIRST = 30
"""Answers after which each option's share of the capital is known. No evidence is reported earlier."""
CHUNK = 1024


@dataclass(frozen=True, eq=False, repr=False)
class KeyEvidence(Result):
    r"""Evidence that an option of an item attracts abler learners than the key, updated with each answer.

    The null hypothesis is that the key is right in this sense: for each other option and every x, at most as large a
    share of its choosers has a rest score above x as of the key's choosers (stochastic order). It includes options that
    are exactly as good as the key, and any shares of the options. Given the choices, rest scores are independent, and
    their distribution among those who choose an option is the same at all times.

    Each option has a test martingale against the key. Among the persons who chose the option or the key, the rank of
    each rest score among all earlier ones gives u, with ties broken at random. If option and key have the same
    distribution, the u are independent and uniform on (0, 1) for any sequence of choices (Vovk, Nouretdinov & Gammerman
    2003; Fedorova et al. 2012). With z = Φ⁻¹(u) and the option's share p of the earlier answers, the capital is
    multiplied by Φ(η)/p for the option and Φ(−η)/(1 − p) for the key, η = (Φ⁻¹(p) + ρz)/√(1 − ρ²). This is the
    likelihood ratio of a biserial correlation ρ to independence, and its mean over u is 1. A third of the capital is
    bet on each of three ρ. By Ville's (1939) inequality the capital ever reaches c times its initial value with
    probability 1/c at most.

    In the rest of the null hypothesis the key has the larger distribution. Draw both options' scores by their quantile
    functions from the same uniform numbers, whose ranks belong to the first case. The option's ranks are then never
    higher than these, and the key's never lower. The capital rises with the option's ranks and falls with the key's, so
    it never exceeds the capital of the first case.

    The initial capital 1 is divided among the options in proportion to the squares of their frequencies in the first 30
    answers; ranks are independent of choices. Options that appear later share as much as an option chosen once. The
    probabilities of all options add up to 1/c at most, and the evidence is the largest capital that any option has
    reached. Shafer & Vovk (2019) treat tests by betting.

    Attributes
    ----------
    keys
        The right options, which count as one.
    seed
        Seed of the random numbers that break ties. The same answers and seed always give the same evidence.
    n
        Number of answers that count.
    others
        The M other options, in the order of their first choice.
    counts
        Shape (1 + M, 64), answers in each bin of the rest score for the key and the other options.
    first_counts
        Shape (M,), answers with each other option among the first 30.
    log_capital
        Shape (M, 3), logarithm of the capital of each option and ρ, relative to its initial value.
    log_peak
        Shape (M,), logarithm of each option's largest capital, relative to its initial value.

    Examples
    --------
    >>> evidence = KeyEvidence.start({"A"}, random_state=1)
    >>> for day in range(3):
    ...     evidence = evidence.update(["A", "B"] * 50, [-1.0, 1.0] * 50)
    >>> evidence.option, evidence.e_value > 1_000
    ('B', True)
    """

    keys: tuple[str, ...]
    seed: int
    n: int
    others: tuple[str, ...]
    counts: Ints
    first_counts: Ints
    log_capital: Floats
    log_peak: Floats
    frame_kind: str | None = None

    @classmethod
    def start(cls, keys: Collection[str], random_state: int) -> KeyEvidence:
        """Start without answers.

        A bank whose N items start once a year names N/1,000 right keys a year on average, at most, if it names an item
        as soon as `e_value` reaches 1,000. Start again when the key or the item changes: answers to the earlier version
        are evidence for its key, which later answers would have to outweigh.

        Parameters
        ----------
        keys
            The right options.
        random_state
            Seed of the random numbers that break ties: a number of at least 0 that does not depend on the answers, for
            example a hash of the item's name.

        Returns
        -------
        KeyEvidence
            The evidence before the first answer.

        Raises
        ------
        PsychometricsError
            If there is no key.

        Examples
        --------
        >>> KeyEvidence.start({"A"}, random_state=1)
        <KeyEvidence: Key A after 0 answers: evidence 1>
        """
        if not keys:
            raise PsychometricsError("an item without a key has no evidence against it; name at least one key")
        counts, capital = np.zeros((1, len(LIMITS) + 1), dtype=np.int64), np.zeros((0, len(CORRELATIONS)))
        return cls(tuple(sorted(keys)), random_state, 0, (), counts, np.zeros(0, dtype=np.int64), capital, np.zeros(0))

    def update(self, options: Sequence[str | None], rest: npt.ArrayLike) -> KeyEvidence:
        """Add answers, in order of arrival. One addition and several parts give the same evidence.

        Parameters
        ----------
        options
            The chosen options. Answers without an option (None) do not count.
        rest
            The persons' rest scores, of mean 0 and SD 1 among the persons of the form. Answers with NaN do not count.

        Returns
        -------
        KeyEvidence
            The evidence after these answers.

        Raises
        ------
        PsychometricsError
            If the lengths differ.

        Examples
        --------
        >>> KeyEvidence.start({"A"}, random_state=1).update(["A", "C", None], [0.3, -0.2, 0.1]).n
        2
        """
        scores = np.asarray(rest, dtype=float)
        if scores.shape != (len(options),):
            raise PsychometricsError(f"rest must have {len(options)} entries, as options has, got {scores.size}")
        rows = dict.fromkeys(self.keys, 0) | {option: row for row, option in enumerate(self.others, 1)}
        used = [k for k in np.flatnonzero(~np.isnan(scores)).tolist() if options[k] is not None]
        row = np.array([rows.setdefault(str(options[k]), max(rows.values()) + 1) for k in used], dtype=np.int64)
        bins = np.digitize(scores[used], LIMITS)
        new = max(rows.values()) - len(self.others)
        counts = np.pad(self.counts, ((0, new), (0, 0)))
        capital, peak = np.pad(self.log_capital, ((0, new), (0, 0))), np.pad(self.log_peak, (0, new))
        ties = np.random.Generator(np.random.PCG64(self.seed).advance(self.n)).random(len(row))
        for k in range(1, len(counts)):
            pair = np.flatnonzero((row == 0) | (row == k))
            before = counts[[0, k]]
            for part in np.split(pair, range(CHUNK, len(pair), CHUNK)):
                chosen = row[part] == k
                gains = _log_gains(before, chosen, bins[part], ties[part])
                path = np.cumsum(np.vstack([capital[k - 1], gains]), axis=0)
                capital[k - 1] = path[-1]
                peak[k - 1] = max(peak[k - 1], np.logaddexp.reduce(path, axis=1).max() - np.log(len(CORRELATIONS)))
                np.add.at(before, (chosen.astype(int), bins[part]), 1)
        np.add.at(counts, (row, bins), 1)
        first = np.bincount(row[: max(FIRST - self.n, 0)], minlength=len(counts))[1:]
        return replace(
            self,
            n=self.n + len(row),
            others=tuple(option for option, k in rows.items() if k > 0),
            counts=counts,
            first_counts=np.pad(self.first_counts, (0, new)) + first,
            log_capital=capital,
            log_peak=peak,
        )

    @property
    def e_values(self) -> Floats:
        """The largest evidence reached for each other option, shape (M,); NaN before the 30th answer."""
        if self.n < FIRST:
            return np.full(len(self.others), np.nan)
        late = self.first_counts == 0
        part = np.where(late, 0.5 ** np.cumsum(late), self.first_counts**2.0) / (1 + (self.first_counts**2).sum())
        return np.exp(np.minimum(self.log_peak + np.log(part), 690))  # finite, as JSON has no infinity

    @property
    def e_value(self) -> float:
        """The largest evidence reached, whose inverse is a p value valid at any time.

        A right key ever reaches c ≥ 1 with probability 1/c at most.
        """
        return 1.0 if self.option is None else float(self.e_values.max())

    @property
    def option(self) -> str | None:
        """The option with the largest evidence. Returns None before the 30th answer, or if only keys were chosen."""
        return self.others[int(self.e_values.argmax())] if self.others and self.n >= FIRST else None

    def _title(self) -> str:
        return f"Key {' or '.join(self.keys)} after {self.n:,} answers"

    def _facts(self) -> dict[str, str]:
        found = {"evidence": f"{self.e_value:,.4g}"}
        return found | ({"for": self.option} if self.option else {})

    def _columns(self) -> dict[str, Any]:
        n = self.counts.sum(axis=1)
        return {
            "option": (" or ".join(self.keys), *self.others),
            "key": [True, *[False] * len(self.others)],
            "n": n,
            "share": n / max(self.n, 1),
            "e_value": np.array([np.nan, *self.e_values]),
        }


def _log_gains(before: Ints, chosen: npt.NDArray[np.bool_], bins: Ints, ties: Floats) -> Floats:
    """Logarithm of the factor of each ρ's capital at each answer with the option or the key, shape (m, 3).

    `before` (2, 64) counts the earlier answers of the key and of the option. `chosen` (m,) is whether the option was
    chosen and not the key. `ties` (m,) are in [0, 1).
    """
    from scipy.special import log_ndtr, ndtri

    answers = np.arange(len(bins))
    lower = bins[:, None] < np.arange(before.shape[1] + 1)
    earlier = np.cumsum(lower, axis=0) - lower + np.concatenate([[0], before.sum(axis=0).cumsum()])
    below, up_to = earlier[answers, bins], earlier[answers, bins + 1]
    n = before.sum() + answers
    z = ndtri((below + ties * (up_to - below + 1)) / (n + 1))
    times = before[1].sum() + np.cumsum(chosen)
    p = (times - chosen + 1) / (n + 2)
    rho = CORRELATIONS * np.sqrt(n / (n + 1))[:, None]  # the first ranks are among few, so less is bet on them
    eta = (ndtri(p)[:, None] + rho * z[:, None]) / np.sqrt(1 - rho**2)
    gains = log_ndtr(np.where(chosen[:, None], eta, -eta)) - np.log(np.where(chosen, p, 1 - p))[:, None]
    return np.where(times[:, None] > 0, gains, 0.0)  # no bet before the option's first choice
