"""The marginal likelihood of one data set: value, gradient and information at a parameter vector.

The optimiser is in `optimizer`; the flags of items are in `em`.
"""

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask, block_diagonal
from irt_psychometrics.core.curves import with_asymptote
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import GUESSING_BOUNDS, SLOPE_BOUND, ItemModel
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.priors import ItemTerms, Priors, StepTerms, item_terms
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.latent_distribution import Histograms, NormalGroups
from irt_psychometrics.estimation.likelihood import (
    Categories,
    Curves,
    Expectation,
    Guessing,
    Logistic,
    PartialCredit,
    missing_information,
    missing_information_blocks,
    most_information,
    products_of_posteriors,
    score_products,
    shared_by_differences,
    shared_with_nodes,
)
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import Counts, LaidOutAnswers, ResponseLayout

_MIDDLE = 0.4
"""Upper limit of c when a curve is matched where the probability is one half; a larger c leaves no such point."""
_STEP = 1e-4
"""Step of a parameter for differences of gradients; small compared with every standard error."""
_RIDGE = 1e-9  # relative; a 3PL item's own information is nearly singular without guessing


@dataclass(frozen=True, kw_only=True)
class Point:
    """A parameter vector with the results of one E-step.

    Attributes
    ----------
    x
        The free parameters.
    a, d, c
        Shape (J,), parameters of the items.
    means, sds, log_weights
        Shapes (G,), (G,) and (G, Q), parameters of the latent distributions.
    loglik
        Marginal log-likelihood.
    objective, gradient
        The marginal log-likelihood plus the log density of the priors, and its gradient in x.
    information
        Shape (J, K, K), complete-data information expected over answers, plus the priors' curvature.
    expected
        Results of the E-step for the items.
    latent
        Shape (G, 2, 2), information of a group's mean and log SD.
    """

    x: Floats
    a: Floats
    d: Floats
    c: Floats
    means: Floats
    sds: Floats
    log_weights: Floats
    loglik: float
    objective: float
    gradient: Floats
    information: Floats
    expected: Expectation
    latent: Floats

    @property
    def mass(self) -> Floats:
        """Expected number of persons per group, shape (G,)."""
        return self.expected.mass.sum(axis=1)


