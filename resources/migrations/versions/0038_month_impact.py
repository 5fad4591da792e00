"""What a month does to θ stands in a table of its own, not in the spec of the fit that it was measured of.

The way back puts it into the specs again.
"""

from alembic import op

revision = "0038_month_impact"
down_revision = "0037_search_path"
oldest_code = "0038_month_impact"

MEASURED = {
    "why": ("text NOT NULL", "why nothing could be compared, else empty; the numbers are then 0"),
    "learners": ("integer NOT NULL", "learners behind the shift"),
    "items": ("integer NOT NULL", "items behind the shift: in force, fitted again and not anchors"),
    "shift": ("double precision NOT NULL", "mean change of θ"),
    "shift_se": ("double precision NOT NULL", "its standard error"),
    "sd": ("double precision NOT NULL", "SD of the scale''s population"),
    "pass_theta": ("double precision", "the scale''s pass mark; null where it has none"),
    "scored": ("integer NOT NULL", "learners whose θ is reported"),
    "newly_passed": ("integer NOT NULL", "of them, who pass by the month''s values alone"),
    "newly_failed": ("integer NOT NULL", "of them, who fail by the month''s values alone"),
    "flip_se": ("double precision NOT NULL", "standard error of the net share that crosses the pass mark"),
    "compared_with": ("text", "digest of the values in force that it was measured against; null where not known"),
}
carried = ("month_impact", *(f"month_impact.{name}" for name in ("fit_id", *MEASURED)))


def upgrade() -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in MEASURED.items())
    stored = columns.replace(" NOT NULL", "")
    op.execute(
        f"""
        CREATE TABLE month_impact (fit_id text NOT NULL, {columns}, PRIMARY KEY (fit_id));
        COMMENT ON TABLE month_impact IS
            'What a month''s linked fit does to θ: its answers scored with the values in force and with the month''s '
            'own.';
        COMMENT ON COLUMN month_impact.fit_id IS 'fit';
        INSERT INTO month_impact
            SELECT fit_id, impact.* FROM mirt_fit_meta, jsonb_to_record(model_spec->'impact') AS impact ({stored})
            WHERE jsonb_typeof(model_spec->'impact') = 'object';
        UPDATE mirt_fit_meta SET model_spec = model_spec - 'impact' WHERE jsonb_typeof(model_spec) = 'object';
        """
    )
    for name, (_, comment) in MEASURED.items():
        op.execute(f"COMMENT ON COLUMN month_impact.{name} IS '{comment}'")


def downgrade() -> None:
    op.execute(
        """
        UPDATE mirt_fit_meta f SET model_spec = model_spec || jsonb_build_object('impact', (
            SELECT to_jsonb(i) - 'fit_id' FROM month_impact i WHERE i.fit_id = f.fit_id))
        WHERE jsonb_typeof(model_spec) = 'object';
        DROP TABLE month_impact;
        """
    )
