"""Items split by group, in one fit of several groups: what each group's answers say of an item, on one scale.

Belongs here: the responses with a copy of an item for each group, their fits, and which of the items hold the groups
together. Does not belong here: the test of copies (wald.py) and which learners make a group (analysis.py).

In a fit of several groups (`fit_em(groups=)`) items are equal across groups, and the groups' means and SDs of θ are
free but for the reference's. An item that is split stands in it once for each group, answered by that group alone, so
that its copies' parameters and their joint covariance are those of maximum likelihood with the unsplit items, the
anchors, as equal (Langer 2008; the algorithm Wald-1 of Woods, Cai & Wang 2013). All items but the anchors are split at
once, and of the anchors in a first fit one part, in a second the other, so that each is tested while others hold the
scale. The larger part holds it in the first fit, which tests all items but the anchors.

**Anchors** are found by fits of each group alone: the items that agree with one line between the groups' scales, found
in turn with them from the medians of all (Lord 1980; Candell & Drasgow 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.alignment.common_line import invariant
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import OtherItems, model_of, parts, which
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Latent, Model
from irt_psychometrics.core.priors import GUESSING_PRIOR
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import FEWEST_LEARNERS
from irt_psychometrics.linking.criteria import Pairs, medians

FEWEST_ITEMS = 4
ANCHOR_P = 0.05
"""An item with a p below this, against any group, is not an anchor, but half of the items are: DIF is defined against
the majority of items. That excludes a twentieth of the items without DIF, at hardly any cost."""
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Groups:
    """Answers of G groups to J items.

    Attributes:
        responses: of the groups' learners alone, to items that their group answered often enough.
        names: the reference first.
        member: shape (n_persons,), each learner's group.
        answered: shape (G, J), the items that a group answered often enough.
        models: of J items.
    """

    responses: Responses
    names: tuple[str, ...]
    member: Ints
    answered: Mask
    models: tuple[Model, ...]
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
        models: tuple[Model, ...],
        latent: Latent,
        threads: int | None,
    ) -> Groups:
        """`member`: below 0 for learners of none of the groups."""
        group = member[responses.person]
        rows = np.flatnonzero((group >= 0) & answered[group, responses.item])
        rows = rows[np.argsort(group[rows], kind="stable")]  # a group's copies are then used one after the other
        first = np.diff(responses.person[rows], prepend=-1) != 0
        person = np.cumsum(first, dtype=np.int32) - 1
        own = Responses(
            person, responses.item[rows], responses.score[rows], int(first.sum()), responses.item_ids,
            responses.categories,
        )  # fmt: skip
        shape: Latent = latent if np.sum(member == 0) >= FEWEST_LEARNERS else "normal"
        return cls(own, tuple(names), group[rows[first]], answered, models, shape, threads)

    @property
    def sizes(self) -> Ints:
        return np.bincount(self.member, minlength=len(self.names))

    def apart(self) -> tuple[Mask, Copies]:
        """The anchors, shape (J,), and the fits of each group alone, on the reference's scale."""
        fits, least = [], np.full(self.responses.n_items, np.nan)
        for g, name in enumerate(self.names):
            answers = self.responses.of_persons(np.flatnonzero(self.member == g))
            fit = fit_em(
                answers, model=self.models, threads=self.threads, tolerance=1e-2, abilities_known=True,
                prior_on_rare_steps=False,
            )  # fmt: skip
            fits.append(fit)
            known = np.isfinite(fit.cov).all(axis=(1, 2)) & (fit.a > 0)
            if g == 0:
                of_reference = known
                continue
            both = np.flatnonzero(of_reference & known)
            if len(both) < FEWEST_ITEMS:
                raise PsychometricsError(_too_few(len(both), self.names[0], name))
            new, old = fit.select(both), fits[0].select(both)
            pairs = Pairs(new.items, old.items, new.models)
            line, p = invariant(pairs.differences, medians(pairs), ANCHOR_P)
            least[both] = np.fmin(least[both], p)
            fits[g] = fits[g].rescaled(*line)
        start = replace(
            fits[0].select(np.tile(np.arange(len(least)), len(fits))),
            a=np.concatenate([fit.a for fit in fits]),
            d=np.concatenate([fit.d for fit in fits]),
            c=np.concatenate([fit.c for fit in fits]),
            further=None if fits[0].further is None else np.concatenate([fit.further for fit in fits]),
            populations=tuple(fit.populations[0] for fit in fits),
        )
        anchors = least >= min(ANCHOR_P, float(np.nanmedian(least)))
        return anchors, Copies(start, np.arange(start.n_items).reshape(len(fits), -1))

    def split(self, held: Mask, near: Copies) -> Copies:
        """The fit in which all items but those `held` (J,) are split, begun at others. Raises PsychometricsError where
        it does not converge."""
        own = np.where(held, np.arange(len(self.names))[:, None] == 0, self.answered)
        place = np.full(own.shape, -1)
        place[own] = np.arange(own.sum())
        place[1:] = np.where(held & self.answered[1:], place[0], place[1:])
        group, item = np.nonzero(own)
        ids = tuple(f"{self.responses.item_ids[j]} of group {g}" for g, j in zip(group, item, strict=True))
        responses = self.responses
        fit = fit_em(
            replace(
                responses,
                item=place[self.member[responses.person], responses.item],
                item_ids=ids,
                categories=None if responses.categories is None else responses.categories[item],
            ),
            groups=[f"{g:09d}" for g in self.member],
            model=[self.models[j] for j in item],
            latent=self.latent,
            threads=self.threads,
            tolerance=_TOLERANCE,
            prior_on_rare_steps=False,
            start=replace(near.fit.select(near.place[group, item]), item_ids=ids),
        )
        if not (fit.convergence.converged or (model_of(self.models).guesses and _all_but_items(fit))):
            raise PsychometricsError(f"their fit did not converge: {fit.convergence.reason}")
        return Copies(fit, place)

    def tested(self) -> tuple[Mask, tuple[Copies, Copies]]:
        """The anchors, shape (J,), and the two fits in which a part of them holds the groups together: parts of like
        difficulty that the same groups have seen."""
        shared = int((self.answered[0] & self.answered[1:]).sum(axis=1).min())
        if shared < FEWEST_ITEMS:
            raise PsychometricsError(_too_few(shared, self.names[0], "another"))
        anchors, near = self.apart()
        responses, J = self.responses, len(anchors)
        seen = np.bincount(responses.item, minlength=J)
        right = np.bincount(responses.item, responses.score, J) / np.maximum(seen, 1) / (responses.n_categories - 1)
        order = np.lexsort([right, *self.answered])
        smaller = np.zeros(J, dtype=bool)
        smaller[order[anchors[order]][::3]] = True
        return anchors, (self.split(anchors & ~smaller, near), self.split(smaller, near))


