"""Latent regression: how ability depends on covariates, estimated from the answers without scoring persons first.

`irt_psychometrics.latent_regression` is the public function.
"""
