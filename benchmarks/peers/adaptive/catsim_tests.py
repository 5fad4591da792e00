"""Simulate adaptive tests with `catsim`: catsim_tests.py FILE.npz LENGTH. Prints a line of JSON."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from catsim.estimation import NumericalSearchEstimator
from catsim.initialization import FixedPointInitializer
from catsim.item_bank import ItemBank
from catsim.selection import MaxInfoSelector
from catsim.simulation import Simulator
from catsim.stopping import TestLengthStopper

world, length = np.load(sys.argv[1]), int(sys.argv[2])
items = np.column_stack([world["a"], world["b"], np.zeros_like(world["a"]), np.ones_like(world["a"])])
simulator = Simulator(
    ItemBank(items),
    world["theta"],
    FixedPointInitializer(0.0),
    MaxInfoSelector(),
    NumericalSearchEstimator(),
    TestLengthStopper(max_items=length),
)
begun = time.process_time()
simulator.simulate()
seconds = time.process_time() - begun
theta = np.asarray(simulator.latest_estimations, dtype=float).tolist()
print(json.dumps({"version": version("catsim"), "estimator": "ML", "seconds": seconds, "theta": theta}))
