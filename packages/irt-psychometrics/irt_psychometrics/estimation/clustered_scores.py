"""Sums of score products by learner, for clustered errors of fits in which a learner is several persons.

Products by person, which need no responses in memory, are in `score_product_kernels`, the errors in `standard_errors`.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.design import row_starts
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.marginal import Point, Problem

_RESPONSES_AT_ONCE = 20_000


def products_by_learner(
    problem: Problem, point: Point, responses: Responses, persons: Persons, learner: npt.NDArray[np.integer]
) -> Floats:
    """Σ s sᵀ over learners in all F parameters, shape (F, F), with s the sum of the scores of a learner's persons
    (Liang & Zeger 1986). Priors are added as in `Problem.score_products`.

    `responses` are the responses to the items of the problem. `learner` has shape (n_persons,) and numbers from 0.
    """
    s, nodes = problem.structure, problem.grid.nodes
    parameters = s.expand(point.x)[: s.means.start].reshape(s.K, -1)
    categories, model = problem.data.n_categories, s.item_model
    logs = model.log_probabilities(nodes, parameters, categories)
    by_parameters = model.by_parameters(nodes, parameters, categories)
    latent, latent_places = problem.latent.scores_by_place(point.means, point.sds, point.log_weights)
    start = row_starts(responses)
    steps = np.arange(len(by_parameters))
    who, places, values = [], [], []
    for first, last in kernels.cut(np.diff(start) + 1, 1 + responses.n_responses // _RESPONSES_AT_ONCE):
        rows = slice(start[first], start[last])
        item, score = responses.item[rows], responses.score[rows]
        of_person = csr_array((np.ones(item.size), np.arange(item.size), start[first : last + 1] - start[first]))
        group = persons.group[first:last]
        posterior = of_person @ logs[item, :, score] + point.log_weights[group]
        posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
        posterior *= (persons.weight[first:last] / posterior.sum(axis=1))[:, None]
        person = responses.person[rows] - first
        values.append(np.einsum("rq,rpq->rp", posterior[person], by_parameters[:, item, :, score]).ravel())
        places.append((steps * s.n_items + item[:, None]).ravel())
        who.append(np.repeat(learner[person + first], len(steps)))
        values.append(np.einsum("iq,imq->im", posterior, latent[group]).ravel())
        places.append(latent_places[group].ravel())
        who.append(np.repeat(learner[first:last], latent_places.shape[1]))
    shape = (int(learner.max(initial=-1)) + 1, len(s.index))
    scores = coo_array((np.concatenate(values), (np.concatenate(who), np.concatenate(places))), shape=shape).tocsr()
    products: Floats = (scores.T @ scores).toarray()
    return products + problem.prior_products(point)