def _all_but_items(fit: Calibration) -> bool:
    """Whether what a fit could not determine is copies alone. With guessing, a copy's slope often has no finite maximum
    in a group that hardly knows the item."""
    known = [np.isfinite([group.mean_se, group.sd_se]).all() for group in fit.populations]
    return all(known) and fit.convergence.max_gradient <= _TOLERANCE


def _too_few(n: int, reference: str, focal: str) -> str:
    return (
        f"{n} items have answers enough in group {reference} and {focal}, and {FEWEST_ITEMS} are needed to distinguish"
        f" DIF from a difference in ability. Compare groups that answered the same items"
    )


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
        """Shape (G, J, K); −∞ where an item that is scored 0 and 1 has no guessing, but others have, or no such
        score."""
        found = self.fit.parameters.T.copy()
        found[which(self.fit.models, lambda model: model.logistic and not model.guesses), 2:] = -np.inf
        return found[self.place]

    @property
    def own_slopes(self) -> Mask:
        """Shape (J,): the items that have a slope of their own."""
        return which(self._models, lambda model: model.own_slopes)

    @property
    def scored(self) -> list[OtherItems]:
        """The items whose curves a, b and c do not make up, by their places among J; their parameters say nothing."""
        categories = self.fit.n_categories[self.place.max(axis=0)]
        items = parts(model_of(self._models), self.parameters[0].T, categories)
        return [some for some in items if not some.model.logistic]

    @property
    def _models(self) -> tuple[Model, ...]:
        return tuple(self.fit.models[k] for k in self.place.max(axis=0))

    @property
    def covariance(self) -> Floats:
        """Shape (J, G, K, G, K), of an item's copies. What copies have in common is left out of logit c, and altogether
        where the fit keeps no covariances between items."""
        (G, J), K = self.place.shape, self.fit.cov.shape[1]
        cov = np.zeros((J, G, K, G, K))
        joint = self.fit.joint_cov
        for g in range(G):
            if joint is not None:
                at = self.fit.places_of_parameters[self.place]
                n = at.shape[2]
                for h in range(G):
                    known = (at[g] >= 0)[:, :, None] & (at[h] >= 0)[:, None]
                    cov[:, g, :n, h, :n] = np.where(known, joint[at[g][:, :, None], at[h][:, None]], 0.0)
            cov[:, g, :, g, :] = self._own_covariance[self.place[g]]
        return cov

    @property
    def _own_covariance(self) -> Floats:
        """Shape (n, K, K), the variance over samples: what the prior of c, which copies share and is not evidence,
        seems to say is taken out."""
        cov = self.fit.cov
        if not self.fit.item_model.guesses:
            return cov
        assert GUESSING_PRIOR.c is not None
        said = GUESSING_PRIOR.c.terms(self.fit.parameters[2]).bend
        return cov - said[:, None, None] * cov[:, :, 2:] * cov[:, 2:, :]
