# Conditional maximum likelihood of a Rasch model (Andersen 1970), which assumes no distribution of abilities.

conditional_rasch <- function(request) {
  answers <- matrix(request$score, request$n_persons, byrow = TRUE)
  fit <- eRm::RM(answers, sum0 = TRUE)
  list(easiness = unname(fit$betapar), se = unname(fit$se.beta), converged = fit$convergence)
}
