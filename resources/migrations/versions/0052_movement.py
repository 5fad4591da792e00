"""How abilities of a scale move is decided on, and proposed: numbers, or why there are none."""

from alembic import op

revision = "0052_movement"
down_revision = "0051_moving_ability"
oldest_code = "0039_learner_reports"
carried = ("movement_proposal",)

SUBJECT = "model, prior_a, prior_b, prior_c, guessing or misfit"
VALUE = "the model; a prior, such as lognormal(0, 0.5), or none; accepted, of guessing and misfit; reference, of misfit"


def upgrade() -> None:
    op.execute(
        """
        COMMENT ON TABLE scale_decision IS
            'What a person decided on a scale''s model and how its abilities move. Append-only.';
        COMMENT ON COLUMN scale_decision.subject IS
            'model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, occasion_variance, '
            'guessing or misfit';
        COMMENT ON COLUMN scale_decision.value IS
            'the model; a prior, such as lognormal(0, 0.5), or none; a number or auto, of a movement; accepted, of '
            'guessing and misfit; reference, of misfit';
        CREATE TABLE movement_proposal (
            proposal_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, scale_id text NOT NULL, month text NOT NULL,
            why_not text NOT NULL, variance double precision, growth double precision,
            occasion_variance double precision, details jsonb NOT NULL, proposed_at timestamptz NOT NULL DEFAULT now());
        CREATE INDEX movement_proposal_scale ON movement_proposal (scale_id);
        COMMENT ON TABLE movement_proposal IS
            'How abilities of a scale were found to move, or why that is not known. Append-only.';
        COMMENT ON COLUMN movement_proposal.proposal_id IS 'order of proposal';
        COMMENT ON COLUMN movement_proposal.scale_id IS 'bank whose items measure one ability';
        COMMENT ON COLUMN movement_proposal.month IS 'answers of the 52 weeks that end with it were used';
        COMMENT ON COLUMN movement_proposal.why_not IS 'why nothing is proposed; empty: something is';
        COMMENT ON COLUMN movement_proposal.variance IS 'of the walk a week; null: not estimated';
        COMMENT ON COLUMN movement_proposal.growth IS 'a week; null: not estimated';
        COMMENT ON COLUMN movement_proposal.occasion_variance IS 'what a day has alone; null: not estimated';
        COMMENT ON COLUMN movement_proposal.details IS
            'what was used, standard errors, tests, log likelihoods and the effect on learners';
        COMMENT ON COLUMN movement_proposal.proposed_at IS 'when';
        """
    )


def downgrade() -> None:
    op.execute(
        f"""
        DROP TABLE movement_proposal;
        COMMENT ON TABLE scale_decision IS 'What a person decided on a scale''s model. Append-only.';
        COMMENT ON COLUMN scale_decision.subject IS '{SUBJECT}';
        COMMENT ON COLUMN scale_decision.value IS '{VALUE}';
        """
    )
