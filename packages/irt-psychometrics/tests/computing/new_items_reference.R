# One new item beside held items by R's mirt, for test_new_item_estimates.py:
# Rscript new_items_reference.R ANSWERS.csv HELD.csv > mirt_new_items.json. ANSWERS has a row per person, the held items
# and then the new ones, blank = not seen; HELD has the columns a and d. Each new item is calibrated alone.
given <- commandArgs(TRUE)
answers <- as.matrix(read.csv(given[1]))
held <- read.csv(given[2])
old <- answers[, seq_len(nrow(held))]
technical <- list(theta_lim = c(-6, 6), NCYCLES = 10000)
pars <- mirt::mirt(old, 1, pars = "values")
pars$value[pars$name == "a1"] <- held$a
pars$value[pars$name == "d"] <- held$d
pars$est <- FALSE
known <- mirt::mirt(old, 1, pars = pars, quadpts = 61, TOL = NaN, technical = technical, verbose = FALSE)
calibrate <- function(item) {
  both <- cbind(old, answers[, item, drop = FALSE])
  fit <- mirt::fixedCalib(both, 1, old_mod = known, PAU = "NWU", NEM = "MEM", quadpts = 61,
                          technical = technical, verbose = FALSE)
  as.list(signif(mirt::coef(fit)[[item]][1, c("a1", "d")], 10))
}
new <- colnames(answers)[-seq_len(nrow(held))]
cat(jsonlite::toJSON(list(
  mirt = as.character(packageVersion("mirt")), R = as.character(getRversion()),
  items = setNames(lapply(new, calibrate), new)
), auto_unbox = TRUE, digits = 12), "\n")
