"""Item parameters and the distribution of ability from answers: marginal maximum likelihood and its errors."""
