"""The learner's report: words for its numbers in both languages, escaping of names, next steps, and θ over time."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from string import Formatter
from typing import Any

import grimp
import pytest

from irt_assets.abilities.online import Learner, Theta
from irt_assets.kpis.kpi_definitions import RANGES, NullReason
from irt_assets.reports import learner_processes
from irt_assets.reports.learner_blocks import activity, learner_in_short, theta_over_time
from irt_assets.reports.learner_curve import Level, curve
from irt_assets.reports.learner_verdicts import KPIS, LADDERS, Topic, next_steps, sorted_topics, verdict
from irt_assets.reports.learner_week import RENDERERS
from irt_assets.reports.learner_words import LANGUAGES, LANGUAGES_OF, Kind, Words, catalogue, language_of
from psychometrics_testbed.chart_parts import points
from tests.helpers.learner_facts import EVEN, FACTS, FEW, GOOD, MONDAY, STRONG, WEAK, page
from tests.helpers.pictures import Picture


def missing(**reasons: str) -> dict[str, Any]:
    return GOOD | dict.fromkeys(reasons) | {"why": {kpi: NullReason[reason] for kpi, reason in reasons.items()}}


def phrases(language: str, kind: Kind) -> dict[str, str]:
    def walk(node: Any, path: str) -> dict[str, str]:
        if isinstance(node, dict) and not node.keys() <= {"one", "other"}:
            return {k: v for name, below in node.items() for k, v in walk(below, f"{path}.{name}").items()}
        return {path: " ".join(node.values()) if isinstance(node, dict) else str(node)}

    return walk(catalogue(language, kind), "")


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


@pytest.mark.parametrize("kind", ["learner", "letter"])
def test_every_language_has_the_same_phrases_with_the_same_placeholders(kind: Kind) -> None:
    placeholders = {
        language: {
            key: {name for _, name, _, _ in Formatter().parse(phrase) if name} for key, phrase in translation.items()
        }
        for language in LANGUAGES_OF[kind]
        for translation in [phrases(language, kind)]
    }
    english = placeholders.pop("en")
    for language, others in placeholders.items():
        assert others.keys() == english.keys(), language
        for key in english.keys() - {".headline.days", ".topics.more"}:
            assert others[key] - {"n"} == english[key] - {"n"}, f"{language}: {key}"


def test_every_verdict_and_every_reason_has_its_words() -> None:
    for language in LANGUAGES:
        words = Words(language)
        for kpi, ladder in LADDERS.items():
            for _, found in ladder:
                assert words(f"kpis.{kpi}.{found}")
                assert words(f"kpis.{kpi}.sentences.{found}", value="", points="", coverage="")
        assert all(words(f"why.{reason.name}") for reason in NullReason)


def test_korean_and_english_reports_contain_only_words_of_their_language() -> None:
    for kpis in (GOOD, missing(P="NO_TARGET", I_t="FEW_RECENT", E_t="FEW_TIMED_RECENT", R_t="NOTHING_WRONG")):
        korean = text(page(replace(FACTS, lang="ko", kpis=kpis, zone="UTC", name="김하늘")))
        assert not set(re.findall(r"[A-Za-z]{2,}", korean)) - {"algebra", "geometry", "fractions", "statistics", "UTC"}
        assert not re.search(r"[가-힣]", text(page(replace(FACTS, kpis=kpis))))


def test_verdicts_cover_the_whole_range_of_each_kpi() -> None:
    assert set(LADDERS) == set(KPIS) == set(RANGES)
    for kpi, (low, high) in RANGES.items():
        assert verdict(kpi, low) == LADDERS[kpi][-1][1]
        assert verdict(kpi, high) == LADDERS[kpi][0][1]
        assert [limit for limit, _ in LADDERS[kpi]] == sorted((limit for limit, _ in LADDERS[kpi]), reverse=True)


@pytest.mark.parametrize("value", [1.01, -0.01, float("nan")])
def test_kpi_out_of_range_is_refused_with_its_value(value: float) -> None:
    with pytest.raises(ValueError, match=r"P = .*, expected 0 to 1"):
        verdict("P", value)


@pytest.mark.parametrize(
    ("attribute", "language"),
    [
        ("ko", "ko"),
        ("ko-KR", "ko"),
        ("KO_kr", "ko"),
        ("en-GB", "en"),
        ("de", "en"),
        ("", "en"),
        (None, "en"),
        (7, "en"),
    ],
)
def test_report_is_in_the_learners_language_if_the_language_is_supported(attribute: object, language: str) -> None:
    assert language_of(attribute) == language


def test_letter_is_in_german_for_german_learners() -> None:
    assert [language_of(attribute, "letter") for attribute in ("de-AT", "ko", "fr")] == ["de", "ko", "en"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("english", {}),
        ("korean", {"lang": "ko", "name": None, "topics": (replace(STRONG, name="대수"), WEAK)}),
        ("one_answer", {"answers": 1, "correct": 1, "days": 1, "levels": (Level(MONDAY, 0.0, 0.6),)}),
        (
            "nothing_known",
            {"answers": 0, "correct": 0, "days": 0, "levels": (), "scale_id": None, "topics": (), "name": None}
            | {"kpis": missing(P="NO_TARGET", I_t="FEW_RECENT", E_t="FEW_TIMED_RECENT", R_t="NOTHING_WRONG")},
        ),
    ],
)
def test_report_shows_the_learners_facts_in_their_language(picture: Picture, name: str, change: dict[str, Any]) -> None:
    """Dates are written as usual in the language, and times in the bank's zone. A topic without a name in that language
    is shown by its id. θ = 0.4 ± 1.96 · 0.3 of N(0, 1) is above Φ(0.4) = 66 of 100 learners, between Φ(−0.188) and
    Φ(0.988)."""
    picture(page(replace(FACTS, **change)), name)


def test_week_that_includes_new_year_is_shown_with_both_years() -> None:
    assert Words("en").week(date(2026, 12, 28)) == "Week of 28 December 2026 to 3 January 2027"
    assert Words("ko").week(date(2026, 12, 28)) == "2026년 12월 28일 ~ 2027년 1월 3일"


def test_level_is_a_percentile_of_the_scales_population() -> None:
    moved = replace(FACTS, mu=10.0, sigma=2.0, target=11.0, levels=(Level(MONDAY, 10.8, 0.6),))
    assert "about 66 in 100" in text(page(moved))


def test_extreme_level_is_never_described_as_above_all_learners() -> None:
    assert "between 98 and 99" in text(page(replace(FACTS, levels=(Level(MONDAY, 4.0, 1.0),))))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"levels": ()}, "You haven’t answered enough questions yet to measure your level"),
        ({"kpis": GOOD | {"S": None, "why": {"S": "a reason of tomorrow"}}}, "It couldn’t be calculated this week"),
        ({"kpis": GOOD | {"assumed": {"A_t": ["hints"]}}}, "Part of this wasn’t recorded"),
        ({"kpis": GOOD | {"P": 0.999}}, "is over 95%"),
        ({"kpis": GOOD | {"P": 0.0}}, "is under 5%"),
        ({"kpis": GOOD | {"P": 0.34}}, "is about 34%"),
    ],
)
def test_missing_or_extreme_values_are_explained_in_the_report(change: dict[str, Any], sentence: str) -> None:
    assert sentence in text(page(replace(FACTS, **change)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_markup_in_names_topics_and_ids_is_escaped(language: str) -> None:
    evil = "<script>alert('x')</script>{{ 7 * 7 }}{name}&amp;"
    topics = tuple(replace(topic, topic_id=evil) for topic in (STRONG, WEAK))
    for facts in (
        replace(FACTS, lang=language, name=evil, topics=topics, answers=0),
        replace(FACTS, lang=language, name=None, user_id=evil, topics=topics),
    ):
        html = page(facts)
        assert "<script" not in html
        assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{ 7 * 7 }}{name}&amp;amp;") >= 3


def test_report_refers_to_no_external_file() -> None:
    assert not re.search(r"(src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page(FACTS))


def test_topic_with_few_answers_has_no_verdict_on_strength() -> None:
    assert [topic.verdict for topic in (STRONG, WEAK, EVEN, FEW)] == ["strong", "weak", "even", "few"]


def test_topics_are_sorted_by_difference_and_the_remaining_topics_are_counted() -> None:
    weak = [replace(WEAK, topic_id=f"t{n}", difference=-0.5 - n / 10) for n in range(5)]
    assert [topic.topic_id for topic in sorted_topics(weak, "weak")] == ["t4", "t3", "t2", "t1", "t0"]
    assert "and 2 more" in text(page(replace(FACTS, topics=tuple(weak))))


@pytest.mark.parametrize(
    ("kpis", "topics", "answered", "steps"),
    [
        (GOOD, [], True, ["keep_going"]),
        (GOOD | {"P": 0.04}, [], True, ["easier"]),
        (GOOD | {"P": 0.04}, [WEAK], True, ["weak"]),
        (GOOD, [STRONG, WEAK, FEW], True, ["weak", "harder"]),
        (GOOD, [WEAK], False, ["come_back_topic"]),
        (GOOD | {"S": 1.0, "A_t": 0.0}, [], False, ["come_back"]),
        (missing(R_t="NOT_AGAIN") | {"S": 0.4}, [WEAK], True, ["weak", "retry", "routine"]),
        (GOOD | {"R_t": 0.2}, [], True, ["explain"]),
        (GOOD | {"R_t_coverage": 0.2}, [], True, ["retry"]),
        (missing(R_t="NOTHING_WRONG", I_t="FEW_RECENT", P="NO_TARGET"), [], True, ["new_questions", "set_goal"]),
        (GOOD | {"P": 0.95}, [STRONG], True, ["raise_goal", "harder"]),
        (missing(R_t="NOT_AGAIN", I_t="FEW_PREVIOUS", P="NO_TARGET") | {"S": 0.9}, [WEAK, STRONG], True, None),
    ],
)
def test_report_proposes_the_most_urgent_next_steps(
    kpis: dict[str, Any], topics: list[Topic], answered: bool, steps: list[str] | None
) -> None:
    found = [key for key, _ in next_steps(kpis, topics, answered=answered)]
    assert found == (steps or ["weak", "retry", "routine"])
    assert all(Words(language)(f"steps.{key}", topic="") for key in found for language in LANGUAGES)


def test_curve_stays_inside_the_drawing_if_a_level_is_extreme() -> None:
    levels = [Level(MONDAY + timedelta(days=n), theta, 3.0) for n, theta in enumerate([-9.0, 0.0, 9.0])]
    chart = curve(levels, 40.0, mu=0.0, sigma=1.0, axis="a", goal="<b>", ends=["x", "y"], description="")
    drawn = chart.to_svg(bare=True)
    numbers = [float(n) for pair in re.findall(r"[M\" ](-?[\d.]+)[ ,](-?[\d.]+)[h\" ]", drawn) for n in pair]
    assert numbers
    assert all(0 <= n <= 480 for n in numbers)
    assert "&lt;b&gt;" in drawn


def test_a_population_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="SD must be above 0"):
        curve([Level(MONDAY, 0.0, 1.0)], None, mu=0.0, sigma=0.0, axis="", goal="", ends=["", ""], description="")


# -- θ -----------------------------------------------------------------------------------------------
# θ on a learner's page.

NOW = datetime(2026, 10, 20, tzinfo=UTC)


def theta(value: float, se: float, kind: str, end: datetime, as_of: datetime | None, scale: str = "default") -> Theta:
    return Theta(scale, value, se, None, 40, kind, end, "set", 1, end, as_of, "run")


LAST = theta(0.6, 0.2, "nightly", NOW - timedelta(days=5), NOW - timedelta(days=14))
FIRST = theta(0.2, 0.3, "monthly", NOW - timedelta(days=50), NOW - timedelta(days=56))


ANSWERED = [one.as_of.timestamp() / 86_400 for one in (FIRST, LAST) if one.as_of]


def test_theta_is_drawn_at_the_time_of_its_last_answer_with_its_interval() -> None:
    chart = theta_over_time([LAST, FIRST], "UTC").chart
    of_month, of_night = points(chart)
    assert [of_month.xs, of_night.xs] == [[x] for x in ANSWERED]
    assert of_night.high == [pytest.approx(0.6 + 1.96 * 0.2, abs=1e-5)]


@pytest.mark.parametrize(("as_of", "day"), [(LAST.as_of, "2026-10-06"), (None, "2026-10-15")])
def test_sentence_on_theta_gives_the_date_of_its_last_answer_or_of_its_window(as_of: datetime | None, day: str) -> None:
    one = theta(0.6, 0.2, "nightly", LAST.window_end, as_of)
    text = str(learner_in_short(Learner("u", False, "default", 1.0), {"default": one}, "UTC"))
    assert "from 40 answers as of " in text
    assert day.replace("-", ", ").replace(", 0", ", ") in text


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (NOW - timedelta(days=70), "have not been computed yet"),
        (NOW - timedelta(days=366), "No live answer in the last 365"),
    ],
)
def test_activity_does_not_claim_inactivity_if_features_have_not_been_computed_yet(
    last: datetime, sentence: str
) -> None:
    assert sentence in str(activity([], last, NOW))


def test_report_has_the_score_in_words_of_its_language() -> None:
    score = {"scale": "main", "form": "booklet-a", "sat_on": MONDAY, "scaled": "512.5", "low": "430", "high": "590"}
    score |= {"rank": 63, "passes": True}
    assert "Your score" not in page(FACTS)
    english = text(page(replace(FACTS, scores=(score,))))
    assert (
        "Your score In the test booklet-a on 9 November 2026 you got a score of 512.5. Your true score is very likely "
        "between 430 and 590. About 63 in 100 learners in the comparison group got a lower score. You passed."
    ) in english
    korean = text(page(replace(FACTS, lang="ko", scores=(score | {"rank": None, "passes": None},))))
    assert "나의 점수" in korean
    assert "512.5점" in korean
    assert "합격" not in korean
    other = score | {"scale": "second", "passes": False, "rank": 99}
    both = text(page(replace(FACTS, scores=(score, other))))
    assert "main: In the test" in both
    assert "About 99 in 100 learners in the comparison group got a lower score. This is not yet enough to pass." in both


def test_hash_of_a_report_covers_every_module_that_renders_reports() -> None:
    """Otherwise a change of a helper would leave old reports in place, or change them without being noticed."""
    graph = grimp.build_graph("irt_assets", "resources")
    renderer = learner_processes.__name__
    imported = {renderer, *graph.find_upstream_modules(renderer)}
    imported -= {module for module in imported if module.startswith("irt_assets.blocks")}
    imported -= {"resources.failures"}  # classes of exceptions
    assert {module.__name__ for module in RENDERERS} == imported
