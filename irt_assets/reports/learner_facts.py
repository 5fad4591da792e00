"""Read the content of every learner's report of a week from the tables of features, KPIs and abilities.

Learners with a live answer in the eight weeks that end with the week get a report. Only the goal's probability and the
curve of levels use older data.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import week_bounds
from irt_assets.features.checks import days_with_wrong_counts
from irt_assets.kpis.ability import abilities
from irt_assets.kpis.behaviour import EIGHT_WEEKS, YEAR
from irt_assets.kpis.kpi_definitions import RANGES, NullReason
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.reports.learner_curve import Level
from irt_assets.reports.learner_page import Facts
from irt_assets.reports.learner_verdicts import Topic
from irt_assets.reports.learner_words import language_of
from irt_assets.reports.topic_differences import topic_differences
from irt_assets.responses.facts import abilities_start
from irt_assets.responses.scored_answers import answers_to, responses_of, scored_answers
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scores.issued import counting_scores, issued_scores
from irt_assets.scores.reported import reported_scale
from irt_psychometrics import ItemParameters
from irt_psychometrics.scoring import Curves
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.postgres.database import first_column, named_rows

NO_TOPIC = "unknown"
Scales = Mapping[str, Scale]
Published = Mapping[str, PublishedSet]
NO_KPIS = dict.fromkeys([*RANGES, "R_t_coverage"]) | {"why": dict.fromkeys(RANGES, NullReason.NOT_COMPUTED)}


def report_learners(connection: psycopg.Connection, week: str) -> list[str]:
    """Return the learners who get a report of the week, ordered by id, without test accounts."""
    start, end = _eight_weeks(week)
    return first_column(
        connection,
        """SELECT DISTINCT user_id FROM features_topic_daily f
           WHERE date >= %s AND date < %s AND NOT EXISTS (SELECT FROM learner l WHERE l.user_id = f.user_id AND is_test)
           ORDER BY 1""",
        (start, end),
    )


def load_facts(
    connection: psycopg.Connection, week: str, zone: str, only_of: Collection[str] | None = None
) -> list[Facts]:
    """Read the facts of the learners in `report_learners`, in that order; if `only_of` is set, only of the learners in
    it.

    `zone` is the bank's time zone, for times in the report. Raises PermanentFailure if features or KPIs of the week
    are missing, or if the KPIs were computed before its end.
    """
    users, (_, end) = report_learners(connection, week), week_bounds(week)
    users = [user for user in users if only_of is None or user in only_of]
    if users:
        _require_complete_week(connection, week)
    scales = read_scales(connection, end)
    only = next(iter(scales)) if len(scales) == 1 else None
    people = read_people(connection)
    published = {scale_id: set_with_errors(connection, scale_id, end) for scale_id in scales}
    answers = _answers(connection, end, scales, only_of)
    now = abilities([answers], end, scales, published)
    query = "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s"
    kpis = dict[str, dict[str, Any]](connection.execute(query, (date.fromisoformat(week),)).fetchall())
    levels = _levels(connection, end, now, scales, only_of)
    activity, counts = _activity(connection, week), _topic_counts(connection, week)
    on_scale = {user: scales.get(people.get(user, {}).get("target_scale_id") or only or "") for user in activity}
    theta = {
        (user, scale.scale_id): found[-1].theta
        for user, scale in on_scale.items()
        if scale and (found := levels.get((user, scale.scale_id)))
    }
    scores = _scores(connection, users, end, zone, scales)
    judged = _judge_topics(connection, answers, end, scales, published, theta)
    topic_names = read_topic_names(connection)
    facts = []
    for user in users:
        scale, person = on_scale[user], people.get(user, {})
        lang = person.get("lang")
        facts.append(
            Facts(
                user_id=user,
                name=person.get("name"),
                lang=lang,
                week=date.fromisoformat(week),
                end=end,
                zone=zone,
                **activity[user],
                scale_id=scale.scale_id if scale else None,
                mu=scale.mu if scale else 0.0,
                sigma=scale.sigma if scale else 1.0,
                target=person.get("target_theta") if scale else None,
                levels=tuple(levels.get((user, scale.scale_id), ())) if scale else (),
                topics=tuple(
                    Topic(
                        **counted,
                        **judged.get((user, counted["topic_id"]), {}),
                        name=topic_names.get((counted["topic_id"], language_of(lang)), ""),
                    )
                    for counted in counts[user]
                ),
                kpis=kpis.get(user, NO_KPIS),
                scores=tuple(scores.get(user, ())),
            )
        )
    return facts


def _require_complete_week(connection: psycopg.Connection, week: str) -> None:
    start, end = week_bounds(week)
    if missing := [
        day
        for day, (have, _) in days_with_wrong_counts(connection, start, end, on_postgres(connection)).items()
        if not have
    ]:
        raise PermanentFailure(
            f"features_topic_daily has no rows of {', '.join(missing)}, days with answers in the week {week}: "
            "materialise these days, then the week's reports"
        )
    computed, oldest = connection.execute(
        """SELECT count(*), min(updated_at) FROM weekly_kpi
           WHERE week_start = %s AND kpis#>>'{why,A_t}' IS DISTINCT FROM %s""",
        (start.date(), NullReason.NOT_COMPUTED),
    ).fetchall()[0]
    if not computed or oldest < end:
        state = f"are of {oldest:%Y-%m-%d %H:%M} UTC, before its end" if computed else "were not computed"
        raise PermanentFailure(f"the KPIs of the week {week} {state}: materialise weekly_kpi, then the week's reports")


