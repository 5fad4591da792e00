"""Eligibility: the rules of a scale, and the judgement of attempts by them."""
