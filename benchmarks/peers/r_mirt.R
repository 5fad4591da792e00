# One fit by R's mirt: Rscript r_mirt.R MODEL FILE.raw NODES [TOLERANCE]. Prints a line of JSON at the end.
# FILE.raw: persons and items, 4 bytes each, then one signed byte per person and item, person by person; -1 was not seen.
argument <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(mirt))
file <- file(argument[2], "rb")
size <- readBin(file, "integer", 2)
x <- matrix(readBin(file, "integer", prod(size), size = 1), size[1], size[2], byrow = TRUE)
close(file)
x[x < 0] <- NA
colnames(x) <- sprintf("i%03d", seq_len(size[2]) - 1)
type <- c("2pl" = "2PL", graded = "graded", gpcm = "gpcm")[[argument[1]]]
tolerance <- if (length(argument) > 3) as.numeric(argument[4])
fit <- mirt(x, 1,
  itemtype = type, quadpts = as.integer(argument[3]), SE = TRUE, verbose = FALSE, TOL = tolerance,
  technical = list(NCYCLES = 10000)
)
of <- coef(fit, IRTpars = TRUE, printSE = TRUE)[colnames(x)]
numbers <- function(values) paste0("[", paste(format(values, digits = 12, trim = TRUE), collapse = ","), "]")
row <- function(which) {
  rows <- lapply(of, function(one) one[which, grepl("^b", colnames(one))])
  paste0("[", paste(sapply(rows, function(one) if (type == "2PL") one[[1]] else numbers(one)), collapse = ","), "]")
}
cat(sprintf(
  '{"version": "%s", "models": "%s", "anchors": "%s", "loglik": %.6f, "a": %s, "a_se": %s, "b": %s, "b_se": %s}\n',
  packageVersion("mirt"),
  "Rasch, 2PL to 5PL, graded, GPCM, RSM, nominal, nested logit, several factors, bifactor, unfolding, latent classes, …",
  "yes, item by item", extract.mirt(fit, "logLik"),
  numbers(sapply(of, function(one) one[1, "a"])), numbers(sapply(of, function(one) one[2, "a"])), row(1), row(2)
))
