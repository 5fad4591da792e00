"""Testlets of a scale: reading them from the bank, and the effects estimated with a fit."""

from collections.abc import Mapping, Sequence

import psycopg

from irt_assets.ledger.fit_spec import Testlets
from irt_psychometrics import Calibration, Responses
from irt_psychometrics.estimation import estimate_effect_sd


def bank_testlets(connection: psycopg.Connection, scale_id: str) -> dict[str, str]:
    """Return item → testlet for the scale's items that belong to a testlet."""
    rows = connection.execute(
        """SELECT item_id, testlet_id FROM question
           WHERE scale_id = %s AND btrim(testlet_id) <> '' ORDER BY item_id""",
        (scale_id,),
    ).fetchall()
    return dict(rows)


def effects_spec(
    responses: Responses, calibration: Calibration, testlets: Mapping[str, str], groups: Sequence[str] | None
) -> Testlets | None:
    """SD of testlet effects in the fit's units, for the fit's spec, or the reason why it cannot be estimated.

    Returns None if the bank has no testlets, or if the fit did not converge.
    """
    if not testlets or not calibration.convergence.converged:
        return None
    if calibration.item_model.path != "logistic":
        why = "effects of testlets are not estimated if items have more scores than right and wrong"
        return Testlets(sd=None, se=None, n_testlets=0, n_items=0, learners=0, of=dict(testlets), why=why)
    found = estimate_effect_sd(responses, calibration, testlets, groups=groups)
    return Testlets(**found.as_dict(), of=dict(testlets))


def testlet_sentence(found: Testlets) -> str:
    """The result of `effects_spec` as a sentence."""
    if found.sd is None:
        return f"this month does not correct standard errors of θ for testlets: {found.why}"
    return (
        f"answers in a testlet share an effect of the learner with SD {found.sd:.3f} ± {found.se:.3f} "
        f"({found.n_testlets} testlets with {found.n_items} items, {found.learners:,} learners)"
    )
