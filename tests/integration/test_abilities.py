"""Abilities of a month against an independent, dense computation on the same answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from irt_assets.abilities.batch import measure, measure_at, stale_months
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.publications import in_force
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, rows, run_sql

MONTH, LATER = MONTHS
END = Month(LATER).end
NODES = np.linspace(-6, 6, 61)


def dense_eap(frame: pd.DataFrame, items: dict[str, ItemRow], mu: float, sigma: float) -> pd.DataFrame:
    """θ and SE by learner: the posterior on 61 nodes over μ ± 6σ, written out for each learner."""
    theta = mu + sigma * NODES
    found = {}
    for user, answers in frame.groupby("user_id"):
        posterior = np.exp(-(NODES**2) / 2)
        for item, score in zip(answers["item_id"], answers["score"], strict=True):
            a, b, c = items[item].abc
            p = c + (1 - c) / (1 + np.exp(-a * (theta - b)))
            posterior = posterior * (p if score == 1 else 1 - p)
        posterior /= posterior.sum()
        mean = (posterior * theta).sum()
        found[user] = (mean, np.sqrt((posterior * (theta - mean) ** 2).sum()), len(answers))
    return pd.DataFrame.from_dict(found, orient="index", columns=["theta", "se", "n_items"]).sort_index()


def stored_abilities(database: Database, end: datetime = END) -> pd.DataFrame:
    found = rows(
        database,
        "SELECT user_id, theta, se, n_items FROM mirt_ability WHERE window_end = %s AND scale_id = %s",
        (end, SCALE),
    )
    return pd.DataFrame(found, columns=["user_id", "theta", "se", "n_items"]).set_index("user_id").sort_index()


def test_every_learner_with_an_eligible_answer_has_the_ability_of_the_dense_computation(months: Database) -> None:
    """Both months of the log are in the 365 days; answers count without the minimum of five a learner."""
    run_sql(months, "UPDATE calibration_scale SET mu = 0.3, sigma = 1.2")
    measure(months, LATER, "run")
    run_sql(months, "UPDATE calibration_scale SET mu = 0, sigma = 1")
    with months.connect() as connection:
        published = in_force(connection, SCALE, END)
    eligible = rows(
        months,
        """SELECT user_id, v.item_id, (correct IS TRUE AND coalesce(hints_used, 0) = 0)::int
           FROM response_log JOIN attempt_verdict v USING (attempt_id, completed_at)
           WHERE reason IS NULL AND completed_at >= %s AND completed_at < %s AND v.item_id = ANY(%s)""",
        (END - timedelta(days=365), END, list(published.items)),
    )
    answers = pd.DataFrame(eligible, columns=["user_id", "item_id", "score"])
    expected = dense_eap(answers, published.items, 0.3, 1.2)
    found = stored_abilities(months)
    assert list(found.index) == list(expected.index)
    assert len(found) > 500
    assert (found["n_items"] == expected["n_items"]).all()
    # Sums of about 60 terms in another order, with and without logs: a few ulp of numbers up to 6.
    np.testing.assert_allclose(found["theta"], expected["theta"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["se"], expected["se"], rtol=0, atol=1e-10)


# -- a bank of five items with values of its own -----------------------------------------------------


@pytest.fixture
def bank(database: Database) -> Database:
    irt = {"a": 1.0, "a_se": 0.1, "b_se": 0.1}
    add_items(database, {f"i{k}": irt | {"b": k - 2.0} for k in range(5)} | {"unpublished": None})
    initialise(database, SCALE, first_month="2026-01")
    return database


def learners(database: Database, month: str = LATER) -> dict[str, int]:
    """Number of answers on which each learner's ability is based."""
    measure(database, month, f"run of {month}")
    return dict(stored_abilities(database, Month(month).end)["n_items"])


def test_ability_needs_at_least_an_answer_to_a_published_item(bank: Database) -> None:
    at = END - timedelta(days=3)
    add_attempts(
        bank,
        [
            attempt("one", "i0", at),
            attempt("none", "unpublished", at),
            attempt("sandbox", "i0", at, mode="sandbox"),
            attempt("repeats", "i0", at),
            attempt("repeats", "i0", at + timedelta(hours=1), correct=False),
            attempt("unanswered", "i0", at, correct=None),
        ],
    )
    assert learners(bank) == {"one": 1, "repeats": 1}


