"""The views, a module each, in the order of the menu; the first is the one that is shown without an address."""

from services.dashboard.page import View
from services.dashboard.views import months

VIEWS: tuple[View, ...] = (View("months", months.page, menu="Months"),)
