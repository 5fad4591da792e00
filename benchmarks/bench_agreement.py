"""Differences between two correct engines on the same answers, from which the limits of `engine_agreement` were chosen.

    python -m benchmarks.bench_agreement [--replications 20] [--sizes 500x15 500x40 1000x30 2000x40]

Each replication draws a 2PL (a ~ LogNormal(0, 0.3), b ~ N(0, 1), a cohort N(0.2, 1.1²)), fits it by em and by pymc,
links both to the same anchors (a third of the items, known with errors of 0.1) and compares them as a month does.
Prints the median and maximum, over replications, of the largest difference of an item and of the root mean square
difference, in standard errors. If differences are much larger, one of the engines is wrong.
"""

from __future__ import annotations

import argparse

import numpy as np

from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.gates.agreement import Agreement, compare
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.scales.rules import Rules
from irt_psychometrics.core.items import ItemRow
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.made_anchors import anchor_set_of

ANCHOR_SE = 0.1


def one(n_persons: int, n_items: int, rng: np.random.Generator) -> Agreement | None:
    """Compare both engines on a simulated month. Returns None if it cannot be linked to the anchors."""
    a, b = rng.lognormal(0, 0.3, n_items), rng.normal(size=n_items)
    theta = rng.normal(0.2, 1.1, n_persons)
    p = 1 / (1 + np.exp(-a * (theta[:, None] - b)))
    responses = Responses.from_wide((rng.random(p.shape) < p).astype(float))
    K = max(6, n_items // 3)
    anchors = anchor_set_of(
        scale_id="simulated",
        version="1",
        item_ids=responses.item_ids[:K],
        a=a[:K] * np.exp(ANCHOR_SE * rng.normal(size=K)),
        b=b[:K] + ANCHOR_SE * rng.normal(size=K),
        c=np.zeros(K),
        a_se=ANCHOR_SE * a[:K],
        b_se=np.full(K, ANCHOR_SE),
        cov_ab=np.zeros(K),
        topics=(None,) * K,
        errors_assumed=np.zeros(K, dtype=bool),
    )
    em = fit_em(responses, model="2pl")
    pymc = PymcEngine().calibrate(responses, model="2pl", data_hash="")
    try:
        first, second = (link_to_anchors(fit, anchors).transform(fit) for fit in (em, pymc))
    except LinkingError:
        return None
    return compare(("em", "pymc"), items_of(first), items_of(second), Rules.from_settings({"min_responses": 1}))


def items_of(fit: Calibration) -> dict[str, FittedItem]:
    return {
        item: FittedItem(
            ItemRow(fit.a[j], fit.b[j], a_se=fit.a_se[j], b_se=fit.b_se[j]), int(fit.n[j]), fit.flags[j], {}
        )
        for j, item in enumerate(fit.item_ids)
        if np.isfinite([fit.a_se[j], fit.b_se[j]]).all()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--sizes", nargs="+", default=["500x15", "500x40", "1000x30", "2000x40"])
    arguments = parser.parse_args()
    rng = np.random.default_rng(7)
    print("| learners × items | parameter | sets | correlation ≥ | RMSD ≤ | worst item (SE) | all items (SE) |")
    print("|---|---|--:|--:|--:|---|---|")
    for size in arguments.sizes:
        n_persons, n_items = (int(part) for part in size.split("x"))
        pairs = [pair for _ in range(arguments.replications) if (pair := one(n_persons, n_items, rng)) is not None]
        for name in ("a", "b"):
            of = [getattr(pair, name) for pair in pairs]
            worst, rms = [e.apart.max() for e in of], [e.rms_apart for e in of]
            print(
                f"| {n_persons} × {n_items} | {name} | {len(of)} | {min(e.correlation for e in of):.3f} "
                f"| {max(e.rmsd for e in of):.3f} | {np.median(worst):.2f}, at most {max(worst):.2f} "
                f"| {np.median(rms):.2f}, at most {max(rms):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
