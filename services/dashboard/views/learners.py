"""Learners in the order of their ids, and a search by the beginning of an id."""

from collections.abc import Mapping

from htmltools import TagChild

from irt_assets.abilities.online import (
    Learner,
    Theta,
    count_learners,
    default_scale,
    find_learner,
    find_learners,
    read_latest_thetas,
)
from irt_assets.blocks import Cell, Moment, Paragraph, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.reports.learner_blocks import as_of
from irt_assets.responses.learner_answers import MonthPoints, points_of_last_month
from services.dashboard.address_fields import paginate
from services.dashboard.elements import download_links, query_form, shorten, text_field
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotAllowed, Page, ViewRequest

PAGE_SIZE = 50


def page(request: ViewRequest) -> Page:
    refuse_below_analyst(request)
    prefix = request.fields.get("search", "")
    total, rows, pages = _search(request, prefix)
    return Page(
        "Learners",
        render_blocks(
            Paragraph(_answer(prefix, total), "lead"),
            query_form("learners", text_field("The id begins with", "search", prefix), button="Search"),
            Paragraph("A learner who has answers but was never imported is found only by the whole id."),
            table(
                ("learner", "target scale", "θ", "standard error", "as of", "raw score", "remarks"),
                rows,
                numbers={"θ": ".2f", "standard error": ".2f", "raw score": ""},
                caption="Learners in the order of their ids, each with the θ of the latest answers, and the points on "
                "its scale in the last month with answers that count",
                small=True,
            ),
            pages,
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


def _search(request: ViewRequest, prefix: str) -> tuple[int, list[tuple[Cell, ...]], TagChild]:
    """The number of learners that are found, the rows of a page of them, and links to the other pages."""
    if cannot_be_an_id(prefix):
        return 0, [], None
    zone = request.reader.settings.irt_time_zone
    with request.reader.connect() as connection:
        total = count_learners(connection, prefix)
        first, pages = paginate(request, total, PAGE_SIZE)
        found = find_learners(connection, prefix, PAGE_SIZE, first)
        if prefix and not first and prefix not in {learner.user_id for learner in found}:
            exact = find_learner(connection, prefix)
            total, found = total + bool(exact), [*([exact] if exact else []), *found]
        shown = [learner.user_id for learner in found]
        thetas, points = read_latest_thetas(connection, shown), points_of_last_month(connection, shown)
    return total, [_row(learner, thetas.get(learner.user_id, {}), points, zone) for learner in found], pages


def _answer(prefix: str, n: int) -> str:
    begins = f"whose id begins with {shorten(prefix)}" if prefix else "in all"
    if n:
        return f"Who is it? {n:,} learner{'' if n == 1 else 's'} {begins}."
    return f"No learner {begins}: ids are case-sensitive, and are searched from their beginning."


def _row(
    learner: Learner, thetas: Mapping[str, Theta], points: Mapping[tuple[str, str], MonthPoints], zone: str
) -> tuple[Cell, ...]:
    scale = default_scale(learner, thetas) or ""
    theta = thetas.get(scale)
    last = points.get((learner.user_id, scale))
    return (
        page_link(learner.user_id, "learner", user=learner.user_id),
        learner.target_scale_id,
        theta.theta if theta else None,
        theta.se if theta else None,
        Moment(as_of(theta), zone) if theta else None,
        f"{last.points:,} of {last.maximum:,} in {last.month}" if last else None,
        "test account, never scored" if learner.is_test else "",
    )
