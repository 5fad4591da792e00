"""An item's parameters stand in one column, whatever its model calls them; a, b, c and their errors are read from it.

jsonb knows no −0, which is kept as a text. Views that read the old columns, people's own as well, are made again as
they were. The way back is refused where a model's own parameters would be lost.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op

from resources.failures import PermanentFailure

revision = "0036_parameters"
down_revision = "0034_data_version"
oldest_code = "0036_parameters"

TABLES = ("item_parameter_publication", "item_parameter_proposal", "anchor_set")
carried = tuple(f"{table}.parameters" for table in TABLES)
COMMENTS = {
    "a": "discrimination, logistic metric (D = 1)",
    "b": "difficulty on the bank''s scale",
    "c": "lower asymptote",
    "a_se": "standard error of a",
    "b_se": "standard error of b",
    "c_se": "standard error of c",
    "cov_ab": "covariance of a and b",
}
REQUIRED = ("a", "b", "c")
IN_FORCE = """
    SELECT DISTINCT ON (scale_id, item_id) {columns}
    FROM item_parameter_publication
    WHERE effective_from <= now()
    ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC"""
COLUMNS_IN_FORCE = """
    publication_id, scale_id, item_id, a, b, c, a_se, b_se, c_se, cov_ab, effective_from, month, fit_id, rule,
    decided_by, reason, replaces, data_hash, anchor_hash, code_version, run_id, published_at"""


def upgrade() -> None:
    values = ", ".join(
        f"'{name}', CASE {name}::text WHEN '-0' THEN to_jsonb({name}::text) ELSE to_jsonb({name}) END"
        for name in COMMENTS
    )
    dropped = ", ".join(f"DROP COLUMN {name}" for name in COMMENTS)
    generated = ", ".join(
        f"ADD COLUMN {name} double precision {'NOT NULL' if name in REQUIRED else ''}"
        f" GENERATED ALWAYS AS ((parameters->>'{name}')::double precision) STORED"
        for name in COMMENTS
    )
    op.execute("SET LOCAL extra_float_digits = 1")
    with _views_made_again():
        for table in TABLES:
            op.execute(
                f"""
                ALTER TABLE {table} ADD COLUMN parameters jsonb;
                COMMENT ON COLUMN {table}.parameters IS
                    'parameters and their errors by the names that the item''s model has for them; an absent one is '
                    'not known';
                UPDATE {table} SET parameters = jsonb_strip_nulls(jsonb_build_object({values}));
                ALTER TABLE {table} ALTER COLUMN parameters SET NOT NULL, {dropped};
                ALTER TABLE {table} {generated};
                """
            )
            for name, comment in COMMENTS.items():
                op.execute(f"COMMENT ON COLUMN {table}.{name} IS '{comment}'")
    op.execute(
        f"CREATE OR REPLACE VIEW item_parameter_current AS {IN_FORCE.format(columns=COLUMNS_IN_FORCE + ', parameters')}"
    )


def downgrade() -> None:
    connection = op.get_bind()
    own = ", ".join(f"'{name}'" for name in COMMENTS)
    for table in TABLES:
        lost = connection.exec_driver_sql(
            f"SELECT count(*) FROM {table} WHERE parameters - ARRAY[{own}] <> '{{}}'::jsonb"
        ).scalar_one()
        if lost:
            raise PermanentFailure(
                f"The schema stays as it is: {lost:,} rows of {table} have parameters of another model than the "
                "earlier one has columns for."
            )
    grants = connection.exec_driver_sql(
        """SELECT 'GRANT ' || privilege_type || ' ON item_parameter_current TO '
                  || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
           FROM pg_class, aclexplode(relacl) WHERE oid = 'item_parameter_current'::regclass"""
    ).scalars()
    op.execute("DROP VIEW item_parameter_current")
    for table in TABLES:
        kept = ", ".join(f"ALTER COLUMN {name} DROP EXPRESSION" for name in COMMENTS)
        op.execute(f"ALTER TABLE {table} {kept}, DROP COLUMN parameters")
    op.execute(f"CREATE VIEW item_parameter_current AS {IN_FORCE.format(columns=COLUMNS_IN_FORCE)}")
    for grant in grants.all():
        op.execute(grant)


@contextmanager
def _views_made_again() -> Iterator[None]:
    """Within the block the views of TABLES have no rows and read nothing; each keeps its columns, comments and
    grants, and what was made of it."""
    cursor = op.get_bind().connection.cursor()  # whose statements may have a percent sign in them
    cursor.execute(
        """
        SELECT DISTINCT v.oid::regclass::text, 'WITH (' || array_to_string(v.reloptions, ', ') || ')',
               pg_get_viewdef(v.oid), (
                 SELECT string_agg('NULL::' || format_type(atttypid, atttypmod) || ' AS ' || quote_ident(attname),
                                   ', ' ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = v.oid AND attnum > 0)
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND v.relkind = 'v' AND d.refobjid = ANY(%s::regclass[])
        """,
        ([*TABLES],),
    )
    views = cursor.fetchall()
    for name, _, _, nothing in views:
        cursor.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {nothing} WHERE false")
    yield
    for name, options, query, _ in views:
        cursor.execute(f"CREATE OR REPLACE VIEW {name} {options or ''} AS {query}")
