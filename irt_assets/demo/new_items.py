"""New items of the demo: seed them, simulate answers in seed places, publish them, and compare with the truth."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow.parquet as pq

from irt_assets.abilities.online import read_measures, read_posterior
from irt_assets.blocks import Table, number, table, value_with_error
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import DAYS, day_bounds
from irt_assets.common.wording import in_words, join_names, quantity, some_of
from irt_assets.decision_kinds import ITEM_KINDS
from irt_assets.decisions.deciding import decide
from irt_assets.demo.findings import Finding
from irt_assets.demo.running import Say
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.ledger.decision_rows import read_decisions
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.publications import items_ever_published
from irt_assets.new_items.decided import SEED, ItemsRequest, SeedLimits
from irt_assets.new_items.draws import Places, fill_places
from irt_assets.new_items.pool import SeedPools
from irt_assets.new_items.progress import ACCUSED, NOT_POSITIVE, SILENT, read_pipeline
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.new_items.stages import item_stages
from irt_assets.simulation.files import SCALE_ID, SimulatedFiles
from irt_psychometrics import ItemParameters, simulate_responses
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database, first_column, one_value

SOUND = {f"N{k:02d}": ItemRow(1.2 if k % 2 else 1.0, b) for k, b in enumerate(np.linspace(-1.2, 1.2, 10).tolist(), 1)}
WRONG_KEY, STUCK, RIGHT, WRONG = "N11", "N12", "A", "B"
TRUE_VALUES: Mapping[str, ItemRow] = SOUND | {WRONG_KEY: ItemRow(1.6, 0.0), STUCK: ItemRow(1.2, 0.3)}
"""New items with true values that the platform does not know. They have two options; one has the wrong key."""
FEW = SeedLimits(max_answers=12)
"""Limits of the item that gets stuck: they are used up on the first day."""
TRIAL_DAYS, LAST_DAYS = 20, 5
"""Learners meet new items on the first of the log's last 20 days, and on the last 5, which have item analyses."""
SESSIONS, PLACES, PACE = 50, 5, timedelta(seconds=40)
"""Sessions of such a day with seed places, seed places of a session, and time for an answer."""
MIN_READY, MIN_COVERED = 5, 6
"""Least numbers of sound items that are publishable, and that have the true b in the 95 % interval of b: fewer than six
of ten occur by chance once in 15,000 demos."""


def seed_new_items(database: Database, files: SimulatedFiles, truth: dict[str, Any], say: Say) -> None:
    """Add seed places to sessions of the log, fill them as the θ API does, and import answers by the true values.

    The last places were filled on the day before the log's end. Safe to repeat.
    """
    with database.connect() as connection:
        if one_value(connection, "SELECT EXISTS (SELECT FROM attempt WHERE item_id = %s)", (STUCK,)):
            return
        topics = first_column(connection, "SELECT DISTINCT topic_id FROM question WHERE scale_id = %s", (SCALE_ID,))
    say(f"learners answer {in_words(len(TRUE_VALUES))} new items in seed places of their sessions …")
    questions, log = (files.questions.with_name(f"new_{name}.csv") for name in ("questions", "answers"))
    keys = {item: WRONG if item == WRONG_KEY else RIGHT for item in TRUE_VALUES}
    bank = {"item_id": [*keys], "scale_id": SCALE_ID, "topic_id": np.resize(sorted(topics), len(keys))}
    pd.DataFrame(bank | {"key": [*keys.values()]}).to_csv(questions, index=False)
    import_bank_file(database, QUESTIONS, questions)
    for request in (ItemsRequest([*TRUE_VALUES]), ItemsRequest([STUCK], FEW)):
        decide(database, SEED, request, by="demo", reason="field trial")
    answers = _answers(database, truth, _sessions(files.attempts, datetime.fromisoformat(truth["now"])))
    answers.assign(
        attempt_id=answers["session_id"] + "-" + answers["position"].astype(str),
        correct=answers["response"] == answers["item_id"].map(keys),
        response_time_ms=np.random.default_rng(8).integers(8_000, 40_000, len(answers)),
    ).to_csv(log, index=False)
    import_attempts(database, [log], first_month=database.settings.irt_first_month)


def _sessions(attempts: Path, now: datetime) -> pd.DataFrame:
    """Read the last answer of the first exam sessions of the trial's days, without sessions that end unanswered."""
    days = DAYS.last_keys(now, TRIAL_DAYS)
    log = pq.read_table(
        attempts,
        columns=["user_id", "session_id", "form_id", "position", "completed_at", "correct"],
        filters=[("completed_at", ">=", day_bounds(days[0])[0])],
    ).to_pandas()
    exams = log.dropna(subset="form_id").sort_values("completed_at")
    last = exams.drop_duplicates("session_id", keep="last").dropna(subset="correct")
    day = last["completed_at"].dt.strftime("%Y-%m-%d")
    return last[day.isin([days[0], *days[-LAST_DAYS:]])].groupby(day).head(SESSIONS)


