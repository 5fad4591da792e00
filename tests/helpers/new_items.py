"""Rows of new items for tests."""

PUBLISHABLE = """INSERT INTO item_pipeline
                   (scale_id, item_id, model, parameters, n, first_at, last_at, measured_at, prior_share, p_gates,
                    e_value, publishable, publishable_at)
                 VALUES ('default', %s, '2pl',
                         '{"a": 1.1, "b": 0.4, "c": 0, "a_se": 0.2, "b_se": 0.2, "cov_ab": 0.005}', 210,
                         '2026-06-01', '2026-06-20', '2026-06-10', 0.15,
                         '{"positive_a": 1, "max_abs_b": 1, "max_b_se": 1, "max_rmsd": 1}', 0.8, true, '2026-06-21')"""
"""Insert a publishable item. Value: the item."""
