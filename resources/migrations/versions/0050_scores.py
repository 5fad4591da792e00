"""Answers may have a score from 0 to the maximum score of their item, and the bank says what that is."""

from alembic import op

revision = "0050_scores"
down_revision = "0049_common_q"
oldest_code = "0039_learner_reports"
carried = ("question.max_score",)

VIEW = """
    SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
           r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
           r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at{score}
    FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id
"""
READS_OUR_LOG = """EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_rewrite'::regclass AND refobjid = 'response_log'::regclass
      AND objid = (SELECT oid FROM pg_rewrite WHERE ev_class = to_regclass('attempt')))"""
WITH_SCORE = f"""
    DO $$
    BEGIN
      IF {READS_OUR_LOG} THEN
        CREATE OR REPLACE VIEW attempt AS {VIEW.format(score=", r.score")};
      ELSIF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('attempt') AND attname = 'score') THEN
        EXECUTE format('CREATE OR REPLACE VIEW attempt AS SELECT v.*, NULL::smallint AS score FROM (%s) v',
                       rtrim(pg_get_viewdef(to_regclass('attempt')), ';'));
      END IF;
    END $$
"""
"""A view that was made by hand over other tables keeps its columns, and its answers have no scores."""
MAX_SCORE = r"""
    CASE WHEN meta -> 'irt' ->> 'max_score' ~ '^([1-9]|1[0-9]|20)$' THEN (meta -> 'irt' ->> 'max_score')::smallint END
"""
CHANGED = """
    DROP TRIGGER item_changed ON question;
    CREATE TRIGGER item_changed AFTER UPDATE ON question FOR EACH ROW
        WHEN ((OLD.item_id, OLD.scale_id, OLD.topic_id{old}) IS DISTINCT FROM
              (NEW.item_id, NEW.scale_id, NEW.topic_id{new}))
        EXECUTE FUNCTION count_changed_table();
    ALTER TABLE question ENABLE ALWAYS TRIGGER item_changed;
"""

OF_DIF = """
    COMMENT ON COLUMN dif_analysis.ets_class IS
            'A, B or C by Mantel-Haenszel, of a scored item by its standardised mean difference; '
            'null: not tested';
    COMMENT ON COLUMN dif_analysis.details IS
            'of an item: large (Wald severity high; where not tested, class C), why_not (of the Wald '
            'test; empty: tested), low_power, n {reference, focal} (answers), wald {statistic, df, '
            'severity (none, small, medium, high), wabc, shift, shift_se (difference of expected '
            'scores; below 0: harder for the focal group), delta_a, delta_a_se, delta_b, delta_b_se, '
            'delta_b_95 [low, high] (focal minus reference, in the reference group''s SD; b''s null '
            'where |b| > 6 or a < 0.2 in a group), anchor} or null, within_forms {sittings '
            '{reference, focal}, mantel_haenszel {delta, se, odds_ratio, chi2, p} or null (of a '
            'scored item null, and mantel {smd, se, chi2, p}), logistic {p, p_uniform, p_nonuniform, '
            'delta_r2, delta_r2_uniform, size} or null} or null. Of an attribute as a whole: why_not,'
            ' groups [{name, n_learners, n_responses, why_not, low_power, mean, sd (of θ, on the '
            'reference group''s scale, or null)}], smaller_groups {groups, learners} (not named), '
            'n_unknown, n_unreadable (of the unknown), anchors [item], warnings [sentence], sittings '
            '{complete, incomplete} or null, items {tested, low_power, not_tested} (of items × focal '
            'groups)';
"""


def upgrade() -> None:
    op.execute(
        f"""
        ALTER TABLE response_log ADD COLUMN score smallint;
        ALTER TABLE attempt_correction ADD COLUMN score smallint;
        COMMENT ON COLUMN response_log.score IS
            'from 0 to the item''s maximum score; null: what correct says is all that is known';
        COMMENT ON COLUMN attempt_correction.score IS
            'from 0 to the item''s maximum score; null: what correct says is all that is known';
        COMMENT ON COLUMN response_log.correct IS 'whether it has full credit; null: shown, not answered';
        COMMENT ON COLUMN attempt_correction.correct IS 'whether it has full credit; null: shown, not answered';
        ALTER TABLE question ADD COLUMN max_score smallint GENERATED ALWAYS AS ({MAX_SCORE}) STORED;
        COMMENT ON COLUMN question.max_score IS 'the highest score of an answer, from meta; null: 1';
        COMMENT ON COLUMN question.meta IS
            'tags (e.g. "anchor"), irt {{a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}}, key';
        """
    )
    op.execute(CHANGED.format(old=", OLD.max_score", new=", NEW.max_score"))
    op.execute(WITH_SCORE)
    op.execute(OF_DIF)


def downgrade() -> None:
    op.execute(CHANGED.format(old="", new=""))
    op.execute(
        f"""
        DO $$
        BEGIN
          IF {READS_OUR_LOG} THEN
            DROP VIEW attempt;
            CREATE VIEW attempt AS {VIEW.format(score="")};
          END IF;
        END $$;
        ALTER TABLE response_log DROP COLUMN score;
        ALTER TABLE attempt_correction DROP COLUMN score;
        ALTER TABLE question DROP COLUMN max_score;
        COMMENT ON COLUMN response_log.correct IS 'null: shown, not answered';
        COMMENT ON COLUMN attempt_correction.correct IS 'null: shown, not answered';
        COMMENT ON COLUMN question.meta IS
            'tags (e.g. "anchor"), irt {{a, b, c, a_se, b_se, c_se, cov_ab, n, D, model}}, key';
        """
    )
