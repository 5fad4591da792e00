# Simulate adaptive tests with catR: Rscript catr_tests.R FOLDER LENGTH. Prints a line of JSON.
# FOLDER has items.csv (a, b) and answers.csv, a row for each person.
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(catR))
items <- read.csv(file.path(arguments[1], "items.csv"))
x <- as.matrix(read.csv(file.path(arguments[1], "answers.csv")))
bank <- cbind(a = items$a, b = items$b, c = 0, d = 1)
eap <- list(method = "EAP", priorDist = "norm", priorPar = c(0, 1), parInt = c(-6, 6, 121), itemSelect = "MFI")
stop_at <- list(rule = "length", thr = as.integer(arguments[2]))
begun <- proc.time()
theta <- apply(x, 1, function(answers) {
  randomCAT(0, bank, responses = answers, start = list(theta = 0, startSelect = "MFI"), test = eap, stop = stop_at,
            final = eap[c("method", "priorDist", "priorPar", "parInt")])$thFinal
})
seconds <- sum((proc.time() - begun)[1:2])
cat(sprintf('{"version": "%s", "estimator": "EAP", "seconds": %.6f, "theta": [%s]}\n',
            packageVersion("catR"), seconds, paste(sprintf("%.9f", theta), collapse = ", ")))
