# Simulate adaptive tests with mirtCAT: Rscript mirtcat_tests.R FOLDER LENGTH. Prints a line of JSON.
# FOLDER has items.csv (a, b) and answers.csv, a row for each person.
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(mirtCAT))
items <- read.csv(file.path(arguments[1], "items.csv"))
x <- as.matrix(read.csv(file.path(arguments[1], "answers.csv")))
n <- as.integer(arguments[2])
model <- generate.mirt_object(data.frame(a1 = items$a, d = -items$a * items$b, g = 0, u = 1), itemtype = "2PL")
begun <- proc.time()
tests <- mirtCAT(mo = model, local_pattern = x, method = "EAP", criteria = "MI", start_item = "MI",
                 design = list(min_items = n, max_items = n))
seconds <- sum((proc.time() - begun)[1:2])
theta <- vapply(tests, function(test) test$thetas[1], 0)
cat(sprintf('{"version": "%s", "estimator": "EAP", "seconds": %.6f, "theta": [%s]}\n',
            packageVersion("mirtCAT"), seconds, paste(sprintf("%.9f", theta), collapse = ", ")))
