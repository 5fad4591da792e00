"""Add the tables for new items: draws of seeds, the pipeline of unpublished items, and the view of stages.

Earlier code can read the new schema. It judges answers in seeded places as other answers: begin to seed after the
upgrade of every server.
"""

from alembic import op

revision = "0069_new_items"
down_revision = "0068_scores_without_theta"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        COMMENT ON COLUMN question.meta IS
            'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, '
            'key (an option, a list of right options, true: every answer gets credit, or []: not scored), '
            'replaces (id of the former version of the item)';
        COMMENT ON COLUMN item_parameter_publication.rule IS
            'origin, first, pipeline (a new item''s estimate), decision, or undo (the values before a decision)';
        ALTER TABLE form ADD COLUMN seed_places JSONB;
        COMMENT ON COLUMN form.seed_places IS 'places in a session, from 1, that seed draws fill; null: no places';

        CREATE TABLE seed_draw (
            draw_id BIGINT GENERATED ALWAYS AS IDENTITY,
            scale_id TEXT NOT NULL,
            item_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            session_id TEXT NOT NULL,
            position INTEGER NOT NULL,
            form_id TEXT,
            theta DOUBLE PRECISION,
            theta_se DOUBLE PRECISION,
            probability DOUBLE PRECISION NOT NULL,
            at_random BOOLEAN NOT NULL,
            drawn_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            given_back_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (draw_id)
        );
        CREATE INDEX seed_draw_item ON seed_draw (item_id) WHERE given_back_at IS NULL;
        CREATE UNIQUE INDEX seed_draw_session_item ON seed_draw (session_id, item_id);
        CREATE INDEX seed_draw_learner ON seed_draw (user_id);
        CREATE UNIQUE INDEX seed_draw_place ON seed_draw (session_id, position);
        COMMENT ON TABLE seed_draw IS
            'Draws of new items for places in sessions. Answers in these places have the reason seed.';
        COMMENT ON COLUMN seed_draw.draw_id IS 'number of the draw, in order';
        COMMENT ON COLUMN seed_draw.scale_id IS 'scale';
        COMMENT ON COLUMN seed_draw.item_id IS 'new item';
        COMMENT ON COLUMN seed_draw.user_id IS 'learner';
        COMMENT ON COLUMN seed_draw.session_id IS 'session';
        COMMENT ON COLUMN seed_draw.position IS 'place in the session, from 1';
        COMMENT ON COLUMN seed_draw.form_id IS 'form or test; null: practice';
        COMMENT ON COLUMN seed_draw.theta IS 'mean of the posterior of the learner''s ability; null: not known';
        COMMENT ON COLUMN seed_draw.theta_se IS 'standard deviation of this posterior';
        COMMENT ON COLUMN seed_draw.probability IS 'probability with which the item was drawn';
        COMMENT ON COLUMN seed_draw.at_random IS 'whether the item was drawn at random';
        COMMENT ON COLUMN seed_draw.drawn_at IS 'time of the draw';
        COMMENT ON COLUMN seed_draw.given_back_at IS
            'time at which the draw was given back; null: it counts as an answer in the limits';
        CREATE TABLE item_pipeline (
            scale_id TEXT NOT NULL,
            item_id TEXT NOT NULL,
            model TEXT NOT NULL,
            parameters JSONB NOT NULL,
            n INTEGER NOT NULL,
            first_at TIMESTAMP WITH TIME ZONE NOT NULL,
            last_at TIMESTAMP WITH TIME ZONE NOT NULL,
            measured_at TIMESTAMP WITH TIME ZONE,
            prior_share DOUBLE PRECISION,
            p_gates JSONB DEFAULT '{}'::jsonb NOT NULL,
            e_value DOUBLE PRECISION,
            accused BOOLEAN DEFAULT false NOT NULL,
            position DOUBLE PRECISION,
            misfit DOUBLE PRECISION,
            flags JSONB DEFAULT '[]'::jsonb NOT NULL,
            publishable BOOLEAN NOT NULL,
            publishable_at TIMESTAMP WITH TIME ZONE,
            ready_at DATE,
            ready_from DATE,
            ready_to DATE,
            stuck TEXT,
            evaluated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (scale_id, item_id)
        );
        COMMENT ON TABLE item_pipeline IS
            'Unpublished items with answers: their posteriors, and whether they can be published. Replaced each night.';
        COMMENT ON COLUMN item_pipeline.scale_id IS 'scale';
        COMMENT ON COLUMN item_pipeline.item_id IS 'item';
        COMMENT ON COLUMN item_pipeline.model IS 'model';
        COMMENT ON COLUMN item_pipeline.parameters IS
            'parameters and their standard errors, by the names in the model; missing: not known';
        COMMENT ON COLUMN item_pipeline.n IS 'number of answers';
        COMMENT ON COLUMN item_pipeline.first_at IS 'time of the first answer';
        COMMENT ON COLUMN item_pipeline.last_at IS 'time of the last answer';
        COMMENT ON COLUMN item_pipeline.measured_at IS
            'time of the answer with which it reached min_provisional_responses; null: not yet';
        COMMENT ON COLUMN item_pipeline.prior_share IS 'share of the prior in the precision; null: not known';
        COMMENT ON COLUMN item_pipeline.p_gates IS 'item gate → probability of passing it';
        COMMENT ON COLUMN item_pipeline.e_value IS 'evidence that another option is right; null: no evidence';
        COMMENT ON COLUMN item_pipeline.accused IS 'whether this evidence accuses the key';
        COMMENT ON COLUMN item_pipeline.position IS 'mean place of the answers in their sessions; null: not known';
        COMMENT ON COLUMN item_pipeline.misfit IS 'misfit of the item''s curve as a z statistic; null: not known';
        COMMENT ON COLUMN item_pipeline.flags IS 'flags of the estimate';
        COMMENT ON COLUMN item_pipeline.publishable IS 'whether a person may publish it';
        COMMENT ON COLUMN item_pipeline.publishable_at IS
            'first night of those since which it is publishable; null: it is not';
        COMMENT ON COLUMN item_pipeline.ready_at IS 'day on which it is expected to be publishable; null: no forecast';
        COMMENT ON COLUMN item_pipeline.ready_from IS 'first day of the forecast''s 80 % interval';
        COMMENT ON COLUMN item_pipeline.ready_to IS 'last day of this interval';
        COMMENT ON COLUMN item_pipeline.stuck IS 'why it does not get ahead; null: it does';
        COMMENT ON COLUMN item_pipeline.evaluated_at IS 'time of the evaluation';

        CREATE VIEW item_stage AS
        SELECT q.item_id, q.scale_id,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN 'published'
                    WHEN fate.state IN ('rejected', 'retired') THEN fate.state
                    WHEN p.publishable THEN 'publishable'
                    WHEN p.measured_at IS NOT NULL THEN 'measured'
                    WHEN p.n > 0 THEN 'seeded'
                    ELSE 'draft' END AS stage,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN published.since
                    WHEN fate.state IN ('rejected', 'retired') THEN fate.decided_at
                    WHEN p.publishable THEN p.publishable_at
                    ELSE coalesce(p.measured_at, p.first_at) END AS since,
               coalesce(p.n, 0) AS n,
               CASE WHEN published.since IS NOT NULL AND fate.state IS DISTINCT FROM 'retired' THEN published.reason
                    WHEN fate.state IN ('rejected', 'retired') THEN format('%s: %s', fate.decided_by, fate.reason)
                    WHEN p.publishable THEN 'a person may publish it'
                    WHEN p.stuck IS NOT NULL THEN p.stuck
                    WHEN p.n > 0 AND p.ready_at IS NULL THEN 'there is no forecast yet'
                    WHEN p.n > 0 THEN format('publishable around %s', p.ready_at)
                    ELSE 'it has no answers yet' END AS why
        FROM question q
        LEFT JOIN (
          SELECT DISTINCT ON (subject) subject, value ->> 'state' AS state, decided_by, reason, decided_at
          FROM decision WHERE kind IN ('reject items', 'retire items', 'bring items back')
          ORDER BY subject, decision_id DESC) fate ON fate.subject = q.item_id
        LEFT JOIN (
          SELECT DISTINCT ON (scale_id, item_id) scale_id, item_id, effective_from AS since, reason
          FROM item_parameter_publication WHERE effective_from <= now()
          ORDER BY scale_id, item_id, effective_from, publication_id) published USING (scale_id, item_id)
        LEFT JOIN item_pipeline p USING (scale_id, item_id);
        """
    )


def downgrade() -> None:
    op.execute(
        """
        COMMENT ON COLUMN item_parameter_publication.rule IS
            'origin, first, decision, or undo (the values before a decision)';
        DROP VIEW item_stage;
        DROP TABLE item_pipeline, seed_draw;
        ALTER TABLE form DROP COLUMN seed_places;
        COMMENT ON COLUMN question.meta IS
            'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, '
            'key (an option, a list of right options, true: every answer gets credit, or []: not scored)';
        """
    )
