# Fit by R's mirt of items of one or several models, with C2, with which test_c2.py and benchmarks/bench_against_mirt.py
# compare the library: Rscript models_reference.R ANSWERS.csv MODEL,MODEL,...
# A row per person, a column per item, scores from 0, blank = not seen. Prints JSON. Guessing has the prior
# logit c ~ N(-1.386294, .5^2). em's nodes: 61 on -6 ... 6. The default optimiser stops short of the maximum under a 3PL.
# "c2" is mirt's for complete answers. "corrected" is the same with numerical derivatives of the expected scores, because
# mirt's own are wrong for slopes under a gpcm, and under a 3PL: at a = .862 and theta = .7 of Science's first item
# dP has -1.76 for a, and differences of expected.item give .19; for d of a 3PL dP has P(1 - P).
given <- commandArgs(TRUE)
suppressPackageStartupMessages(library(mirt))
answers <- as.matrix(read.csv(given[1], check.names = FALSE))
models <- strsplit(given[2], ",")[[1]]
kinds <- c(`2pl` = "2PL", `3pl` = "3PL", gpcm = "gpcm", grm = "graded", pcm = "Rasch")
fitted <- function(...) mirt(answers, 1, itemtype = unname(kinds[models]), quadpts = 61, verbose = FALSE, ...)
pars <- fitted(pars = "values")
guessed <- pars$name == "g" & pars$est
pars$prior.type[guessed] <- "norm"
pars$prior_1[guessed] <- -1.386294
pars$prior_2[guessed] <- .5
fit <- fitted(pars = pars, SE = TRUE, SE.type = "Oakes", TOL = 1e-9, optimizer = "NR",
              technical = list(NCYCLES = 10000, theta_lim = c(-6, 6)))
found <- coef(fit, printSE = TRUE)
items <- lapply(seq_along(models), function(j) {
  names <- if (models[j] == "3pl") "^(a1|d|logit\\(g\\))$" else "^(a1|d[1-9]?)$"
  values <- found[[j]][, grepl(names, colnames(found[[j]])), drop = FALSE]
  list(names = colnames(values), estimates = unname(values["par", ]), errors = unname(values["SE", ]))
})
by_differences <- function(x, Theta) {
  score <- function(par) {
    x@par <- par
    drop(expected.item(x, Theta, min = 0))
  }
  sapply(seq_along(x@par), function(k) {
    h <- 1e-5 * (seq_along(x@par) == k)
    (score(x@par + h) - score(x@par - h)) / 2e-5
  })
}
c2 <- corrected <- NULL
if (!anyNA(answers)) {
  c2 <- as.list(M2(fit, type = "C2", quadpts = 61))
  assignInNamespace("dP", by_differences, "mirt")
  corrected <- as.list(M2(fit, type = "C2", quadpts = 61))
}
cat(jsonlite::toJSON(list(
  mirt = as.character(packageVersion("mirt")), R = as.character(getRversion()),
  loglik = extract.mirt(fit, "logLik"), converged = extract.mirt(fit, "converged"),
  items = setNames(items, colnames(answers)), c2 = c2, corrected = corrected
), auto_unbox = TRUE, digits = 12, na = "null"), "\n")
