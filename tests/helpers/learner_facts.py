"""Made-up facts of a learner's report."""

from __future__ import annotations

from datetime import UTC, date, datetime

from irt_assets.blocks import html
from irt_assets.reports.learner_curve import Level
from irt_assets.reports.learner_page import Facts, document
from irt_assets.reports.learner_verdicts import Topic

MONDAY = date(2026, 11, 9)
GOOD = {"I_t": 0.5, "E_t": 0.25, "R_t": 0.8, "R_t_coverage": 0.9, "A_t": 0.7, "P": 0.5, "S": 0.1, "why": {}}
STRONG, WEAK = Topic("algebra", 40, 33, 38, 0.6, 0.2), Topic("geometry", 40, 14, 38, -0.6, 0.2)
EVEN, FEW = Topic("fractions", 20, 12, 18, 0.1, 0.2), Topic("statistics", 9, 0, 9, -2.0, 0.3)
FACTS = Facts(
    user_id="u1",
    name="Ada",
    lang="en",
    week=MONDAY,
    end=datetime(2026, 11, 16, tzinfo=UTC),
    zone="Asia/Seoul",
    answers=34,
    correct=25,
    days=4,
    last_answer=date(2026, 11, 14),
    scale_id="main",
    mu=0.0,
    sigma=1.0,
    target=0.5,
    levels=(Level(date(2026, 10, 31), 0.1, 0.4), Level(date(2026, 11, 15), 0.4, 0.3)),
    topics=(STRONG, WEAK, EVEN, FEW),
    kpis=GOOD,
)


def page(facts: Facts) -> str:
    return html.page(document(facts))
