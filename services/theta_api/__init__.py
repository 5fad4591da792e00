"""The θ API: a learner's ability on request, over HTTP."""
