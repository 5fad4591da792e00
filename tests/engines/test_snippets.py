"""Every Python snippet of a page runs, given the names that its reader has defined.

The snippets of the tutorial pages and docs/reference/kpis.md need a log and run in tests/integration.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from irt_assets.engines.em import EmEngine
from irt_psychometrics.drift import Comparison, Published
from irt_psychometrics.items import ItemModel, LogitNormal
from irt_psychometrics.linking import link_to_anchors
from irt_psychometrics.responses import Responses
from psychometrics_testbed.drift_worlds import anchor_set
from tests.helpers.written_commands import ROOT, fenced_blocks

FIT, PYMC = "docs/explanation/fit.md", "docs/reference/pymc.md"
LIBRARY = "packages/irt-psychometrics/README.md"
SAMPLES = [pytest.mark.long, pytest.mark.timeout(900)]
IN_INTEGRATION = {
    "docs/tutorial/letters.md", "docs/tutorial/essays.md", "docs/tutorial/own-log.md", "docs/tutorial/second-scale.md",
    "docs/reference/kpis.md", "docs/how-to/adaptive-sessions.md", "docs/library/adaptive.md",
}  # fmt: skip
RUN_BY_ITS_GENERATOR = {"docs/library/gallery.md"}
CALL = re.compile(r"`(\w+)\(([^`]*)\)`")


def snippets(page: str) -> list[str]:
    return [block for language, block in fenced_blocks((ROOT / page).read_text("utf-8")) if language == "python"]


def answers(n: int, item_ids: tuple[str, ...]) -> Responses:
    rng = np.random.default_rng(7)
    theta, b = rng.normal(size=(n, 1)), np.linspace(-1.5, 1.5, len(item_ids))
    return Responses.from_wide((rng.random((n, b.size)) < 1 / (1 + np.exp(b - theta))).astype(float), item_ids)


def a_month_compared() -> dict[str, Any]:
    """Link a window's fit to anchors, and compare it with their published values. The anchors are from the same fit."""
    fit = EmEngine(1).calibrate(answers(600, tuple(f"q{j}" for j in range(12))), model="2pl")
    anchors = anchor_set(fit.a, fit.b, fit.cov_ab)
    anchors = type(anchors)(**vars(anchors) | {"item_ids": fit.item_ids})
    linking = link_to_anchors(fit, anchors)
    found = Comparison.from_linked_fit(fit, linking, anchors, Published.from_anchors(anchors))
    return {"drift": SimpleNamespace(comparison=found), "parameters": found.window}


def a_short_chain() -> dict[str, Any]:
    """Return few answers, because sampling takes minutes with the page's settings."""
    if find_spec("pymc") is None:
        pytest.skip("PyMC (make venv EXTRAS=bayes)")
    return {"responses": answers(100, ("q0", "q1", "q2")), "anchors": None, "np": np}


def choices_of_persons() -> dict[str, Any]:
    """Options of 300 persons: the key of each of six questions is A, and stronger persons choose it more often."""
    rng = np.random.default_rng(3)
    utility = rng.gumbel(size=(300, 6, 3))
    utility[:, :, 0] += rng.normal(size=(300, 1))
    items = [f"q{j}" for j in range(6)]
    chosen = np.array(["A", "B", "C"])[utility.argmax(axis=2)]
    return {"choices": dict(zip(items, chosen.T.tolist(), strict=True)), "key": dict.fromkeys(items, "A")}


def responses_by_two_abilities() -> dict[str, Any]:
    """Responses of 600 persons to twelve items, six for each of two abilities."""
    rng = np.random.default_rng(4)
    z = 1.5 * rng.normal(size=(600, 2)).repeat(6, axis=1) + np.tile(np.linspace(-1, 1, 6), 2)
    return {"sat12": Responses.from_wide((z > rng.logistic(size=z.shape)).astype(float))}


READERS_HAVE: dict[str, Callable[[], dict[str, Any]]] = {
    FIT: dict,
    "docs/explanation/architecture.md": lambda: {"ItemModel": ItemModel, "LogitNormal": LogitNormal, "logit": logit},
    "docs/explanation/information.md": a_month_compared,
    "docs/how-to/answers-by-http.md": dict,
    "docs/how-to/session-hook.md": dict,
    "docs/library/equating.md": dict,
    "docs/library/group-differences.md": dict,
    "docs/library/index.md": dict,
    "docs/library/models.md": choices_of_persons,
    "docs/library/new-items.md": dict,
    "docs/library/plausible-values.md": dict,
    "docs/library/several-abilities.md": responses_by_two_abilities,
    LIBRARY: dict,
    PYMC: a_short_chain,
}
"""Names that the reader of a page has before its first snippet, by page."""


def test_every_page_with_snippets_is_listed_to_be_run() -> None:
    pages = {
        str(page.relative_to(ROOT)) for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / LIBRARY]
    }
    assert {page for page in pages if snippets(page)} == READERS_HAVE.keys() | IN_INTEGRATION | RUN_BY_ITS_GENERATOR


@pytest.mark.parametrize("page", [pytest.param(page, marks=SAMPLES if page == PYMC else []) for page in READERS_HAVE])
@pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")  # the library's first page shows one
def test_snippets_of_a_page_run_consecutively(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = READERS_HAVE[page]()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "irt_theta_client", import_module("services.theta_client"))
    monkeypatch.setenv("IRT_THETA_URL", "http://127.0.0.1:1")  # no server listens on this port
    monkeypatch.setenv("IRT_THETA_TOKEN", "secret")
    if page == PYMC:
        engines = import_module("irt_assets.engines.pymc_engine")
        monkeypatch.setattr(engines, "PymcEngine", partial(engines.PymcEngine, draws=50, tune=50, chains=2))
    for snippet in snippets(page):
        code = snippet.replace("/var/lib/exam/answers", str(tmp_path / "answers")).replace("timeout=5", "timeout=0")
        exec(code, known)


def test_functions_on_the_page_on_fit_accept_the_arguments_shown() -> None:
    lines = (ROOT / FIT).read_text("utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if re.search(r" \| `(classical|(scoring|itemfit)\.\w+)` \|$", line)]
    checked = 0
    for _, written, module in rows:
        imported = import_module(f"irt_psychometrics.{module.strip(' |`')}")
        for name, given in CALL.findall(written.replace("\\|", "|")):
            call = ast.parse(f"f({given.split('|')[0].strip()})", mode="eval").body
            assert isinstance(call, ast.Call)
            names = [one.id for one in call.args if isinstance(one, ast.Name)]
            taken = [*inspect.signature(getattr(imported, name)).parameters.values()]
            required = [one.name for one in taken if one.default is one.empty]
            assert names == required, name
            assert {word.arg for word in call.keywords} <= {one.name for one in taken}
            checked += 1
    assert checked == 13
