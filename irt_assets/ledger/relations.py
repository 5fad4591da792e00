"""SQL relations over fits that several queries read."""

from typing import LiteralString

LATEST_FIRST: LiteralString = "fitted_at DESC, fit_id DESC"
"""Order of attempts at a fit, latest first; the first one counts."""
TIME_OF_ATTEMPT: LiteralString = """(SELECT greatest(now(), max(fitted_at) + interval '1 microsecond') FROM fit_staging
                          WHERE (month, scale_id, engine) = (%s, %s, %s))"""
"""Time of a new attempt at a month of a scale with an engine, later than all earlier attempts even if the clock was set
back."""
LATEST_STAGED: LiteralString = f"""(SELECT DISTINCT ON (month, scale_id, engine) * FROM fit_staging
                                   ORDER BY month, scale_id, engine, {LATEST_FIRST})"""
"""The latest attempt to fit each month of each scale with each engine, as a relation. Filter it from outside:
PostgreSQL then reads no other attempts."""
IN_USE: LiteralString = "(SELECT * FROM mirt_fit_meta WHERE superseded_at IS NULL)"
"""The linked fits that no later one of their window has superseded, as a relation."""
MONTHS_IN_USE: LiteralString = f"""(SELECT *, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') AS month
                                   FROM {IN_USE} in_use WHERE kind = 'monthly')"""
"""The linked fits in use of months, each with its `month`, as a relation."""
ORIGIN_WINDOW: LiteralString = "the origin window"
ORIGINS_IN_USE: LiteralString = f"""(SELECT *, '{ORIGIN_WINDOW}' AS month FROM {IN_USE} in_use
                                    WHERE kind = 'origin')"""
"""The linked fits in use of origin windows, with ORIGIN_WINDOW as their `month`, as a relation."""
NEWEST_WINDOW: LiteralString = f"""(SELECT * FROM (SELECT * FROM {MONTHS_IN_USE} m
                                                UNION ALL SELECT * FROM {ORIGINS_IN_USE} o) w
                                  WHERE (scale_id, engine) = (%(scale)s, %(engine)s)
                                  ORDER BY kind, month DESC LIMIT 1)"""
"""The newest month that the engine of a scale linked, or else the origin window, as a relation."""
FIT_SETTINGS: LiteralString = """jsonb_build_object('model', spec->'model', 'scale_priors', spec->'scale_priors',
                                            'latent', spec->'latent',
                                            'occasions', coalesce(spec->>'occasions', 'month'),
                                            'scored_items', coalesce(spec->'scored_items', '{}'))"""
"""The keys of a staged fit's spec that `fit_spec.FitSettings` reads."""
