# One fit by R's mirt: Rscript bench_em_peer.R ANSWERS PERSONS ITEMS MODEL ERRORS REPEATS, a line of JSON at the end.
# ANSWERS: one signed byte per person and item, person by person; -1 was not seen.
argument <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(mirt))
size <- as.integer(argument[2:3])
x <- matrix(readBin(argument[1], "integer", prod(size), size = 1), size[1], size[2], byrow = TRUE)
x[x < 0] <- NA
colnames(x) <- paste0("i", seq_len(size[2]))
seconds <- cpu <- numeric()
for (k in seq_len(as.integer(argument[6]))) {
  spent <- system.time(fit <- mirt(x, 1, itemtype = argument[4], SE = argument[5] == "1", verbose = FALSE))
  seconds <- c(seconds, spent[["elapsed"]])
  cpu <- c(cpu, sum(spent[c("user.self", "sys.self")]))
}
if (length(seconds) > 1) { # the first fit is a warm-up
  seconds <- seconds[-1]
  cpu <- cpu[-1]
}
item <- coef(fit, simplify = TRUE)$items
status <- readLines("/proc/self/status")
peak <- as.numeric(gsub("[^0-9]", "", grep("VmHWM", status, value = TRUE))) / 1024
numbers <- function(values) paste0("[", paste(format(values, digits = 12, trim = TRUE), collapse = ","), "]")
cat(sprintf(
  '{"seconds": %s, "cpu": %s, "a": %s, "d": %s, "peak_mb": %.0f, "iterations": %d, "loglik": %.4f, "version": "%s"}\n',
  numbers(seconds), numbers(cpu), numbers(item[, "a1"]), numbers(item[, intersect(c("d", "d1"), colnames(item))[1]]), peak,
  extract.mirt(fit, "iterations"), extract.mirt(fit, "logLik"), packageVersion("mirt")
))
