# Figures of R's mirt for the nominal model, which test_nominal.py compares the em engine with:
# Rscript nominal_reference.R scores FILE.csv FIRST LAST > FILE.json            (columns FIRST to LAST are items)
# Rscript nominal_reference.R options CHOICES.csv KEY.csv ITEM ... > FILE.json  (choices; 8 is no answer; these items)
# Options that fewer than ten persons chose are combined. Options are in the order of the mean number right of the
# persons who chose them, because mirt fixes ak of the first and of the last, whose slopes must differ. With all items of
# SAT12 mirt does not converge. em's nodes and weights: 61 on -6 ... 6, normal, normalised. P at 13 theta, -3 ... 3.
given <- commandArgs(TRUE)
read <- function(file) read.csv(file, check.names = FALSE)
if (given[1] == "scores") {
  answers <- as.matrix(read(given[2])[, as.integer(given[3]):as.integer(given[4])])
  options <- lapply(asplit(answers, 2), function(x) sort(unique(x[!is.na(x)])))
} else {
  chosen <- read(given[2])[, -1]
  chosen <- chosen[given[-(1:3)]]
  key <- setNames(read(given[3])$key, read(given[3])$item)
  chosen[chosen == 8] <- NA
  right <- rowSums(sapply(names(chosen), function(item) !is.na(chosen[[item]]) & chosen[[item]] == key[item]))
  options <- lapply(names(chosen), function(item) {
    n <- table(chosen[[item]])
    often <- setdiff(names(n)[n >= 10], as.character(key[item]))
    x <- as.character(chosen[[item]])
    x[!is.na(x) & !x %in% c(often, key[item])] <- "rare"
    names(sort(tapply(right, x, mean)))
  })
  names(options) <- names(chosen)
  answers <- sapply(names(chosen), function(item) {
    x <- as.character(chosen[[item]])
    x[!is.na(x) & !x %in% options[[item]]] <- "rare"
    match(x, options[[item]]) - 1
  })
}
fit <- mirt::mirt(answers, 1, itemtype = "nominal", quadpts = 61, verbose = FALSE, SE = given[1] == "scores",
                  SE.type = "Oakes", TOL = 1e-7, technical = list(NCYCLES = 20000, theta_lim = c(-6, 6)))
theta <- matrix(seq(-3, 3, 0.5))
curve <- function(j) t(signif(mirt::probtrace(mirt::extract.item(fit, j), theta), 9))
found <- mirt::coef(fit, printSE = TRUE)
of <- function(row) lapply(found[colnames(answers)], function(x) if (row %in% rownames(x)) signif(unname(x[row, "a1"]), 8))
cat(jsonlite::toJSON(list(
  mirt = as.character(packageVersion("mirt")), R = as.character(getRversion()),
  call = "mirt(X, 1, 'nominal', SE.type = 'Oakes', TOL = 1e-7, quadpts = 61, technical = list(NCYCLES = 20000, theta_lim = c(-6, 6)))",
  loglik = mirt::extract.mirt(fit, "logLik"), n_est = mirt::extract.mirt(fit, "nest"),
  converged = mirt::extract.mirt(fit, "converged"), iterations = mirt::extract.mirt(fit, "iterations"),
  a = of("par"), a_se = of("SE"), options = lapply(options, as.character),
  curves = setNames(lapply(seq_len(ncol(answers)), curve), colnames(answers))
), auto_unbox = TRUE, digits = 12, na = "null"), "\n")
