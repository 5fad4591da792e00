"""Items split by group in one fit of several groups: an item's parameters in each group, on one scale.

This module creates the responses with a copy of an item for each group, fits them, and finds the anchors. wald.py tests
the copies; analysis.py selects the groups.

In a fit of several groups (`fit_em(groups=)`), items are equal across groups. The groups' means and SDs of θ are free,
except the reference's. A split item is in this fit once for each group, and only that group answers its copy. So the
copies' parameters and their joint covariance are maximum likelihood estimates under the assumption that the unsplit
items, the anchors, are equal (Langer 2008; the algorithm Wald-1 of Woods, Cai & Wang 2013). There are two fits. Both
split all items that are not anchors. The first fit also splits the smaller part of the anchors, and the second fit
splits the larger part, so each anchor is tested while other anchors determine the scale. Items that are not anchors
are tested in the first fit.

**Anchors** are found from fits of each group alone. They are the items that agree with one line between the groups'
scales. The line and the anchors are estimated alternately, beginning with the medians of all items (Lord 1980; Candell
& Drasgow 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.alignment.common_line import invariant
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.category_changes import score_counts
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import OtherItems, items_where, model_of, parts
from irt_psychometrics.core.model_families import LOGIT_C
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Latent, Model
from irt_psychometrics.core.priors import GUESSING_PRIOR
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import MIN_LEARNERS
from irt_psychometrics.linking.criteria import AnchorPairs, medians

MIN_ITEMS = 4
ANCHOR_P = 0.05
"""An item whose p for any group is below this is not an anchor. But at least half of the items are anchors, because DIF
is defined relative to the majority of items. This level excludes a twentieth of the items without DIF, at hardly any
cost."""
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Groups:
    """Answers of G groups to J items.

    Attributes:
        responses: responses of the groups' learners to items that their group answered often enough.
        names: G names, the reference first.
        member: shape (n_persons,), index of each learner's group.
        answered: shape (G, J), whether a group answered an item often enough.
        models: models of the J items.
        latent: shape of the groups' θ distribution.
        threads: number of threads of the fits; None for one per processor.
    """

    responses: Responses
    names: tuple[str, ...]
    member: Ints
    answered: Mask
    models: tuple[Model, ...]
    latent: Latent
    threads: int | None

    @classmethod
    def from_responses(
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
        """Select the groups' responses. `member` is below 0 for learners in no group."""
        group = member[responses.person]
        rows = np.flatnonzero((group >= 0) & answered[group, responses.item])
        rows = rows[np.argsort(group[rows], kind="stable")]  # uses the copies of a group one after another
        first = np.diff(responses.person[rows], prepend=-1) != 0
        person = np.cumsum(first, dtype=np.int32) - 1
        own = Responses(
            person, responses.item[rows], responses.score[rows], int(first.sum()), responses.item_ids,
            responses.categories,
        )  # fmt: skip
        shape: Latent = latent if np.sum(member == 0) >= MIN_LEARNERS else "normal"
        return cls(own, tuple(names), group[rows[first]], answered, models, shape, threads)

    @property
    def sizes(self) -> Ints:
        return np.bincount(self.member, minlength=len(self.names))

    @property
    def score_counts(self) -> Ints:
        """Number of answers of each group to each item with each score, shape (G, J, C)."""
        rows = self.member[self.responses.person]
        return np.stack([score_counts(self.responses, rows == g) for g in range(len(self.names))])

    def fit_separately(self) -> tuple[Mask, Copies]:
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
            if len(both) < MIN_ITEMS:
                raise PsychometricsError(_too_few(len(both), self.names[0], name))
            new, old = fit.select(both), fits[0].select(both)
            pairs = AnchorPairs(new.items, old.items, new.models)
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

    def fit_split(self, held: Mask, near: Copies) -> Copies:
        """Fit the groups with all items split except those in `held` (J,), starting from the parameters in `near`.

        Raises PsychometricsError if the fit does not converge.
        """
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
            groups=np.array([f"{g:09d}" for g in range(len(self.names))])[self.member].tolist(),
            reference=f"{0:09d}",
            model=[self.models[j] for j in item],
            latent=self.latent,
            threads=self.threads,
            tolerance=_TOLERANCE,
            prior_on_rare_steps=False,
            start=replace(near.fit.select(near.place[group, item]), item_ids=ids),
        )
        if not (fit.convergence.converged or (model_of(self.models).has_parameter("c") and _all_but_items(fit))):
            raise PsychometricsError(f"their fit did not converge: {fit.convergence.reason}")
        return Copies(fit, place)

    def fit_halves(self) -> tuple[Mask, tuple[Copies, Copies]]:
        """The anchors, shape (J,), and the two fits, in each of which one part of the anchors determines the scale.

        The parts have similar difficulties and were seen by the same groups. Raises PsychometricsError if a group
        shares too few items with the reference, or if a fit fails.
        """
        shared = int((self.answered[0] & self.answered[1:]).sum(axis=1).min())
        if shared < MIN_ITEMS:
            raise PsychometricsError(_too_few(shared, self.names[0], "another"))
        anchors, near = self.fit_separately()
        responses, J = self.responses, len(anchors)
        seen = np.bincount(responses.item, minlength=J)
        right = np.bincount(responses.item, responses.score, J) / np.maximum(seen, 1) / (responses.n_categories - 1)
        order = np.lexsort([right, *self.answered])
        smaller = np.zeros(J, dtype=bool)
        smaller[order[anchors[order]][::3]] = True
        return anchors, (self.fit_split(anchors & ~smaller, near), self.fit_split(smaller, near))


