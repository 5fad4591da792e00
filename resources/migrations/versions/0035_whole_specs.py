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


def _absent(nothing: str, lists: str = "", objects: str = "", **others: Any) -> dict[str, Any]:
    """Keys with the value of one that is absent: null, a list or an object without anything in it, or another."""
    found: dict[str, Any] = dict.fromkeys(nothing.split()) | {name: [] for name in lists.split()}
    return found | {name: {} for name in objects.split()} | others


_OF_EVERY_FIT = _absent(
    "model scale_priors priors assignment shape sample testlets misfit draws sampling snapshot fit_statistics",
    "provisional never_published populations",
    "eligibility left_out pooled passed_over answers_from",
    version=1,
)
_MEASURES = "ratio rmsea unlikely random"
_WITHIN = {
    "shape": _absent("normality histogram_gain guessing_gain"),
    "testlets": _absent("raw_sd", why=""),
    "misfit": _absent("ratio why", "ratio_together", "growth now before together", fit_id="", lost=False, items=0),
    "misfit,growth": _absent(f"dependence {_MEASURES} chance"),
    "misfit,now": _absent(_MEASURES),
    "misfit,before": _absent(_MEASURES),
    "misfit,together": _absent("", "dependence ratio"),
    "linking_constants": _absent("", "warnings", "suspects q_shifts", q=0.0, q_df=0, q_p=1.0, share_kept=1.0)
    | {"weighted": True, "symmetric": False, "diagnosis": "", "slope_intercept_cov": 0.0},
    "impact": _absent("pass_theta compared_with"),
}
_OF_THE_SET = {
    "": _absent("halves", objects="loadings"),
    ",lz": _absent("rare"),
    ",q3": _absent("", "clusters"),
    ",parallel": _absent("se", "under_model together", learners=0),
}
_WHOLE = {
    ("fit_staging", "spec"): {"": _OF_EVERY_FIT | _absent("latent linking_constants")}
    | _WITHIN
    | {f"fit_statistics,set{at}": keys for at, keys in _OF_THE_SET.items()},
    ("mirt_fit_meta", "model_spec"): {"": _OF_EVERY_FIT | _absent("impact", objects="software")}
    | _WITHIN
    | {f"fit_statistics{at}": keys for at, keys in _OF_THE_SET.items()},
}
"""By table and column the keys of each object in it, by its path, with the value of one that is absent."""
_NOT_MEASURED = {"why": "not judged then: the month was linked before there was this gate", "sd": 1.0} | dict.fromkeys(
    ("learners", "items", "shift", "shift_se", "scored", "newly_passed", "newly_failed", "flip_se"), 0
)
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