class Problem:
    """The marginal likelihood of one data set under one structure, grid and set of priors."""

    def __init__(
        self,
        data: LaidOutAnswers,
        structure: ParameterLayout,
        grid: Grid,
        run: kernels.Run,
        priors: Priors | None = None,
    ) -> None:
        self.data, self.structure, self.grid, self.priors = data, structure, grid, priors or Priors()
        self.run = run
        self._total = data.sums(run)
        self.prior_share = np.zeros((data.n_items, 3))
        for k in range(2):
            self.prior_share[:, k] = structure.index[structure.block(k)] >= 0
        if structure.guessed.any():
            self.prior_share[:, 2] = structure.guessed & (structure.index[structure.block(2)] >= 0)
        self.prior_share[:, 1] = self.prior_share[:, 1] > 0
        if self.priors.only is not None:
            self.prior_share[:, :2] *= self.priors.slopes_held(data.item_ids)[:, None]
        self.latent = (Histograms if structure.n_weights else NormalGroups)(structure, grid)
        alike = structure.common_slopes
        self.prior_share[alike, 0] /= max(self.prior_share[alike, 0].sum(), 1.0)
        self.known_logit_c = self.priors.known_logit_c(data.item_ids)
        self._further_priors = [
            (k := model.parameter_names(2).index(name), at[structure.index[structure.block(k)][at] >= 0], prior)
            for model, at in structure.item_model.places(data.n_items).items()
            for name, prior in model.further_priors
        ]
        self._steps: StepTerms | None = None
        if self.priors.rare_steps is not None and data.counts is not None:
            with_prior = np.isin(data.item_ids, self.priors.rare_steps.items)
            self._steps = StepTerms.rare(data.counts.table, with_prior, structure.K, self.priors.rare_steps.sd)

    def start(self, earlier: Calibration | None = None) -> Floats:
        """Free parameters to start from: latent distributions N(0, 1) and the model's start values.

        If `earlier` (a fit of the same items) is given, the starting curves match its curves at the θ at which an item
        is answered correctly half the time. It is on the scale of the fit's one normal distribution. If the fit has the
        same groups, their distributions are used.
        """
        s = self.structure
        full = np.zeros(len(s.index))
        begin = s.item_model.start(self.data.shares, self.data.n_categories, self.priors)
        full[: begin.size] = begin.ravel()
        full[s.weights] = self.latent.start()
        if earlier is not None:
            self._begin_at(earlier, full)
        return full[s.places]

    def _begin_at(self, earlier: Calibration, full: Floats) -> None:
        s, J = self.structure, self.structure.n_items
        if s.n_groups > 1 and len(earlier.populations) == s.n_groups:
            unit = earlier
            full[s.means] = [group.mean for group in earlier.populations]
            full[s.log_sds] = [np.log(group.sd) for group in earlier.populations]
        elif s.item_model.fixed_slopes:
            full[s.log_sds] = np.log(earlier.latent_sd)
            unit = earlier
        else:
            unit = earlier.rescaled(1 / earlier.latent_sd, -earlier.latent_mean / earlier.latent_sd)
        known = unit.estimated
        before, c = np.minimum(unit.c, _MIDDLE), np.zeros(J)
        if s.item_model.has_parameter("c"):
            guessed = known & unit.item_model.guessed(J)
            full[s.block(2)][guessed] = logit(before[guessed])
            c = np.minimum(self.curves(full).c, _MIDDLE)
        a, d = with_asymptote(unit.a, unit.d, before, c)
        if not s.item_model.own_slopes:
            common = a[known].mean() if s.common_slopes.any() else 1.0
            d *= np.sqrt((1 + (common / 1.7) ** 2) / (1 + (a / 1.7) ** 2))
            a = np.full(J, common)
        full[s.block(0)][known], full[s.block(1)][known] = a[known], d[known]
        if unit.further is not None and unit.item_model == s.item_model:
            further, begin = unit.parameters[2:], full[2 * J : s.means.start].reshape(s.K - 2, J)
            begin[:] = np.where(known & np.isfinite(begin) & np.isfinite(further), further, begin)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds of x."""
        return self.structure.bounds

    @property
    def n_before_weights(self) -> int:
        """Number of parameters in x before the weights of histograms."""
        return self.structure.n_before_weights

    @property
    def memory(self) -> int:
        """Number of steps that the ascent remembers."""
        return self.latent.memory

    @property
    def histograms(self) -> Histograms:
        """The latent distribution of a fit with histograms."""
        assert isinstance(self.latent, Histograms)
        return self.latent

    def curves(self, full: Floats) -> Curves:
        """The items' curves at all F parameters."""
        if self.data.counts is None:
            return self._logistic(full)
        s = self.structure
        parameters = full[: s.means.start].reshape(s.K, -1)
        if s.item_model.path == "scores":
            return PartialCredit(self.data, self.grid.nodes, parameters, s.listed_at)
        return Categories(self.data, self.grid.nodes, s.item_model, parameters, s.listed_at)

    def _logistic(self, full: Floats) -> Logistic | Guessing:
        s, theta = self.structure, self.grid.nodes
        a, d = full[s.block(0)], full[s.block(1)]
        return Guessing(self.data, theta, a, d, full[s.block(2)]) if s.guessing else Logistic(self.data, theta, a, d)

    def evaluate(self, x: Floats) -> Point:
        """One E-step over all persons."""
        s = self.structure
        full = s.expand(x)
        means, sds = full[s.means], np.exp(full[s.log_sds])
        log_weights, curves = self.latent.log_weights(full), self.curves(full)
        found = curves.expect(self._total, log_weights)
        self.data.report_loglik(found.loglik)
        persons = found.mass.sum(axis=1)
        scores = self.latent.scores(means, sds, log_weights)
        latent_gradient = np.einsum("mgq,gq->mg", scores, found.mass)
        spread = np.einsum("mgq,ngq,gq->gmn", scores, scores, np.exp(log_weights)) * persons[:, None, None]
        penalty, weight_gradient = self.latent.penalty(log_weights, found.mass)
        terms = self.prior_terms(full)
        full_gradient = np.concatenate(
            [(found.gradient + terms.gradient).ravel(), latent_gradient.ravel(), weight_gradient.ravel()]
        )
        return Point(
            x=x,
            a=full[s.block(0)],
            d=full[s.block(1)],
            c=curves.c,
            means=means,
            sds=sds,
            log_weights=log_weights,
            loglik=found.loglik,
            objective=found.loglik + float(terms.value.sum()) - penalty,
            gradient=s.gather(full_gradient),
            information=found.information + terms.curvature,
            expected=found,
            latent=spread,
        )

    def narrowest_posterior(self, x: Floats) -> float:
        """Approximate SD of the narrowest posterior: of the person with the most information, at the best θ of the
        populations.

        Slopes at their bound are left out, because all the information of such an item is at one point.
        """
        s, nodes = self.structure, self.grid.nodes
        full = s.expand(x)
        means, sds = full[s.means], np.exp(full[s.log_sds])
        peopled = (np.abs(nodes - means[:, None]) <= 3 * sds[:, None]).any(axis=0)
        parameters = full[: s.means.start].reshape(s.K, -1)
        information = s.item_model.information(nodes[peopled], parameters, self.data.n_categories)
        information[np.abs(parameters[0]) >= SLOPE_BOUND] = 0.0
        return float(1 / np.sqrt(1 / sds.max() ** 2 + most_information(information, self._total)))

    def prior_terms(self, full: Floats) -> ItemTerms:
        s = self.structure
        logit_c = np.where(s.guessed, full[s.block(2)], 0.0) if s.guessed.any() else np.zeros(s.n_items)
        a, d = full[s.block(0)], full[s.block(1)]
        terms = item_terms(self.priors, a, d, logit_c, self.prior_share, s.K, self.known_logit_c)
        for k, at, prior in self._further_priors:
            terms.add(k, at, prior.terms(full[s.block(k)][at]))
        if self._steps is None:
            return terms
        return self._steps.add_to(terms, full[: s.means.start].reshape(s.K, -1))

    def observed_information(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in all parameters except the weights of histograms, which count as known.

        The order is that of `ParameterLayout.listed`. The method is Louis' (1982).
        """
        s, G, listed_at = self.structure, self.structure.n_groups, self.structure.listed_at
        curves = self.curves(s.expand(point.x))
        latent = self.latent.scores(point.means, point.sds, point.log_weights)
        information = -missing_information(curves, self._total, point.log_weights, latent)
        curvature = self._curvature(point)
        for k in range(s.K):
            for m in range(s.K):
                own = (listed_at[k] >= 0) & (listed_at[m] >= 0)
                information[listed_at[k][own], listed_at[m][own]] += curvature[own, k, m]
        groups = len(s.listed) - 2 * G + np.arange(G)
        for k in range(2):
            for m in range(2):
                information[groups + k * G, groups + m * G] += point.latent[:, k, m]
        return information

    def gradient_differences(self, point: Point, places: Ints) -> Floats:
        """Minus the derivatives of the gradient with respect to the parameters at these P places of x, shape (size, P).

        Each place costs two E-steps.
        """
        columns = []
        for place in places:
            step = np.zeros_like(point.x)
            step[place] = _STEP
            down, up = (self.evaluate(point.x + move).gradient for move in (-step, step))
            columns.append((down - up) / (2 * _STEP))
        return np.stack(columns, axis=1)

    def _curvature(self, point: Point) -> Floats:
        """Complete-data information given the answers, minus the Hessian of the log priors, shape (J, K, K)."""
        full = self.structure.expand(point.x)
        return self.curves(full).curvature(point.expected) + self.prior_terms(full).hessian

    def latent_information(self, point: Point, scores: Floats) -> tuple[Floats, Floats]:
        """Information of M parameters of the groups' densities, with these scores (G, M, Q).

        Returns the information shared with a, d (and logit c) of the items, (KJ, G, M), from differences of gradients,
        and the sum of products of the persons' scores, (G, M, M).
        """
        curves = self.curves(self.structure.expand(point.x))
        shared = shared_by_differences(curves, self._total, point.log_weights, scores)
        products = products_of_posteriors(curves, self._total, point.log_weights)
        return shared.reshape(-1, *scores.shape[:2]), scores @ products @ scores.transpose(0, 2, 1)

    def score_products(self, point: Point) -> Floats:
        """Σ s sᵀ of the learners' scores in all F parameters, shape (F, F), plus `prior_products`.

        Rows and columns of means and SDs are 0 if there are histograms.
        """
        s, items = self.structure, self.structure.means.start
        latent, places = self.latent.scores_by_place(point.means, point.sds, point.log_weights)
        places = np.concatenate([np.arange(items), places.ravel()])
        found, full = np.zeros((len(s.index), len(s.index))), s.expand(point.x)
        found[np.ix_(places, places)] = score_products(self._logistic(full), self._total, point.log_weights, latent)
        return found + self.prior_products(point)

    def prior_products(self, point: Point) -> Floats:
        """Information of the priors on the items' parameters, treated like answers, shape (F, F)."""
        s = self.structure
        found = np.zeros((len(s.index), len(s.index)))
        own = np.arange(s.K)[:, None] * s.n_items + np.arange(s.n_items)
        found[own[:, None], own] = self.prior_terms(s.expand(point.x)).hessian.transpose(1, 2, 0)
        return found

    def information_with_weights(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in the parameters of `listed` and the weights of histograms."""
        s, before = self.structure, len(self.structure.listed)
        shared = shared_with_nodes(self.curves(s.expand(point.x)), self._total, point.log_weights)
        items = np.arange(before - 2 * s.n_groups)
        size = before + s.n_groups * s.n_weights
        full = np.zeros((size, size))
        full[:before, :before] = self.observed_information(point)
        full[items, before:] = shared.reshape(len(shared), -1)[s.listed[items]]
        full[before:, items] = full[items, before:].T
        full[before:, before:] = block_diagonal(*self.information_of_weights(point))
        return full

    def information_of_weights(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in each group's log weights, shape (G, Q, Q), with the items known."""
        curves = self.curves(self.structure.expand(point.x))
        products = products_of_posteriors(curves, self._total, point.log_weights)
        return self.histograms.observed_information(products, point.log_weights, point.expected.mass)

    def observed_blocks(self, point: Point) -> Floats:
        """Own block of `observed_information` of each item, shape (J, K, K)."""
        curves = self.curves(self.structure.expand(point.x))
        return self._curvature(point) - missing_information_blocks(curves, self._total, point.log_weights)

    def precondition(self, point: Point, gradient: Floats, frozen: Mask) -> Floats:
        """The EM gradient step: complete-data information⁻¹ · gradient, with the frozen parameters held."""
        s, J, K, G = self.structure, self.structure.n_items, self.structure.K, self.structure.n_groups
        free = (s.index >= 0) & ~frozen[s.index]
        full = np.where(free, gradient[s.index], 0.0)
        step = np.zeros_like(full)
        own = free[: K * J].reshape(K, J).T.copy()
        using = s.common_slopes if s.steps_of is None else np.zeros(J, dtype=bool)
        shared = using.any() and not frozen[s.common_place]
        own[using, 0] = False
        matrix = hold_parameters(point.information, own)
        sides = np.where(own, full[: K * J].reshape(K, J).T, 0.0)[:, :, None]
        if shared:
            coupling = np.where(own & using[:, None], point.information[:, :, 0], 0.0)[:, :, None]
            solved = np.linalg.solve(matrix, np.concatenate([sides, coupling], axis=2))
            schur = point.information[using, 0, 0].sum() - np.sum(coupling[:, :, 0] * solved[:, :, 1])
            slope = (gradient[s.common_place] - np.sum(coupling[:, :, 0] * solved[:, :, 0])) / schur
            items = solved[:, :, 0] - slope * solved[:, :, 1]
            items[using, 0] = slope
        else:
            items = np.linalg.solve(matrix, sides)[:, :, 0]
        if s.steps_of is not None:
            items = self._with_shared_steps(point, gradient, free[: K * J].reshape(K, J).T)
        step[: K * J] = items.T.ravel()
        latent = free[K * J : s.log_sds.stop].reshape(2, G).T
        side = full[K * J : s.log_sds.stop].reshape(2, G).T
        if latent.any():
            solved = np.linalg.solve(hold_parameters(point.latent, latent), np.where(latent, side, 0.0)[:, :, None])
            step[K * J : s.log_sds.stop] = solved[:, :, 0].T.ravel()
        step[s.weights] = self.latent.newton_step(full[s.weights], point.log_weights, point.expected.mass)
        return step[s.places]

    def _with_shared_steps(self, point: Point, gradient: Floats, free: Mask) -> Floats:
        """EM gradient step of the items' parameters, shape (J, K), if blocks of items share some of them."""
        s = self.structure
        index = s.index[: s.K * s.n_items].reshape(s.K, -1).T
        users = np.bincount(index[index >= 0], minlength=s.size)
        shared = free & (users[index] > 1)
        own = free & ~shared
        places = np.unique(index[shared])
        chosen = (shared[:, :, None] & (index[:, :, None] == places)).astype(float)
        by_shared = np.einsum("jkm,jms->jks", point.information, chosen)
        coupling = np.where(own[:, :, None], by_shared, 0.0)
        sides = np.where(own, gradient[index], 0.0)[:, :, None]
        solved = np.linalg.solve(hold_parameters(point.information, own), np.concatenate([sides, coupling], axis=2))
        schur = np.einsum("jks,jkt->st", chosen, by_shared) - np.einsum("jks,jkt->st", coupling, solved[:, :, 1:])
        moved = np.linalg.solve(schur, gradient[places] - np.einsum("jks,jk->s", coupling, solved[:, :, 0]))
        return np.where(own, solved[:, :, 0] - solved[:, :, 1:] @ moved, 0.0) + chosen @ moved

    def information_scale(self, point: Point) -> Floats:
        """Square root of the diagonal of the complete-data information of the free parameters, shape (size,)."""
        s = self.structure
        diagonal = np.concatenate(
            [
                np.einsum("jkk->kj", point.information).ravel(),
                np.einsum("gkk->kg", point.latent).ravel(),
                self.latent.information_scale(point.log_weights, point.expected.mass).ravel(),
            ]
        )
        return np.sqrt(np.maximum(s.gather(diagonal), 1e-300))


def hold_parameters(matrix: Floats, free: Mask) -> Floats:
    """The blocks (J, K, K) with unit rows and columns for parameters that are not `free` (J, K), plus a ridge."""
    K = matrix.shape[-1]
    diagonal = np.einsum("jkk->jk", matrix)
    out = np.where(free[:, :, None] & free[:, None, :], matrix, 0.0)
    out[:, np.arange(K), np.arange(K)] = np.where(free, diagonal * (1 + _RIDGE) + 1e-12, 1.0)
    return out


def largest_scaled_gradient(
    responses: Responses,
    model: ItemModel,
    curves: ItemCurves,
    *,
    latent_mean: float,
    latent_sd: float,
    given: ItemCurves,
    priors: Priors,
    further: Floats | None = None,
) -> tuple[float, str]:
    """Return the largest gradient of the log-likelihood (and log prior) in a free parameter, and the parameter's owner.

    The gradient is in the units of `fit_em`: multiplied by the parameter's standard error as if abilities were known.
    It is 1 for a parameter that is off by about one such error.

    Parameters
    ----------
    responses, model
        Responses to J items, and the items' model.
    curves
        Curves of the items, by a, d and c alone.
    latent_mean, latent_sd
        Mean and SD of θ.
    given
        Curves of the held items.
    priors
        Priors on a, b and c.
    further
        Shape (J, C), t of items with more than two scores.

    Returns
    -------
    float, str
        The gradient, and "item …" or "the ability distribution".
    """
    J = responses.n_items
    structure = ParameterLayout.from_model(model, J, given=given)
    more = logit(np.clip(curves.c, *GUESSING_BOUNDS))[: J * (structure.K - 2)]
    if further is not None:
        scores = Counts.from_responses(responses, np.ones(responses.n_persons)).table > 0
        structure = ParameterLayout.from_model(
            model, J, given=given, categories=responses.n_categories, given_scores=scores
        )
        more = further.T.ravel()
    data = ResponseLayout.from_responses(responses, anchored=given.known, by_category=model.path != "logistic")
    reach = max(6.0, float(np.ceil(abs(latent_mean) + 5 * latent_sd)))
    full = np.concatenate([curves.a, curves.d, more, [latent_mean, np.log(latent_sd)]])
    with kernels.runner(None) as run:
        problem = Problem(data, structure, Grid.symmetric(1 + round(10 * reach), reach), run, priors)
        point = problem.evaluate(full[structure.places])
        gradient = np.abs(point.gradient) / problem.information_scale(point)
    worst = int(np.argmax(gradient))
    place = int(np.flatnonzero(structure.index == worst)[0])
    item = place < structure.means.start
    return float(gradient[worst]), f"item {responses.item_ids[place % J]}" if item else "the ability distribution"