def _all_but_items(fit: Calibration) -> bool:
    """Whether a fit determined everything except some copies.

    With guessing, the slope of a copy often has no finite maximum in a group that hardly knows the item.
    """
    known = [np.isfinite([group.mean_se, group.sd_se]).all() for group in fit.populations]
    return all(known) and fit.convergence.max_gradient <= _TOLERANCE


def _too_few(n: int, reference: str, focal: str) -> str:
    return (
        f"{n} items have enough answers in the groups {reference} and {focal}, and {MIN_ITEMS} are needed to"
        f" distinguish DIF from a difference in ability. Compare groups that answered the same items"
    )


@dataclass(frozen=True)
class Copies:
    """A fit with split items.

    Attributes:
        fit: the fit.
        place: shape (G, J), index of each group's copy of an item in the fit; −1 if the group did not answer it often
            enough. An unsplit item has the same index in all groups.
    """

    fit: Calibration
    place: Ints

    @property
    def estimated(self) -> Mask:
        """Whether a copy has a finite error, shape (G, J)."""
        sound = np.isfinite(self.fit.cov).all(axis=(1, 2)) & (self.fit.cov[:, 1, 1] > 0)
        return (self.place >= 0) & sound[self.place]

    def missing_estimates(self, g: int) -> dict[int, str]:
        """Reasons why copies of group `g` have no estimate or no error, by index of the item."""
        missing = np.flatnonzero((self.place[g] >= 0) & ~self.estimated[g])
        flags = {int(j): self.fit.flags[self.place[g, j]] for j in missing}
        unknown = "its errors could not be estimated"
        return {j: "; ".join(flag.explanation for flag in own) or unknown for j, own in flags.items()}

    @property
    def parameters(self) -> Floats:
        """Parameters of the copies, shape (G, J, K); −∞ for a parameter that the item does not have: logit c without
        guessing, or t of a score that does not exist."""
        found = self.fit.parameters.T.copy()
        found[~self.fit.item_model.has(self.fit.n_categories).T] = -np.inf
        return found[self.place]

    @property
    def own_slopes(self) -> Mask:
        """Whether an item has its own slope, shape (J,)."""
        return items_where(self._models, lambda model: model.own_slopes)

    @property
    def scored(self) -> list[OtherItems]:
        """The items whose curves are not logistic, with their indices among the J items. Their parameters are
        placeholders."""
        categories = self.fit.n_categories[self.place.max(axis=0)]
        items = parts(model_of(self._models), self.parameters[0].T, categories)
        return [some for some in items if some.model.path != "logistic"]

    @property
    def _models(self) -> tuple[Model, ...]:
        return tuple(self.fit.models[k] for k in self.place.max(axis=0))

    @property
    def covariance(self) -> Floats:
        """Covariance of an item's copies, shape (J, G, K, G, K).

        Covariances between copies are 0 for logit c, and for all parameters if the fit has no joint covariance.
        """
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
        """Covariance of each copy over samples, shape (n, K, K).

        It excludes the information in the priors of c and of other parameters, because the copies share these priors
        and they are not evidence about a difference between the copies.
        """
        cov, parameters, assumed = self.fit.cov, self.fit.parameters, GUESSING_PRIOR.c
        assert assumed is not None
        bend = np.zeros(cov.shape[:2])
        for model, at in self.fit.item_model.places(len(cov)).items():
            names = model.parameter_names(2)
            of_c = ((LOGIT_C, assumed),) if LOGIT_C in names else ()
            for name, prior in (*of_c, *model.further_priors):
                bend[at, names.index(name)] = prior.terms(parameters[names.index(name), at]).bend
        return cov - cov @ (bend[:, :, None] * cov)
