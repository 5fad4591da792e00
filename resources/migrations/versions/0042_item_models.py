"""Each item of a linked fit names its model. Of fits whose items all had one model, it is the fit's."""

from alembic import op

revision = "0042_item_models"
down_revision = "0041_log_mapping"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        UPDATE mirt_item_params i SET params = params || jsonb_build_object('model', f.model)
            FROM mirt_fit_meta f WHERE f.fit_id = i.fit_id AND NOT params ? 'model';
        COMMENT ON COLUMN mirt_fit_meta.model IS
            'rasch, 1pl, 2pl or 3pl; where items have several models, these joined by +';
        COMMENT ON COLUMN mirt_item_params.params IS
            'model; a, b, c, a_se, b_se, c_se, cov_ab on the bank''s scale, of a 3PL cov_logit_c (of logit c with a, '
            'b, itself); the unlinked ones under raw; of a night provisional: true where nothing is published for the '
            'item'
        """
    )


def downgrade() -> None:
    op.execute("UPDATE mirt_item_params SET params = params - 'model'")
