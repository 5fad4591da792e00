"""Learners in the order of their ids, and a search by the beginning of an id."""

from collections.abc import Mapping

from irt_assets.abilities.online import Learner, Theta, default_scale, find_learner, find_learners, read_latest_thetas
from irt_assets.blocks import Cell, Moment, Paragraph, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.reports.learner_blocks import as_of
from irt_assets.responses.learner_answers import points_of_last_month
from services.dashboard.address_fields import whole_number
from services.dashboard.elements import download_links, query_form, shorten, text_field, turn_pages
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotAllowed, Page, ViewRequest

MAX_SHOWN = 50
MAX_FIRST = 99_999_999
Points = Mapping[tuple[str, str], tuple[str, int, int]]


def page(request: ViewRequest) -> Page:
    refuse_below_analyst(request)
    prefix = request.fields.get("search", "")
    zone = request.reader.settings.irt_time_zone
    first = whole_number(request, "first", "place in this list", 0, 0, MAX_FIRST)
    found, thetas, points = _search(request, prefix, first)
    return Page(
        "Learners",
        render_blocks(
            Paragraph(_answer(prefix, first, len(found)), "lead"),
            query_form("learners", text_field("The id begins with", "search", prefix), button="Search"),
            Paragraph("A learner who has answers but was never imported is found only by the whole id."),
            table(
                ("learner", "target scale", "θ", "standard error", "as of", "raw score", "remarks"),
                [_row(learner, thetas.get(learner.user_id, {}), points, zone) for learner in found[:MAX_SHOWN]],
                numbers={"θ": ".2f", "standard error": ".2f", "raw score": ""},
                caption="Learners in the order of their ids, each with the θ of the latest answers, and the points on "
                "its scale in the last month with answers that count",
                small=True,
            ),
            turn_pages("learners", first, MAX_SHOWN, first + len(found), search=prefix),
            download_links("The θ of all learners as a file:", "abilities"),
        ),
    )


def refuse_below_analyst(request: ViewRequest) -> None:
    """Raise NotAllowed if the sender has no role from analyst up."""
    if not request.identity.has_role("analyst"):
        raise NotAllowed(
            "Data of individual learners is personal: only analysts and higher roles see it. The person who assigns "
            "your login's roles can give you the role analyst."
        )


def cannot_be_an_id(text: str) -> bool:
    """Whether PostgreSQL cannot store the text."""
    return "\x00" in text


def _search(
    request: ViewRequest, prefix: str, first: int
) -> tuple[list[Learner], Mapping[str, Mapping[str, Theta]], Points]:
    """The learners that are found, from `first` on, with the latest θ and the points of the shown ones.

    More than `MAX_SHOWN` learners are returned if there are more, but not all of them.
    """
    if cannot_be_an_id(prefix):
        return [], {}, {}
    with request.reader.connect() as connection:
        found = find_learners(connection, prefix, MAX_SHOWN + 1, first)
        if prefix and not first and prefix not in {learner.user_id for learner in found}:
            exact = find_learner(connection, prefix)
            found = [*([exact] if exact else []), *found]
        shown = [learner.user_id for learner in found[:MAX_SHOWN]]
        return found, read_latest_thetas(connection, shown), points_of_last_month(connection, shown)


def _answer(prefix: str, first: int, n: int) -> str:
    begins = f"whose id begins with {shorten(prefix)}" if prefix else "in all"
    if first or n > MAX_SHOWN:
        places = f"{first + 1:,} to {first + min(n, MAX_SHOWN):,}" if n else "no more"
        return f"Who is it? There are more than {MAX_SHOWN} learners {begins}; here are {places}."
    if n:
        return f"Who is it? {n} learner{'' if n == 1 else 's'} {begins}."
    return f"No learner {begins}: ids are case-sensitive, and are searched from their beginning."


def _row(learner: Learner, thetas: Mapping[str, Theta], points: Points, zone: str) -> tuple[Cell, ...]:
    scale = default_scale(learner, thetas) or ""
    theta = thetas.get(scale)
    month, score, maximum = points.get((learner.user_id, scale), ("", 0, 0))
    return (
        page_link(learner.user_id, "learner", user=learner.user_id),
        learner.target_scale_id,
        theta.theta if theta else None,
        theta.se if theta else None,
        Moment(as_of(theta), zone) if theta else None,
        f"{score:,} of {maximum:,} in {month}" if month else None,
        "test account, never scored" if learner.is_test else "",
    )
