"""The views, each in a module, in the order of the menu. An address without `view=` shows the first.

A view without a name in the menu follows the view that leads to it.
"""

from services.dashboard.page import View
from services.dashboard.views import (
    anchors,
    arrivals,
    bank,
    compare,
    decisions,
    equate,
    form,
    health,
    item,
    kpis,
    learner,
    learners,
    month,
    months,
    new_items,
    proposal,
    rekey,
    reports,
    scale,
    test,
)

VIEWS: tuple[View, ...] = (
    View("months", months.page, menu="Months", group="Release", server=months.server),
    View("month", month.page, server=month.server),
    View("compare", compare.page, menu="Compare", group="Release"),
    View("decisions", decisions.page, menu="Decisions", group="Release"),
    View("proposal", proposal.page, server=proposal.server),
    View("anchors", anchors.page, server=anchors.server),
    View("reports", reports.page, menu="Reports", group="Release"),
    View("bank", bank.page, menu="Items", group="Bank"),
    View("item", item.page, server=item.server),
    View("rekey", rekey.page, server=rekey.server),
    View("new_items", new_items.page, menu="New items", group="Bank", server=new_items.server),
    View("scale", scale.page, menu="Scale", group="Bank", server=scale.server),
    View("test", test.page),
    View("forms", form.forms_page, menu="Forms", group="Bank"),
    View("form", form.page, server=form.server),
    View("equate", equate.page, server=equate.server),
    View("learners", learners.page, menu="Learners", group="People"),
    View("learner", learner.page),
    View("kpis", kpis.page, menu="KPIs", group="People"),
    View("arrivals", arrivals.page, menu="Arrivals", group="Health"),
    View("health", health.page, menu="Checks", group="Health", server=health.server),
)
