"""Search for learners by the beginning of their id."""

from collections.abc import Mapping

from irt_assets.abilities.online import Learner, Theta, default_scale, find_learner, find_learners, read_latest_thetas
from irt_assets.blocks import Cell, Moment, Paragraph, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.reports.learner_blocks import as_of
from services.dashboard.elements import query_form, shorten, text_field
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotAllowed, Page, ViewRequest

MAX_SHOWN = 50


def page(request: ViewRequest) -> Page:
    refuse_below_analyst(request)
    prefix = request.fields.get("search", "")
    zone = request.reader.settings.irt_time_zone
    found, thetas = _search(request, prefix)
    return Page(
        "Learners",
        render_blocks(
            Paragraph(_answer(prefix, len(found)), "lead"),
            query_form("learners", text_field("The id begins with", "search", prefix), button="Search"),
            Paragraph("A learner who has answers but was never imported is found only by the whole id."),
            table(
                ("learner", "target scale", "θ", "standard error", "as of", "remarks"),
                [_row(learner, thetas.get(learner.user_id, {}), zone) for learner in found[:MAX_SHOWN]],
                numbers={"θ": ".2f", "standard error": ".2f"},
                caption="Learners in the order of their ids, each with the θ of the latest answers",
                small=True,
            ),
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


def _search(request: ViewRequest, prefix: str) -> tuple[list[Learner], Mapping[str, Mapping[str, Theta]]]:
    """The learners that are found, and the latest θ of the shown ones by learner and scale.

    More than `MAX_SHOWN` learners are returned if there are more, but not all of them.
    """
    if cannot_be_an_id(prefix):
        return [], {}
    with request.reader.connect() as connection:
        found = find_learners(connection, prefix, MAX_SHOWN + 1)
        if prefix and prefix not in {learner.user_id for learner in found}:
            exact = find_learner(connection, prefix)
            found = [*([exact] if exact else []), *found]
        return found, read_latest_thetas(connection, [learner.user_id for learner in found[:MAX_SHOWN]])


def _answer(prefix: str, n: int) -> str:
    begins = f"whose id begins with {shorten(prefix)}" if prefix else "in all"
    if n > MAX_SHOWN:
        return f"Who is it? There are more than {MAX_SHOWN} learners {begins}: type more of the id."
    if n:
        return f"Who is it? {n} learner{'' if n == 1 else 's'} {begins}."
    return f"No learner {begins}: ids are case-sensitive, and are searched from their beginning."


def _row(learner: Learner, thetas: Mapping[str, Theta], zone: str) -> tuple[Cell, ...]:
    theta = thetas.get(default_scale(learner, thetas) or "")
    return (
        page_link(learner.user_id, "learner", user=learner.user_id),
        learner.target_scale_id,
        theta.theta if theta else None,
        theta.se if theta else None,
        Moment(as_of(theta), zone) if theta else None,
        "test account, never scored" if learner.is_test else "",
    )
