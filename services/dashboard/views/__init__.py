"""The views, each in a module, in the order of the menu. An address without `view=` shows the first."""

from services.dashboard.page import View
from services.dashboard.views import (
    anchors,
    arrivals,
    bank,
    compare,
    decisions,
    form,
    health,
    item,
    kpis,
    learner,
    learners,
    month,
    months,
    proposal,
    rekey,
    reports,
    scale,
)

VIEWS: tuple[View, ...] = (
    View("months", months.page, menu="Months", server=months.server),
    View("month", month.page, server=month.server),
    View("compare", compare.page, menu="Compare"),
    View("bank", bank.page, menu="Items"),
    View("item", item.page, server=item.server),
    View("scale", scale.page, menu="Scale", server=scale.server),
    View("forms", form.forms_page, menu="Forms"),
    View("form", form.page),
    View("decisions", decisions.page, menu="Decisions"),
    View("proposal", proposal.page, server=proposal.server),
    View("anchors", anchors.page, server=anchors.server),
    View("rekey", rekey.page, server=rekey.server),
    View("learners", learners.page, menu="Learners"),
    View("learner", learner.page),
    View("kpis", kpis.page, menu="KPIs"),
    View("reports", reports.page, menu="Reports"),
    View("arrivals", arrivals.page, menu="Arrivals"),
    View("health", health.page, menu="Checks and alerts"),
)