def _answers(database: Database, truth: dict[str, Any], sessions: pd.DataFrame) -> pd.DataFrame:
    """Draw an item for each seed place after a session's last answer, and simulate the options that learners choose."""
    month = sessions["completed_at"].dt.strftime("%Y-%m").map(truth["months"].index)
    theta = [truth["learners"][user]["theta"][k] for user, k in zip(sessions["user_id"], month, strict=True)]
    drawn = simulate_responses(ItemParameters.from_rows([*TRUE_VALUES], TRUE_VALUES.values()), theta, random_state=7)
    options = np.where(drawn.score.reshape(len(sessions), -1) == 1, RIGHT, WRONG)
    pools, rows = SeedPools(), []
    with database.connect() as connection:
        measures = read_measures(connection, one_value(connection, "SELECT now()"))  # after the decisions to seed
        pools.refresh(connection, measures)
        for own, chosen in zip(sessions.to_dict("records"), options, strict=True):
            last, at, response = own["position"], own["completed_at"], dict(zip(TRUE_VALUES, chosen, strict=True))
            places = Places(own["user_id"], own["session_id"], own["form_id"], range(last + 1, last + 1 + PLACES))
            posterior = partial(read_posterior, connection, measures, SCALE_ID, own["user_id"], at)
            rows += [
                own
                | {"item_id": item, "position": position, "response": response[item]}
                | {"completed_at": at + PACE * (position - last)}
                for position, item in fill_places(connection, pools.by_scale[SCALE_ID], places, posterior, at).items()
            ]
    return pd.DataFrame(rows)


def publish_new_items(database: Database, now: datetime, say: Say) -> None:
    """Publish the new items that the night found publishable, each once, from the next month on."""
    with database.connect() as connection:
        stages, published = item_stages(connection, items=[*TRUE_VALUES]), items_ever_published(connection, SCALE_ID)
    if items := [own.item_id for own in stages if own.stage == "publishable" and own.item_id not in published]:
        decide(database, PUBLISH, PublishRequest(items, now), by="demo", reason="read and sound")
        say(f"  {quantity(len(items), 'new item')} published from next month on")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a new item.

    Attributes:
        values: the values with which the item was published, or the newest night's; empty if it was not estimated.
        why: reason for the stage.
        remedy: remedy if the item is stuck.
    """

    item_id: str
    stage: str
    n: int
    values: Mapping[str, float]
    why: str
    remedy: str = ""


def read_outcomes(connection: psycopg.Connection) -> Iterator[Outcome]:
    """Read the outcome of each new item."""
    rows = {row.item_id: row for row in read_pipeline(connection, SCALE_ID)}
    published = {made.subject: made for made in read_decisions(connection, kinds=[PUBLISH.name], scale_id=SCALE_ID)}
    for now in item_stages(connection, items=[*TRUE_VALUES]):
        made, row = published.get(now.item_id), rows.get(now.item_id)
        if made:
            why = f"in force from {made.effective_from:%Y-%m-%d} on"
            yield Outcome(now.item_id, "published", made.value["n"], made.value["parameters"], why)
        elif row:
            yield Outcome(now.item_id, now.stage, now.n, row.parameters, now.why, row.remedy)
        else:
            yield Outcome(now.item_id, now.stage, now.n, {}, now.why)


def outcomes_table(outcomes: Iterable[Outcome]) -> Table:
    """List the outcome of each new item, with b beside the true b."""
    rows = [
        (
            *(own.item_id, own.stage, own.n, value_with_error(own.values.get("b"), own.values.get("b_se"))),
            number(TRUE_VALUES[own.item_id].b),
            f"{own.why}. {own.remedy}" if own.remedy else own.why,
        )
        for own in outcomes
    ]
    return table(
        ("new item", "stage", "answers", "b", "true b", "outcome"),
        rows,
        numbers={"answers": ",", "b": "", "true b": ""},
    )


def compare_new_items(connection: psycopg.Connection) -> list[Finding]:
    """Compare the planted faults of new items, and the true values of sound ones, with the findings."""
    outcomes = {own.item_id: own for own in read_outcomes(connection)}
    ready = sum(outcomes[item].stage in ("publishable", "published") for item in SOUND)
    known = {item: outcomes[item].values for item in SOUND if outcomes[item].values}
    covered = sum(abs(own["b"] - TRUE_VALUES[item].b) <= Z95 * own["b_se"] for item, own in known.items())
    found = f"{ready} of {len(SOUND)} publishable, true b in the 95 % interval of {covered}"
    findings = [Finding("new items", some_of([*SOUND], 3), found, ready >= MIN_READY and covered >= MIN_COVERED)]
    for fault, item, obstacles in (
        ("wrong key, new item", WRONG_KEY, (ACCUSED, NOT_POSITIVE)),
        ("stuck new item", STUCK, (SILENT,)),
    ):
        decided = newest_decisions(connection, item_id=item, item_kinds=ITEM_KINDS)
        people = sorted({decision.by for decision in decided} - {"demo"})
        found = f"{join_names(people)} decided on it" if people else outcomes[item].why
        findings.append(Finding(fault, item, found, bool(people) or found in [own.reason for own in obstacles]))
    return findings
