"""Fits, publications, proposals, decisions, anchors and the state of months, as rows and as dataclasses.

The only home of SQL on these tables: `fit_staging`, `mirt_fit_meta`, `mirt_item_params`, `month_impact`,
`item_parameter_publication`, `item_parameter_current`, `testlet_sd_publication`, `month_verdict`,
`item_parameter_proposal`, `movement_proposal`, `release_decision`, `standing_decision`, `anchor_set`, and writes of
`calibration_scale`. A query belongs here, with the type of its rows. The meaning of a row belongs to the caller:
verdicts, gates, pages, metrics and sentences are not made here.
"""
