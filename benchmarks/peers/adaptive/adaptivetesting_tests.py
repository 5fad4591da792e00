"""Simulate adaptive tests with `adaptivetesting`: adaptivetesting_tests.py FILE.npz LENGTH. Prints a line of JSON."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from adaptivetesting.implementations import TestAssembler
from adaptivetesting.math.estimators import ExpectedAPosteriori, NormalPrior
from adaptivetesting.models import ItemPool, ResultOutputFormat, StoppingCriterion, TestItem
from adaptivetesting.simulation import Simulation


def item(number: int, a: float, b: float) -> TestItem:
    found = TestItem()
    found.id, found.a, found.b, found.c, found.d = number, a, b, 0.0, 1.0
    return found


world, length = np.load(sys.argv[1]), int(sys.argv[2])
theta = []
begun = time.process_time()
for number, answers in enumerate(world["x"].tolist()):
    items = [item(k, a, b) for k, (a, b) in enumerate(zip(world["a"].tolist(), world["b"].tolist(), strict=True))]
    test = TestAssembler(
        ItemPool(items, simulated_responses=answers),
        "simulation",
        str(number),
        ExpectedAPosteriori,
        {"prior": NormalPrior(0, 1), "optimization_interval": (-6, 6)},
    )
    Simulation(test, ResultOutputFormat.CSV).simulate(StoppingCriterion.LENGTH, length)
    theta.append(float(test.ability_level))
seconds = time.process_time() - begun
print(json.dumps({"version": version("adaptivetesting"), "estimator": "EAP", "seconds": seconds, "theta": theta}))
