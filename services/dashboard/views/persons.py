"""The persons of a form on the form's page, and as a file. For analysts."""

import pandas as pd
from htmltools import Tag, tags

from irt_assets.reports.form_facts import FormFacts
from irt_assets.reports.person_list import person_table, read_person_list
from irt_assets.responses.snapshot import snapshot_for_scale
from resources.failures import PermanentFailure
from services.dashboard.elements import download_links, section
from services.dashboard.page import ViewRequest


def persons_section(request: ViewRequest, facts: FormFacts) -> Tag | None:
    """The persons with the least likely patterns, and links to all. Returns None for senders below analyst."""
    if not request.identity.has_role("analyst"):
        return None
    try:
        persons = read_persons(request, facts)
    except PermanentFailure as failure:
        return section("Persons", tags.p(f"There is no list of persons: {failure}."))
    fields = {"scale": facts.scale.scale_id, "month": facts.month, "form": facts.form.form_id}
    return section("Persons", person_table(persons), download_links("All persons:", "persons", **fields))


def read_persons(request: ViewRequest, facts: FormFacts) -> pd.DataFrame:
    """The form's persons in the month. Raises PermanentFailure as `read_person_list`, and without a snapshot."""
    reader, scale_id = request.reader, facts.scale.scale_id
    with reader.connect() as connection:
        snapshot = snapshot_for_scale(connection, facts.month, scale_id)
    if snapshot is None:
        raise PermanentFailure(f"the answers of {facts.month} have not been scored yet")

    def read() -> pd.DataFrame:
        with reader.connect() as connection:
            return read_person_list(connection, reader.store, snapshot, facts)

    values = "".join(map(repr, (facts.published.a, facts.published.b, facts.published.c)))
    key = ("persons", snapshot.snapshot_hash, scale_id, facts.form.form_id, values)
    return reader.compute_cached(key, read)
