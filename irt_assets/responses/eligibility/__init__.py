"""Eligibility: the judgement of attempts by the rules of a scale."""
