"""Adaptive tests: their policies as decisions, the next item of a session, exposure, and simulations.

The choice of items is in `irt_psychometrics.adaptive`. Requests of the exam service arrive in `services.theta_api`.
"""