def test_answers_of_the_365_days_before_the_end_of_the_window_count(bank: Database) -> None:
    first = END - timedelta(days=365)
    tiny = timedelta(microseconds=1)
    add_attempts(bank, [attempt(f"u{k}", "i0", at) for k, at in enumerate((first - tiny, first, END - tiny, END))])
    assert learners(bank) == {"u1": 1, "u2": 1}


def publish(database: Database, item: str, b: float, at: datetime) -> None:
    run_sql(
        database,
        """INSERT INTO item_parameter_publication
             (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
           VALUES (%s, %s, jsonb_build_object('a', 1, 'b', %s::float8, 'c', 0), %s, 'decision', 'made up', '', '')""",
        (SCALE, item, b, at),
    )


@pytest.fixture
def answered(bank: Database) -> Database:
    """A bank in which u answered i0 and `unpublished` in June. Both months are measured."""
    at = datetime(2026, 6, 5, tzinfo=UTC)
    add_attempts(bank, [attempt("u", "i0", at), attempt("u", "unpublished", at, correct=False)])
    for month in (MONTH, LATER):
        measure(bank, month, f"run of {month}")
    return bank


def test_abilities_use_the_set_in_force_at_the_end_of_the_window(answered: Database) -> None:
    before = stored_abilities(answered)["theta"]["u"]
    publish(answered, "unpublished", 0.0, END)
    assert (learners(answered, MONTH), learners(answered, LATER)) == ({"u": 1}, {"u": 2})
    assert stored_abilities(answered)["theta"]["u"] < before


def test_run_replaces_only_the_abilities_of_its_month(answered: Database) -> None:
    measure(answered, LATER, "again")
    assert rows(answered, "SELECT update_id, window_end FROM mirt_ability ORDER BY window_end") == [
        (f"run of {MONTH}", Month(MONTH).end),
        ("again", END),
    ]


def stale(database: Database) -> set[str]:
    with database.connect() as connection:
        return set(stale_months(connection))


def test_total_errors_are_stored_only_if_the_fit_has_common_errors(
    months: Database,
) -> None:
    """Compares `se_total` by items of a linked fit with the same fit in the form of release 1.0.0."""
    unknown = "SELECT count(*) FROM mirt_ability WHERE window_end = %s AND scale_id = %s AND se_total IS NULL"
    measure(months, LATER, "run")
    everybody = len(stored_abilities(months))
    assert rows(months, unknown, (END, SCALE)) == [(0,)]
    between = "SELECT min(se_total / se), max(se_total / se) FROM mirt_ability WHERE window_end = %s AND scale_id = %s"
    [(least, most)] = rows(months, between, (END, SCALE))
    assert 1.0 < least < most < 2.0
    with months.connect() as connection:
        connection.execute("UPDATE mirt_fit_meta SET common_errors = NULL")
        [scored] = measure_at(connection, END, "monthly", "run")
        [(missing,)] = connection.execute(unknown, (END, SCALE)).fetchall()
        assert len(scored.theta) == everybody
        assert missing > 0
        connection.rollback()


def test_months_whose_set_has_changed_are_stale(answered: Database) -> None:
    assert stale(answered) == set()
    publish(answered, "i0", 1.5, END)
    assert stale(answered) == {LATER}
    measure(answered, LATER, "again")
    assert stale(answered) == set()
    publish(answered, "i1", 1.5, Month(MONTH).end)
    assert stale(answered) == {MONTH, LATER}


def test_scale_measured_before_its_first_publication_is_stale_after_the_publication(answered: Database) -> None:
    """A scale initialised later publishes from the first month on; its learners have no outdated rows."""
    add_items(answered, {"o1": {"a": 1.0, "b": 0.0}}, "other")
    add_attempts(answered, [attempt("u", "o1", datetime(2026, 7, 5, tzinfo=UTC))])
    for month in MONTHS:
        measure(answered, month, f"second of {month}")
    assert stale(answered) == set()
    initialise(answered, "other", first_month="2026-01")
    assert stale(answered) == set(MONTHS)
    for month in MONTHS:
        measure(answered, month, f"third of {month}")
    assert LATER not in stale(answered)
    assert rows(answered, "SELECT window_end FROM mirt_ability WHERE scale_id = 'other'") == [(END,)]


def test_scale_without_published_items_has_no_abilities_and_states_the_reason(database: Database) -> None:
    add_items(database, {"i0": None})
    add_attempts(database, [attempt("u", "i0", END - timedelta(days=1))])
    (found,) = measure(database, LATER, "run")
    assert (len(found.theta), found.why) == (
        0,
        f"no parameters of scale default are in force at {END:%Y-%m-%d} 00:00 UTC",
    )
