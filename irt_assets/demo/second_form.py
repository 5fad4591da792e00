"""The second form of the demo's exam: learners who sit it, and its equating to the first form."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from irt_assets.abilities.batch import judge_until
from irt_assets.common.partitions import Month, month_of
from irt_assets.demo.running import Say
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.item_analysis.forms import import_forms
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import initialised_scale
from irt_assets.scores.equating import choose_equating
from irt_assets.scores.form_tables import form_items, make_month, published_items
from irt_assets.scores.releases import release_table, released_tables
from irt_psychometrics import ItemParameters, simulate_responses
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database, first_column

FORM, LEARNERS, METHOD = "W", 200, "linear-tucker"
NEW_ITEMS = {f"{FORM}{k}": ItemRow(1.2, b) for k, b in enumerate((-1.0, -0.6, -0.2, 0.2, 0.6, 1.0), 1)}
"""Items of the second form alone, with true values that the platform does not know."""


def equate_second_form(
    database: Database, scale_id: str, old: str, month: str, folder: Path, now: datetime, say: Say, **signed: Any
) -> None:
    """Let new learners sit a form with two thirds of the old form's items and six new ones, and release its table.

    They sit it yesterday or, on the first day of a month, today. The scores are equated to the old form by the common
    items, because the new items have no published values.
    """
    with database.connect() as connection:
        if FORM in released_tables(connection, scale_id):
            return
        items = form_items(connection, scale_id)[old]
        common = {item: most for k, (item, most) in enumerate(items.items()) if k % 3 < 2}
        published = published_items(in_force(connection, scale_id, now), common)
        topics = first_column(connection, "SELECT DISTINCT topic_id FROM question WHERE scale_id = %s", (scale_id,))
    say(f"{LEARNERS} new learners sit form {FORM}, which is equated to form {old} …")
    order, at = [*common, *NEW_ITEMS], range(1, len(common) + len(NEW_ITEMS) + 1)
    questions, form, log = (folder / f"second_{name}.csv" for name in ("questions", "form", "answers"))
    pd.DataFrame(
        {"item_id": [*NEW_ITEMS], "scale_id": scale_id, "topic_id": np.resize(sorted(topics), len(NEW_ITEMS))}
    ).to_csv(questions, index=False)
    pd.DataFrame({"form_id": FORM, "item_id": order, "position": at}).to_csv(form, index=False)
    import_bank_file(database, QUESTIONS, questions)
    import_forms(database, form)
    began = max(now - timedelta(days=1), Month(month_of(now)).start)
    pace = min(timedelta(seconds=40), (now - began) // (len(at) + 1))
    theta = np.random.default_rng(3).normal(0.2, 1.0, LEARNERS)
    parts = [published, ItemParameters.from_rows([*NEW_ITEMS], NEW_ITEMS.values())]
    right = np.hstack(
        [
            simulate_responses(part, theta, random_state=seed).score.reshape(LEARNERS, -1)
            for seed, part in enumerate(parts)
        ]
    )
    answers = pd.DataFrame(
        {
            "attempt_id": [f"{FORM}-{k}" for k in range(right.size)],
            "user_id": np.repeat([f"{FORM}-{k:03d}" for k in range(1, LEARNERS + 1)], len(order)),
            "item_id": order * LEARNERS,
            "position": [*at] * LEARNERS,
            "score": right.ravel().astype(int),
            "completed_at": [began + k * pace for k in at] * LEARNERS,
            "response_time_ms": np.random.default_rng(5).integers(8_000, 40_000, right.size),
        }
    )
    answers.assign(session_id=answers["user_id"], form_id=FORM).to_csv(log, index=False)
    import_attempts(database, [log], first_month=database.settings.irt_first_month)
    judge_until(database, now + timedelta(days=1))  # also today's answers
    done = choose_equating(database, scale_id, FORM, old, METHOD, **signed, now=now)
    with database.connect() as connection:
        make_month(connection, initialised_scale(connection, scale_id, Month(month).start), month)
    for line in (*done.sentences[:2], *release_table(database, scale_id, FORM, **signed).sentences[:1]):
        say(f"  {line}")
