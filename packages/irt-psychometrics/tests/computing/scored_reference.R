# Figures of R's mirt for scored items, which test_scored_comparisons.py compares the em engine with:
# Rscript scored_reference.R FILE.csv gpcm|pcm > FILE.json. A row per person, a column per item, scores from 0, blank = not seen;
# items of two scores are 2PL, or Rasch beside pcm. em's nodes and weights: 61 on -6 ... 6, normal, normalised.
given <- commandArgs(TRUE)
answers <- as.matrix(read.csv(given[1], check.names = FALSE))
scores <- lapply(asplit(answers, 2), function(x) sort(unique(x[!is.na(x)])))
two <- lengths(scores) == 2
itemtype <- if (given[2] == "pcm") "Rasch" else ifelse(two, "2PL", "gpcm")
fitted <- function(...) mirt::mirt(answers, 1, itemtype = itemtype, quadpts = 61, verbose = FALSE, ...)
pars <- fitted(pars = "values")
for (item in names(scores)[!two]) { # mirt numbers the scores that occur; the model has them as they are
  pars$value[pars$item == item & grepl("^ak", pars$name)] <- scores[[item]]
}
fit <- fitted(pars = pars, SE = TRUE, SE.type = "Oakes", TOL = 1e-9,
              technical = list(NCYCLES = 10000, theta_lim = c(-6, 6)))
found <- mirt::coef(fit, printSE = TRUE)
of <- function(item, row) {
  values <- found[[item]][row, grepl("^(a1|d[1-9]?)$", colnames(found[[item]]))]
  points <- scores[[item]] - min(scores[[item]])
  if (two[item]) values["a1"] <- values["a1"] / points[2] # of one point
  names(values) <- c("a", paste0("d", points[-1]))
  as.list(signif(values, 8))
}
items <- lapply(colnames(answers), function(item) list(estimates = of(item, "par"), errors = of(item, "SE")))
cat(jsonlite::toJSON(list(
  mirt = as.character(packageVersion("mirt")), R = as.character(getRversion()),
  call = "mirt(X, 1, itemtype, SE = TRUE, SE.type = 'Oakes', TOL = 1e-9, quadpts = 61, technical = list(NCYCLES = 10000, theta_lim = c(-6, 6)))",
  loglik = mirt::extract.mirt(fit, "logLik"), n_est = mirt::extract.mirt(fit, "nest"),
  converged = mirt::extract.mirt(fit, "converged"), iterations = mirt::extract.mirt(fit, "iterations"),
  variance = found$GroupPars["par", "COV_11"], items = setNames(items, colnames(answers))
), auto_unbox = TRUE, digits = 12, na = "null"), "\n")
