"""Placing a fit on its scale: the frozen anchors and the linking."""

from dataclasses import dataclass

import psycopg

from irt_assets.gates.month_status import no_origin
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.responses.scales import Scale
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError
from irt_psychometrics.linking import AnchorSet, Linking, link


@dataclass(frozen=True)
class LinkResult:
    """A fit on the bank's scale, or the reason why it is not there.

    disagreement: why its anchors do not carry it, as the rules of the scale judge them; empty if they do.
    used_agree: whether the anchors used agree with each other, even if they are too few.
    """

    anchors: AnchorSet | None
    linking: Linking | None = None
    disagreement: str = ""
    used_agree: bool = True
    linked: Calibration | None = None
    error: PsychometricsError | None = None


def link_to_scale(connection: psycopg.Connection, scale: Scale, raw: Calibration, window: str) -> LinkResult:
    """Link `raw` to the scale's frozen anchors. `window`: as `irt scale init --origin` would name it."""
    try:
        anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    except PsychometricsError as error:
        return LinkResult(None, error=error)
    if anchors is None:
        return LinkResult(None, error=no_origin(scale, window))
    try:
        with BreakdownError.explained("it could not be linked to the anchors"):
            return _link_result(scale, raw, anchors)
    except PsychometricsError as error:
        return LinkResult(anchors, error=error)


def _link_result(scale: Scale, raw: Calibration, anchors: AnchorSet) -> LinkResult:
    linking = link(raw, anchors, limits=scale.rules.anchor_limits)
    constants, limits = LinkingConstants.from_linking(linking), scale.rules.publication
    used_agree = not constants.used_disagree(limits)
    return LinkResult(anchors, linking, constants.disagreement(limits), used_agree, linking.transform(raw))
