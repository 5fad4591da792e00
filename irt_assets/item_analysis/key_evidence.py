"""Keys of items, and the evidence against them from day to day: a test martingale of each item in a calendar year."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.blocks import number, percent
from irt_assets.common.wording import join_names, shorten
from irt_assets.item_analysis.stored import ItemRow, OptionRow, analysed_months, read_items
from irt_psychometrics.classical import KeyEvidence

if TYPE_CHECKING:
    import pandas as pd

NAMED_FROM = 1000.0
"""E from which an item is named: a right key reaches it in a year with probability 0.001 at most (Ville 1939)."""
BEATS_KEY = "beats_key"
"""Flag of an option that certainly beats the key (see `irt_psychometrics.classical.ItemAnalysis.flags`)."""


def read_keys(connection: psycopg.Connection, scale_id: str) -> dict[str, tuple[str, ...]]:
    """Item → its right options, for the items of a scale with a key."""
    found = connection.execute("SELECT item_id, meta->'key' FROM question WHERE scale_id = %s", (scale_id,))
    keys = {item: tuple(key) if isinstance(key, list) else (key,) for item, key in found if isinstance(key, str | list)}
    return {item: key for item, key in keys.items() if any(key)}


def follow_keys(
    connection: psycopg.Connection, day: str, keys: Mapping[str, tuple[str, ...]], answers: pd.DataFrame
) -> None:
    """Replace the day's evidence on the keys of items with options.

    It goes on from the item's last day before it, unless that day is in another year or had another key. `answers` has
    the columns item, option, form, at and rest.
    """
    answers = answers[answers["item"].isin(list(keys)) & answers["option"].notna() & answers["rest"].notna()]
    by_form = answers.groupby("form")["rest"]
    answers = answers.assign(z=(answers["rest"] - by_form.transform("mean")) / by_form.transform("std"))
    of_items = answers.dropna(subset="z").sort_values("at", kind="stable").groupby("item")
    by_item = {str(item): of_item for item, of_item in of_items}
    last = connection.execute(
        """SELECT DISTINCT ON (item_id) item_id, key, state FROM key_evidence
           WHERE item_id = ANY(%s) AND day < %s AND day >= date_trunc('year', %s::date)
           ORDER BY item_id, day DESC""",
        ([*by_item], day, day),
    )
    before = {item: (key, state) for item, key, state in last}
    rows = []
    for item, of_item in by_item.items():
        key, state = before.get(item, ("", None))
        seed = zlib.crc32(f"{item} {day[:4]}".encode())
        same = key == _as_text(keys[item])
        evidence = KeyEvidence.from_json(json.dumps(state)) if same else KeyEvidence.start(keys[item], seed)
        evidence = evidence.update(of_item["option"].tolist(), of_item["z"].to_numpy())
        state = Jsonb(json.loads(evidence.to_json()))
        rows.append((item, day, _as_text(keys[item]), evidence.n, evidence.e_value, evidence.option, state))
    connection.execute("DELETE FROM key_evidence WHERE day = %s AND item_id = ANY(%s)", (day, [*keys]))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO key_evidence (item_id, day, key, n, e_value, option, state)
               VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            rows,
        )


def named_options(connection: psycopg.Connection, scale_id: str, day: str) -> dict[str, str]:
    """Item → the option that beats its key, for the items that the evidence names on this day and on no earlier one.

    An item whose key has changed since is left out.
    """
    keys = {item: _as_text(key) for item, key in read_keys(connection, scale_id).items()}
    found = connection.execute(
        """SELECT DISTINCT ON (item_id, key) item_id, key, option, day::text FROM key_evidence
           WHERE e_value >= %(least)s AND item_id = ANY(%(items)s)
             AND day BETWEEN date_trunc('year', %(day)s::date) AND %(day)s
           ORDER BY item_id, key, day""",
        {"least": NAMED_FROM, "items": [*keys], "day": day},
    )
    return {item: option for item, key, option, first in found if key == keys[item] and first == day}


def evidence_of_year(connection: psycopg.Connection, scale_id: str, day: str) -> dict[str, float]:
    """Item → the largest E of the year up to a day against the item's present key. Items without evidence are absent.

    The key is accused from `NAMED_FROM` on.
    """
    keys = {item: _as_text(key) for item, key in read_keys(connection, scale_id).items()}
    found = connection.execute(
        """SELECT item_id, key, max(e_value) FROM key_evidence
           WHERE item_id = ANY(%(items)s) AND day BETWEEN date_trunc('year', %(day)s::date) AND %(day)s
           GROUP BY 1, 2""",
        {"items": [*keys], "day": day},
    )
    return {item: e_value for item, key, e_value in found if key == keys[item]}


def suspect_keys(connection: psycopg.Connection, scale_id: str) -> dict[str, str]:
    """Find the items whose key may be wrong by the item analysis of the newest month, each with a sentence on why.

    Items whose key has changed since the analysis are absent.
    """
    keys, months = read_keys(connection, scale_id), analysed_months(connection, scale_id)
    return {
        item.item_id: warning
        for item in (read_items(connection, scale_id, months[-1], form_id="") if months and keys else ())
        if (warning := key_warning(item))
        and {option.option for option in item.options if option.is_key} == {*keys.get(item.item_id, ())}
    }


def find_option_above_key(item: ItemRow) -> OptionRow | None:
    """Find the option with the highest option-rest correlation among the rivals that certainly beat the key."""
    rivals = (option for option in item.options if BEATS_KEY in option.flags)
    return max(rivals, key=lambda option: option.rest_correlation or 0, default=None)


def key_warning(item: ItemRow) -> str:
    """Write a sentence on the option that certainly beats the key; "" if no option does."""
    rival = find_option_above_key(item)
    return describe_rival(item, rival) if rival else ""


def describe_rival(item: ItemRow, rival: OptionRow) -> str:
    """A sentence on the option that beats the item's key, with shares and correlations."""
    described = {
        option.option: f"{shorten(option.option, 20)} (chosen by {percent(option.share)}, "
        f"r = {number(option.rest_correlation)})"
        for option in item.options
    }
    keys = join_names(described[option.option] for option in item.options if option.is_key)
    return f"Option {described[rival.option]} beats the key {keys}: the key may be wrong."


def _as_text(key: tuple[str, ...]) -> str:
    return ", ".join(key)
