"""The invariants of score tables, which must match their hash, of issued scores, which must match their tables, and of
forms, which are scored in one way.
"""

from irt_assets.invariants.invariant import Findings, InvariantContext, Violation, invariant
from irt_assets.scores.form_tables import hash_contents
from resources.postgres.form_names import CLASH_FIX, clashing_names


@invariant(
    kind="score tables",
    protects="A score table contains the scores with which it was made, so that a score can be explained years later.",
    fix="Find out who changed the row: score tables are only ever added. Restore it from a backup.",
    note="The hash is computed again from the items, the specification and the scores in each table's row.",
)
def score_tables_match_their_hash(context: InvariantContext) -> Findings:
    rows = context.connection.execute(
        """SELECT table_id, table_hash, scale_id, form_id, method, spec, scores FROM score_table ORDER BY table_id"""
    )
    for table_id, stored, scale_id, form_id, *contents in rows:
        computed = hash_contents(scale_id, form_id, *contents)
        if computed != stored:
            subject = f"{scale_id}: table {table_id} of form {form_id}"
            yield Violation(subject, f"contents with hash {computed[:12]}…", f"{stored[:12]}…")


@invariant(
    kind="forms",
    protects="Every sitting is scored in one way: by the form's score table, or by θ of the adaptive test.",
    fix=CLASH_FIX,
)
def forms_and_adaptive_tests_have_different_names(context: InvariantContext) -> Findings:
    for name in clashing_names(context.connection):
        yield Violation(name, "a form and an adaptive test", "one of the two")


@invariant(
    kind="learners",
    protects="Every score that was handed out by a table is the table's score, and a pass is a pass everywhere.",
    fix="Find out who changed the row: scores and tables are only ever added. Restore it from a backup.",
    note="The raw score's θ, scaled score, errors, percentile and pass in the cited table are compared with the issued "
    "ones.",
)
def issued_scores_agree_with_their_tables(context: InvariantContext) -> Findings:
    numbers = "theta", "theta_se", "scaled", "scaled_se", "percentile", "passes"
    issued, expected = (", ".join(f"{table}.{name}" for name in numbers) for table in ("issued_score", "expected"))
    rows = context.connection.execute(
        f"""SELECT user_id, form_id, raw, table_id, ARRAY[{issued}]::text[], ARRAY[{expected}]::text[]
            FROM issued_score LEFT JOIN (
              SELECT table_id, scale_id, form_id, place - 1 AS raw, theta::float8, theta_se::float8, scaled::float8,
                     scaled_se::float8, percentile::float8,
                     CASE WHEN jsonb_typeof(spec->'mark') = 'number' THEN passes::boolean END AS passes
              FROM score_table, ROWS FROM (
                jsonb_array_elements_text(scores->'theta'), jsonb_array_elements_text(scores->'se'),
                jsonb_array_elements_text(scores->'scaled'), jsonb_array_elements_text(scores->'scaled_se'),
                jsonb_array_elements_text(scores->'percentile'), jsonb_array_elements_text(scores->'passes')
              ) WITH ORDINALITY AS of_raw (theta, theta_se, scaled, scaled_se, percentile, passes, place)
            ) expected USING (table_id, scale_id, form_id, raw)
            WHERE raw IS NOT NULL AND ({issued}) IS DISTINCT FROM ({expected})
            ORDER BY issued_id"""
    )
    for user, form, raw, table, *found in rows:
        differing = [(name, *each) for name, *each in zip(numbers, *found, strict=True) if each[0] != each[1]]
        observed, of_table = (", ".join(f"{name} {each[k]}" for name, *each in differing) for k in (0, 1))
        yield Violation(user, f"{observed} for raw score {raw} on form {form}", f"{of_table} by table {table}")
