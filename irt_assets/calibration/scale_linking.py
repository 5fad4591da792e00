"""Put a fit on its scale by linking it to the scale's frozen anchors."""

from dataclasses import dataclass

import psycopg

from irt_assets.gates.month_status import no_origin_error
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.scales.scale import Scale
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError
from irt_psychometrics.linking import AnchorSet, Linking, link_to_anchors


@dataclass(frozen=True)
class LinkResult:
    """A fit on the bank's scale, or the error because of which it could not be put there.

    Attributes:
        anchors: the scale's frozen anchors, or None if it has none, or if they cannot be used.
        linking: the linking, or None if there is an error.
        disagreement: the reason why the anchors cannot link the fit by the scale's rules; empty if they can.
        used_agree: whether the anchors used agree with each other, even if they are too few.
        linked: the fit on the bank's scale, or None if there is an error.
        error: the error that prevented the linking, or None if the fit is linked.
    """

    anchors: AnchorSet | None
    linking: Linking | None = None
    disagreement: str = ""
    used_agree: bool = True
    linked: Calibration | None = None
    error: PsychometricsError | None = None


def link_to_scale(connection: psycopg.Connection, scale: Scale, raw: Calibration, window: str) -> LinkResult:
    """Link `raw` to the scale's frozen anchors. Errors are part of the result.

    `window` is the period of `raw` in the form of `irt scale init --origin`, for the message if the scale has no
    origin.
    """
    try:
        anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    except PsychometricsError as error:
        return LinkResult(None, error=error)
    if anchors is None:
        return LinkResult(None, error=no_origin_error(scale, window))
    try:
        with BreakdownError.explain("it could not be linked to the anchors"):
            return _link_result(scale, raw, anchors)
    except PsychometricsError as error:
        return LinkResult(anchors, error=error)


def _link_result(scale: Scale, raw: Calibration, anchors: AnchorSet) -> LinkResult:
    linking = link_to_anchors(raw, anchors, limits=scale.rules.anchor_limits)
    constants, limits = LinkingConstants.from_linking(linking), scale.rules.publication
    used_agree = not constants.disagreement_of_used(limits)
    return LinkResult(anchors, linking, constants.disagreement(limits), used_agree, linking.transform(raw))
