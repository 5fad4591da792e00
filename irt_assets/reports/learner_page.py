"""Turn the facts of a learner's week into a report.

Nothing here needs a database or NumPy, so that a rendering process is small.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from statistics import NormalDist
from typing import Any, Literal
from zoneinfo import ZoneInfo

from irt_assets.blocks import Box, Document, Figure, List, Paragraph, Section, Span
from irt_assets.common.intervals import Z95
from irt_assets.reports.learner_curve import Level, curve
from irt_assets.reports.learner_verdicts import KPIS, Topic, next_steps, reason_key, sorted_topics, verdict
from irt_assets.reports.learner_words import Words, language_of

TOPICS_NAMED = 3
ROUGH = 0.5
"""Standard error, in SDs of the population, above which a level is called rough."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a learner and a completed week. They can be stored as JSON.

    Attributes:
        name: the learner's name, or None if unknown.
        lang: the learner's language attribute, or None if unknown.
        week: Monday of the week.
        end: end of the week, exclusive.
        zone: time zone of the bank, for times in the report.
        answers: number of answers in the week.
        correct: number of correct answers in the week.
        days: number of days with answers in the week.
        last_answer: day (UTC) of the last answer before the end.
        scale_id: scale of the learner's goal, or None if unknown.
        mu: mean of the scale's population.
        sigma: SD of the scale's population.
        target: the goal, in θ of the scale, or None without one.
        levels: measurements on the scale, oldest first.
        topics: topics of the last eight weeks.
        kpis: the record of `weekly_kpi`.
        scores: the issued score that counts on each scale at the week's end: scale, form, sat_on, scaled, low, high,
            rank and passes (None if unknown).
    """

    user_id: str
    name: str | None
    lang: str | None
    week: date
    end: datetime
    zone: str
    answers: int
    correct: int
    days: int
    last_answer: date
    scale_id: str | None
    mu: float
    sigma: float
    target: float | None
    levels: tuple[Level, ...]
    topics: tuple[Topic, ...]
    kpis: Mapping[str, Any]
    scores: tuple[Mapping[str, Any], ...] = ()


def document(facts: Facts) -> Document:
    """Return the report as blocks, in the learner's language."""
    words = Words(language_of(facts.lang))
    until = facts.end.astimezone(ZoneInfo(facts.zone))
    steps = next_steps(facts.kpis, facts.topics, answered=facts.answers > 0)
    texts = (words(f"steps.{key}", topic=topic) for key, topic in steps)
    judged = any(topic.verdict != "few" for topic in facts.topics)
    note = [Paragraph(words("topics.how"), "quiet")] if judged else []
    topics = [Paragraph((Span(f"{label}:", "bold"), f" {named}")) for label, named in _topics(facts, words)]
    who = words("name", name=facts.name) if facts.name else words("unnamed", id=facts.user_id)
    made = words("foot.made", until=f"{words.in_full(until)} {until:%H:%M}", zone=facts.zone)
    return Document(
        title=words("title"),
        subtitle=f"{who} · {words.week(facts.week)}",
        language=words.language,
        kind="learner",
        blocks=(
            Paragraph(_headline(facts, words), "lead"),
            Section(words("steps.title"), (List(tuple(texts), numbered=True),)),
            Section(words("level.title"), (*map(Paragraph, _level(facts, words)), *_curve(facts, words))),
            *([Section(words("score.title"), tuple(_scores(facts, words)))] if facts.scores else []),
            Section(words("topics.title"), (*(topics or [Paragraph(words("topics.none"))]), *note)),
            Section(words("kpis.title"), tuple(_kpi(facts.kpis, kpi, words) for kpi in KPIS)),
            Paragraph(f"{made} {words('foot.private')}", "quiet"),
        ),
    )


def _headline(facts: Facts, words: Words) -> str:
    if not facts.answers:
        return words("headline.nothing", date=words.in_full(facts.last_answer))
    share = words.share(facts.correct / facts.answers)
    answered = words("headline.answered", n=facts.answers, correct=facts.correct, share=share)
    return f"{answered} {words('headline.days', n=facts.days)}"


def _level(facts: Facts, words: Words) -> Iterator[str]:
    if not facts.levels:
        yield words("level.no_scale" if facts.scale_id is None else "level.nothing")
        return
    now, population = facts.levels[-1], NormalDist(facts.mu, facts.sigma)
    low, rank, high = (min(99, max(1, round(100 * population.cdf(now.theta + k * Z95 * now.se)))) for k in (-1, 0, 1))
    yield words("level.now", date=words.in_full(now.day), rank=rank, low=low, high=high)
    if now.se > ROUGH * facts.sigma:
        yield words("level.rough")
    if len(facts.levels) == 1:
        yield words("level.first")


def _curve(facts: Facts, words: Words) -> Iterator[Figure]:
    if not facts.levels:
        return
    chart = curve(
        facts.levels,
        facts.target,
        mu=facts.mu,
        sigma=facts.sigma,
        axis=words("level.axis"),
        goal=words("level.goal"),
        ends=[words.in_full(facts.levels[i].day) for i in (0, -1)],
        description=" ".join(_level(facts, words)),
    )
    drawn = words("level.caption_line" if len(facts.levels) > 1 else "level.caption_dot")
    drawn = f"{words('level.caption_axis')} {drawn}"
    caption = drawn if facts.target is None else f"{drawn} {words('level.caption_goal')}"
    yield Figure(chart, caption, wide=True)


def _scores(facts: Facts, words: Words) -> Iterator[Paragraph]:
    for score in facts.scores:
        texts = [f"{score['scale']}:"] if len(facts.scores) > 1 else []
        texts.append(words("score.now", **score, date=words.in_full(score["sat_on"])))
        texts += [words("score.rank", **score)] if score["rank"] is not None else []
        texts += [words(f"score.{'passed' if score['passes'] else 'failed'}")] if score["passes"] is not None else []
        yield Paragraph(" ".join(texts))


def _topics(facts: Facts, words: Words) -> Iterator[tuple[str, str]]:
    """Yield each verdict's label with its topics, for verdicts that have topics."""
    for kind in ("strong", "weak", "even", "few"):
        found = sorted_topics(facts.topics, kind)
        if not found:
            continue
        named = ", ".join(
            words("topics.one", topic=t.label, answers=t.answers, correct=t.correct) for t in found[:TOPICS_NAMED]
        )
        more = f" {words('topics.more', n=len(found) - TOPICS_NAMED)}" if len(found) > TOPICS_NAMED else ""
        yield words(f"topics.{kind}"), named + more


def _kpi(kpis: Mapping[str, Any], kpi: str, words: Words) -> Box:
    value, title = kpis[kpi], words(f"kpis.{kpi}.title")
    if value is None:
        text = words(f"why.{reason_key(kpis, kpi)}")
        return _in_words(title, words("kpis.missing"), text, "neutral")
    found = verdict(kpi, value)
    coverage = kpis["R_t_coverage"] if kpi == "R_t" else 0.0
    text = words(
        f"kpis.{kpi}.sentences.{found}",
        value=words.chance(value) if kpi == "P" else words.share(value),
        points=round(100 * value),
        coverage=words.share(coverage),
    )
    if kpis.get("assumed", {}).get(kpi):
        text = f"{text} {words('kpis.assumed')}"
    return _in_words(title, words(f"kpis.{kpi}.{found}"), text, "info")


def _in_words(title: str, verdict: str, text: str, tone: Literal["info", "neutral"]) -> Box:
    return Box((Paragraph((Span(f"{title}: {verdict}.", "bold"), f" {text}")),), tone)
