"""What is stored with a fit has every key. What was absent said what the value says that stands there now: nothing is
known, or there was none.

The way back leaves the keys, but for a snapshot that there is not: earlier code takes the key for a file.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0035_whole_specs"
down_revision = "0034_data_version"
oldest_code = "0035_whole_specs"

_MEASURES = dict.fromkeys(("ratio", "rmsea", "unlikely", "random"))
_OF_EVERY_FIT: dict[str, Any] = {
    "version": 1,
    "model": None,
    "scale_priors": None,
    "eligibility": {},
    "provisional": [],
    "never_published": [],
    "left_out": {},
    "priors": None,
    "assignment": None,
    "populations": [],
    "shape": None,
    "sample": None,
    "testlets": None,
    "misfit": None,
    "draws": None,
    "sampling": None,
    "snapshot": None,
    "pooled": {},
    "passed_over": {},
    "answers_from": {},
    "fit_statistics": None,
}
_WITHIN: dict[str, dict[str, Any]] = {
    "shape": {"normality": None, "histogram_gain": None, "guessing_gain": None},
    "testlets": {"why": "", "raw_sd": None},
    "misfit": {
        "fit_id": "",
        "ratio": None,
        "ratio_together": [],
        "why": None,
        "lost": False,
        "items": 0,
        "growth": {},
        "now": {},
        "before": {},
        "together": {},
    },
    "misfit,growth": _MEASURES | {"dependence": None, "chance": None},
    "misfit,now": _MEASURES,
    "misfit,before": _MEASURES,
    "misfit,together": {"dependence": [], "ratio": []},
    "linking_constants": {
        "q": 0.0,
        "q_df": 0,
        "q_p": 1.0,
        "share_kept": 1.0,
        "warnings": [],
        "weighted": True,
        "symmetric": False,
        "suspects": {},
        "diagnosis": "",
        "q_shifts": {},
        "slope_intercept_cov": 0.0,
    },
    "impact": {"pass_theta": None, "compared_with": None},
}
_OF_THE_SET: dict[str, dict[str, Any]] = {
    "": {"loadings": {}, "halves": None},
    ",lz": {"rare": None},
    ",q3": {"clusters": []},
    ",parallel": {"under_model": [], "se": None, "learners": 0, "together": []},
}
_WHOLE = {
    ("fit_staging", "spec"): {"": _OF_EVERY_FIT | {"latent": None, "linking_constants": None}}
    | _WITHIN
    | {f"fit_statistics,set{at}": keys for at, keys in _OF_THE_SET.items()},
    ("mirt_fit_meta", "model_spec"): {"": _OF_EVERY_FIT | {"software": {}, "impact": None}}
    | _WITHIN
    | {f"fit_statistics{at}": keys for at, keys in _OF_THE_SET.items()},
}
"""By table and column the keys of each object in it, by its path, with the value of one that is absent."""
_NOT_MEASURED = {
    "why": "not judged then: the month was linked before there was this gate",
    "learners": 0,
    "items": 0,
    "shift": 0.0,
    "shift_se": 0.0,
    "sd": 1.0,
    "scored": 0,
    "newly_passed": 0,
    "newly_failed": 0,
    "flip_se": 0.0,
}
_NOT_COMPARED = {"reference": "earlier months", "why": "misfit was not judged when it was fitted"}


def upgrade() -> None:
    run = op.get_bind().execute
    # What was fitted before specs had a version is not held for what nobody looked at then.
    run(
        sa.text(
            """UPDATE fit_staging SET spec = CAST(:misfit AS jsonb) || spec
               WHERE jsonb_typeof(spec) = 'object' AND NOT spec ? 'version' AND calibration IS NOT NULL"""
        ),
        {"misfit": json.dumps({"misfit": _NOT_COMPARED})},
    )
    run(
        sa.text(
            """UPDATE mirt_fit_meta SET model_spec = CAST(:impact AS jsonb) || model_spec
               WHERE jsonb_typeof(model_spec) = 'object' AND NOT model_spec ? 'version'
                 AND kind = 'monthly'"""
        ),
        {"impact": json.dumps({"impact": _NOT_MEASURED})},
    )
    op.execute(
        """
        CREATE FUNCTION whole_spec(spec jsonb, keys jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
        DECLARE
            at text[];
            absent jsonb;
        BEGIN
            FOR at, absent IN SELECT string_to_array(one->>0, ','), one->1 FROM jsonb_array_elements(keys) one LOOP
                IF at = '{}' THEN
                    spec := absent || spec;
                ELSIF jsonb_typeof(spec #> at) = 'object' THEN
                    spec := jsonb_set(spec, at, absent || (spec #> at));
                END IF;
            END LOOP;
            RETURN spec - 'other_shape';
        END $$
        """
    )
    for (table, column), keys in _WHOLE.items():
        run(
            sa.text(
                f"UPDATE {table} SET {column} = whole_spec({column}, CAST(:keys AS jsonb)) "
                f"WHERE jsonb_typeof({column}) = 'object'"
            ),
            {"keys": json.dumps([*keys.items()])},
        )
    op.execute("DROP FUNCTION whole_spec")


def downgrade() -> None:
    for table, column in _WHOLE:
        op.execute(f"UPDATE {table} SET {column} = {column} - 'snapshot' WHERE {column}->'snapshot' = 'null'")
