"""The persons who sat a form: raw score, θ and lz*, the least likely patterns of answers first.

Nothing is stored: θ and lz* follow from the month's answers and the published values, so they exist for persons without
a stored ability, too. For analysts, because the list names learners.
"""

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.blocks import Table, percent, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import quantity
from irt_assets.item_analysis.answers import COLUMNS, read_answers
from irt_assets.reports.form_facts import FormFacts
from irt_assets.responses.snapshot import Snapshot, read_parts
from irt_psychometrics import Responses
from irt_psychometrics.itemfit import person_fit
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore

MAX_ANSWERS = 2_000_000
"""Largest number of answers of a list, so that a server computes it in seconds."""
UNLIKELY = 0.05
SHOWN = 20
"""Number of persons on a page."""
COLUMNS_OF_LIST = ("learner", "form", "answers", "raw_score", "theta", "se", "lz", "p")


def read_person_list(
    connection: psycopg.Connection, store: ObjectStore, snapshot: Snapshot, facts: FormFacts
) -> pd.DataFrame:
    """Read the form's persons in the month, one row each, the smallest p first.

    The raw score counts omitted items as 0. `theta` is Warm's WLE by the published values, `lz` is lz* and `p` the
    probability of an lz* at most this large; both are missing for persons with fewer than five answers to such items.
    Raises PermanentFailure if no item has published values, or if the month has too many answers.
    """
    scale_id, form_id = facts.scale.scale_id, facts.form.form_id
    if not len(facts.published.item_ids):
        raise PermanentFailure("no item has published values, so persons have no θ and no lz*")
    parts = list[pa.Table]()
    for part in read_parts(store, snapshot, COLUMNS, keep=False):
        mine = pc.equal(part["scale_id"], scale_id)
        parts.append(part.filter(pc.and_(mine, pc.equal(part["form_id"], form_id)) if form_id else mine))
        if sum(one.num_rows for one in parts) > MAX_ANSWERS:
            raise PermanentFailure(f"{facts.name} has more than {MAX_ANSWERS:,} answers: choose a form")
    answers = read_answers(pa.concat_tables(parts), scale_id)
    answers = answers[answers["counted"] & ~answers["seed"]]
    sittings = answers.groupby(["learner", "form"])
    persons = sittings["score"].agg(answers="size", raw_score="sum").astype(int).reset_index()
    item, item_ids = pd.factorize(answers["item"], sort=True)
    categories = answers.groupby("item")["max_score"].max().to_numpy(np.int64) + 1
    responses = Responses(
        np.asarray(sittings.ngroup(), dtype=np.int32),
        item.astype(np.int32),
        answers["score"].to_numpy(np.int8),
        len(persons),
        tuple(item_ids),
        categories,
    )
    found = person_fit(responses, facts.published)
    persons = persons.assign(theta=found.theta, se=found.se, lz=found.lz, p=found.p)
    ids = connection.execute(
        "SELECT learner_key, user_id FROM learner WHERE learner_key = ANY(%s)", (persons["learner"].tolist(),)
    )
    persons["learner"] = persons["learner"].map(dict(ids.fetchall()))
    return persons.sort_values(["p", "lz", "learner"], ignore_index=True)[[*COLUMNS_OF_LIST]]


def person_table(persons: pd.DataFrame) -> Table:
    """Return a table of the persons whose patterns are the least likely."""
    formats = {"raw score": ",", "answers": ",", "θ": ".2f", "standard error": ".2f", "lz*": ".2f", "p": ".3f"}
    tested = persons["p"].notna().sum()
    unlikely = f"{quantity(int((persons['p'] < UNLIKELY).sum()), 'person')} of {tested:,}"
    expected = f"below p = {UNLIKELY}; {percent(UNLIKELY)} are if all follow the model"
    names = ["raw_score", "answers", "theta", "se", "lz", "p"]
    rows = [
        (page_link(learner, "learner", user=learner), *values)
        for learner, *values in persons.head(SHOWN)[["learner", *names]].itertuples(index=False)
    ]
    caption = f"Persons with the least likely patterns of answers: {unlikely} are {expected}"
    return table(("learner", *formats), rows, numbers=formats, caption=caption, small=True)
