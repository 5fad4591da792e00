"""Items split by group, in one fit of several groups: what each group's answers say of an item, on one scale.

Belongs here: the responses with a copy of an item for each group, their fits, and which of the items hold the groups
together. Does not belong here: the test of copies (wald.py) and which learners make a group (analysis.py).

In a fit of several groups (`fit_em(groups=)`) items are equal across groups, and the groups' means and SDs of θ are
free but for the reference's. An item that is split stands in it once for each group, answered by that group alone, so
that its copies' parameters and their joint covariance are those of maximum likelihood with the unsplit items, the
anchors, as equal. All items but the anchors are split at once, and of the anchors in one fit one half, in another the
other half, so that each is tested while others hold the scale (Wald-2 with designated anchors: Langer 2008; Woods, Cai
& Wang 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irt_assets.psychometrics.alignment.align import invariant
from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.core.options import Latent, Model
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.latent_shape import FEWEST_LEARNERS
from irt_assets.psychometrics.linking.criteria import Pairs, medians

FEWEST_ITEMS = 4
ANCHOR_P = 0.05
"""An item with a p below this is not an anchor. That excludes a twentieth of the items without DIF, at hardly any
cost."""


@dataclass(frozen=True)
class Groups:
    """Answers of G groups to J items.

    Attributes:
        responses: of the groups' learners alone, to items that their group answered often enough.
        names: the reference first.
        member: shape (n_persons,), each learner's group.
        answered: shape (G, J), the items that a group answered often enough.
    """

    responses: Responses
    names: tuple[str, ...]
    member: Ints
    answered: Mask
    model: Model
    latent: Latent
    threads: int | None

    @classmethod
    def of(
        cls,
        responses: Responses,
        names: Sequence[str],
        member: Ints,
        answered: Mask,
        *,
        model: Model,
        latent: Latent,
        threads: int | None,
    ) -> Groups:
        """`member`: below 0 for learners of none of the groups."""
        of = member[responses.person]
        rows = np.flatnonzero((of >= 0) & answered[of, responses.item])
        rows = rows[np.argsort(of[rows], kind="stable")]
        persons, place = np.unique(member[responses.person[rows]] * responses.n_persons + responses.person[rows], return_inverse=True)
        own = Responses(place.astype(np.int32), responses.item[rows], responses.score[rows], len(persons), responses.item_ids)
        shape: Latent = latent if np.sum(member == 0) >= FEWEST_LEARNERS else "normal"
        return cls(own, tuple(names), persons // responses.n_persons, answered, model, shape, threads)

    @property
    def sizes(self) -> Ints:
        return np.bincount(self.member, minlength=len(self.names))

    def apart(self) -> tuple[Mask, Copies]:
        """The items without sign of DIF in fits of each group alone, shape (J,), and these fits on the reference's
        scale."""
        J, own = self.responses.n_items, []
        for g in range(len(self.names)):
            answers = self.responses.of_persons(np.flatnonzero(self.member == g))
            own.append(fit_em(answers, model=self.model, threads=self.threads, tolerance=1e-2, abilities_known=True))
        sound, known = self.answered[0].copy(), [f.estimated & np.isfinite(f.cov_ab).all(axis=(1, 2)) & (f.a > 0) for f in own]
        for g in range(1, len(own)):
            both = np.flatnonzero(known[0] & known[g])
            if len(both) < FEWEST_ITEMS: raise PsychometricsError("few")
            pairs = Pairs(own[g].select(both).items, own[0].select(both).items, own[0].select(both).models)
            line, p = invariant(pairs.differences, medians(pairs), ANCHOR_P)
            sound[both[p < ANCHOR_P]] = False
            own[g] = own[g].rescaled(*line)
        populations = tuple(f.populations[0] for f in own)
        a, d, c = (np.concatenate([getattr(f, name) for f in own]) for name in "adc")
        fit = replace(own[0].select(np.tile(np.arange(J), len(own))), a=a, d=d, c=c, populations=populations)
        return sound & self.answered[1:].any(axis=0), Copies(fit, np.arange(len(a)).reshape(-1, J))

    def split(self, held: Mask, near: Copies | None = None) -> Copies:
        """The fit in which all items but those `held` (J,) are split. `near`: one to start from.

        Raises PsychometricsError where it does not converge.
        """
        place = np.full(self.answered.shape, -1)
        new = np.where(held, np.arange(len(self.names))[:, None] == 0, self.answered)
        place[new] = np.arange(new.sum())
        place[:, held] = np.where(self.answered, place[0], -1)[:, held]
        group, item = np.nonzero(new)
        ids = tuple(f"{self.responses.item_ids[j]} of group {g}" for g, j in zip(group, item, strict=True))
        responses = self.responses
        own = replace(responses, item=place[self.member[responses.person], responses.item], item_ids=ids)
        fit = fit_em(
            own,
            groups=[f"{g:09d}" for g in self.member],
            model=self.model,
            latent=self.latent,
            threads=self.threads,
            tolerance=1e-3,
            start=None if near is None else replace(near.fit.select(near.place[group, item]), item_ids=ids),
        )
        if not fit.convergence.converged:
            raise PsychometricsError(f"their fit did not converge: {fit.convergence.reason}")
        return Copies(fit, place)


@dataclass(frozen=True)
class Copies:
    """A fit with split items. `place`: shape (G, J), where each group's copy of an item is in it, −1 where the group
    did not answer it often enough; one place for all groups where the item is held."""

    fit: Calibration
    place: Ints

    @property
    def estimated(self) -> Mask:
        """Shape (G, J): the copies with errors."""
        sound = np.isfinite(self.fit.cov).all(axis=(1, 2)) & (self.fit.cov[:, 1, 1] > 0)
        return (self.place >= 0) & sound[self.place]

    def unestimated(self, g: int) -> dict[int, str]:
        """Why copies of a group, by item, have no estimate or no error."""
        missing = np.flatnonzero((self.place[g] >= 0) & ~self.estimated[g])
        flags = {int(j): self.fit.flags[self.place[g, j]] for j in missing}
        unknown = "its errors could not be estimated"
        return {j: "; ".join(flag.explanation for flag in own) or unknown for j, own in flags.items()}

    @property
    def parameters(self) -> Floats:
        """Shape (G, J, K)."""
        return self.fit.parameters.T[self.place]

    @property
    def covariance(self) -> Floats:
        """Shape (J, G, K, G, K), of an item's copies. What c has in common with other groups' copies is left out; so is
        all that copies have in common where the fit keeps no covariances between items."""
        (G, J), K = self.place.shape, self.fit.cov.shape[1]
        cov = np.zeros((J, G, K, G, K))
        joint = self.fit.joint_cov
        for g in range(G):
            if joint is not None:
                between = joint.reshape(-1, 2, joint.shape[0] // 2, 2)
                for h in range(G):
                    cov[:, g, :2, h, :2] = between[self.place[g], :, self.place[h], :]
            cov[:, g, :, g, :] = self.fit.cov[self.place[g]]
        return cov