def _eight_weeks(week: str) -> tuple[date, date]:
    end = week_bounds(week)[1]
    return (end - EIGHT_WEEKS).date(), end.date()


def read_people(connection: psycopg.Connection, users: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return name, lang, target_scale_id and target_theta of these learners, by user id. None: every known learner."""
    rows = named_rows(
        connection,
        """SELECT user_id, nullif(trim(attributes->>'name'), '') AS name, attributes->>'lang' AS lang, target_scale_id,
                  target_theta
           FROM learner WHERE %(users)s::text[] IS NULL OR user_id = ANY(%(users)s)""",
        {"users": None if users is None else [*users]},
    )
    return {row["user_id"]: row for row in rows}


def _activity(connection: psycopg.Connection, week: str) -> dict[str, dict[str, Any]]:
    """Read fields of `Facts`: answers, correct answers and active days of the week, and the last day with an answer.

    Only learners who answered in the eight weeks are included, by user id.
    """
    start, end = _eight_weeks(week)
    rows = named_rows(
        connection,
        """SELECT user_id, coalesce(sum(attempts) FILTER (WHERE date >= %(week)s), 0)::int AS answers,
                  coalesce(sum(correct) FILTER (WHERE date >= %(week)s), 0)::int AS correct,
                  count(DISTINCT date) FILTER (WHERE date >= %(week)s)::int AS days, max(date) AS last_answer
           FROM features_topic_daily WHERE date >= %(start)s AND date < %(end)s GROUP BY 1""",
        {"week": date.fromisoformat(week), "start": start, "end": end},
    )
    return {row.pop("user_id"): row for row in rows}


def _topic_counts(connection: psycopg.Connection, week: str) -> dict[str, list[dict[str, Any]]]:
    """Read fields of `Topic`: topic_id, answers and correct of each topic that a learner answered, by user id."""
    rows = named_rows(
        connection,
        """SELECT user_id, topic_id, sum(attempts)::int AS answers, sum(correct)::int AS correct
           FROM features_topic_daily
           WHERE date >= %s AND date < %s AND topic_id <> %s GROUP BY 1, 2 ORDER BY 1, 2""",
        (*_eight_weeks(week), NO_TOPIC),
    )
    counts = defaultdict(list)
    for row in rows:
        counts[row.pop("user_id")].append(row)
    return counts


def read_topic_names(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    """Return topic names by topic and language, from `topic_names` in the meta of any of its questions."""
    rows = connection.execute(
        """SELECT topic_id, key, min(value) FROM question,
             LATERAL jsonb_each_text(CASE jsonb_typeof(meta->'topic_names') WHEN 'object' THEN meta->'topic_names' END)
           WHERE topic_id IS NOT NULL AND value <> '' GROUP BY 1, 2"""
    ).fetchall()
    return {(topic, language): name for topic, language, name in rows}


def _answers(
    connection: psycopg.Connection, end: datetime, scales: Scales, only_of: Collection[str] | None
) -> pa.Table:
    """Read the `scored_answers` that count for abilities at `end`, of all learners or of `only_of`."""
    answers = scored_answers(abilities_start(end, scales), end)
    if only_of is not None:
        answers = answers.filter(answers.user_id.isin([*only_of]))
    return on_postgres(connection)(answers)


def _levels(
    connection: psycopg.Connection, end: datetime, now: pd.DataFrame, scales: Scales, only_of: Collection[str] | None
) -> dict[tuple[str, str], list[Level]]:
    """Read the last measurement of each week in the year before `end`, oldest first, by learner and scale.

    Measurements on request are left out, because they may use fewer days than nights and months do. The last
    measurement uses all answers before `end`; the goal's probability was computed from it. If abilities move on the
    scale, a measurement has the date of its last answer, otherwise the date of its window's last day.
    """
    rows = connection.execute(
        """SELECT DISTINCT ON (user_id, scale_id, date_trunc('week', at)) user_id, scale_id, at, theta, se
           FROM mirt_ability CROSS JOIN LATERAL (
             SELECT coalesce(CASE WHEN scale_id = ANY(%(moving)s) THEN as_of END,
                             window_end - interval '1 microsecond') AS at) dated
           WHERE window_end > %(year)s AND window_end <= %(last_week)s AND kind <> 'online'
             AND (%(users)s::text[] IS NULL OR user_id = ANY(%(users)s))
           ORDER BY 1, 2, date_trunc('week', at), window_end DESC, fitted_at DESC""",
        {
            "moving": [scale_id for scale_id, scale in scales.items() if scale.movement],
            "year": end - YEAR,
            "last_week": end - timedelta(weeks=1),
            "users": None if only_of is None else [*only_of],
        },
    ).fetchall()
    levels = defaultdict(list)
    for user, scale, at, theta, se in rows:
        levels[user, scale].append(Level(at.date(), theta, se))
    known = now[["user_id", "scale_id", "theta", "se", "weeks"]]
    for user, scale, theta, se, weeks in known.itertuples(index=False):
        at = end - (timedelta(weeks=weeks) if scales[scale].movement else timedelta(microseconds=1))
        monday = at.date() - timedelta(days=at.weekday())
        earlier = [level for level in levels[user, scale] if level.day < monday]
        levels[user, scale] = [*earlier, Level(at.date(), theta, se)]
    return levels


def _scores(
    connection: psycopg.Connection, users: list[str], end: datetime, zone: str, scales: Scales
) -> dict[str, list[dict[str, Any]]]:
    """Read `Facts.scores` by learner: scores issued before `end`, on scales that report scores."""
    reporting = {name: scale for name, scale in scales.items() if scale.rules.scores.score_slope}
    rows = [row for row in issued_scores(connection, user_id=users) if row.issued_at and row.issued_at < end]
    found = defaultdict(list)
    for (user, name), score in sorted(counting_scores(rows, reporting).items()):
        low, high = reported_scale(reporting[name]).rounded(score.scaled + Z95 * score.scaled_se * np.array([-1, 1]))
        found[user].append(
            {
                "scale": name,
                "form": score.form_id,
                "sat_on": score.sat_at.astimezone(ZoneInfo(zone)).date(),
                "scaled": f"{score.scaled:.10g}",
                "low": f"{low:.10g}",
                "high": f"{high:.10g}",
                "rank": None if score.percentile is None else min(99, max(1, round(score.percentile))),
                "passes": score.passes,
            }
        )
    return found


def _judge_topics(
    connection: psycopg.Connection,
    answers: pa.Table,
    end: datetime,
    scales: Scales,
    published: Published,
    theta: Mapping[tuple[str, str], float],
) -> dict[tuple[str, str], dict[str, Any]]:
    """Compute fields of `Topic` by learner and topic.

    They are the number of `scored_answers` in the eight weeks before `end`, and `topic_differences` from the learner's
    θ. `theta` contains each learner's θ on the scale of the goal; topics of other scales are not judged.
    """
    topic_of: dict[str, str] = dict(
        connection.execute("SELECT item_id, topic_id FROM question WHERE topic_id IS NOT NULL").fetchall()
    )
    topics = {topic: code for code, topic in enumerate(sorted(set(topic_of.values())))}
    judged = {}
    for scale_id, scale in scales.items():
        items = published[scale_id].items
        found = answers_to(answers, items.keys() & topic_of.keys(), end - EIGHT_WEEKS)
        responses, users = responses_of(found, published[scale_id].withdrawn)
        level = np.array([theta.get((user, scale_id), np.nan) for user in users])
        rows = np.flatnonzero(~np.isnan(level[responses.person]))
        if not rows.size:
            continue
        person, item = responses.person[rows], responses.item[rows]
        curves = Curves.from_items(
            ItemParameters.from_rows(responses.item_ids, map(items.get, responses.item_ids)).curves,
            mean=scale.mu,
            sd=scale.sigma,
        )
        topic = np.array([topics[topic_of[item_id]] for item_id in responses.item_ids])
        pairs, group = np.unique(person.astype(np.int64) * len(topics) + topic[item], return_inverse=True)
        difference, error = topic_differences(
            group, pairs.size, item, responses.score[rows], level[person], curves, responses.categories
        )
        names = list(topics)
        for pair, n, d, e in zip(pairs.tolist(), np.bincount(group), difference, error, strict=True):
            key = users[pair // len(topics)], names[pair % len(topics)]
            judged[key] = {"judged": int(n), "difference": float(d), "error": float(e)}
    return judged
