# Fits, errors and scores by R's mirt with which test_dimensions_errors.py and test_dimensions_scores.py compare the
# library: IRT_SHARED=… Rscript dimensions_reference.R > mirt_dimensions.json (takes two minutes)
# mirt integrates scores on the full product grid, so there are few persons and nodes.
suppressPackageStartupMessages(library(mirt))
data <- file.path(Sys.getenv("IRT_SHARED"), "data")
found_by <- function(fit, names, persons, quadpts) {
  each <- coef(fit, printSE = TRUE)
  each <- each[names(each) != "GroupPars"]
  of <- function(row) lapply(each, function(x) as.list(setNames(x[row, names], names)))
  scores <- lapply(c(EAP = "EAP", MAP = "MAP"), function(method) {
    x <- fscores(fit, method = method, QMC = FALSE, response.pattern = persons, quadpts = quadpts, theta_lim = c(-6, 6))
    x <- x[, grepl("^(SE_)?(F|G|S|A|B)", colnames(x))]
    list(theta = unname(x[, !grepl("SE_", colnames(x))]), se = unname(x[, grepl("SE_", colnames(x))]))
  })
  group <- coef(fit, printSE = TRUE)$GroupPars
  list(loglik = extract.mirt(fit, "logLik"), estimates = unname(of("par")), errors = unname(of("SE")),
       correlation = group[, grepl("COV_21", colnames(group))], scores = scores)
}
sat12 <- as.matrix(read.csv(file.path(data, "sat12_scored_wide.csv"))[, -1])
topics <- c(2, 3, 2, 3, 3, 2, 1, 2, 1, 1, 1, 3, 1, 3, 1, 2, 1, 1, 3, 3, 1, 1, 3, 1, 3, 3, 1, 3, 2, 3, 1, 2)
control <- list(NCYCLES = 5000, theta_lim = c(-6, 6))
bifactor <- bfactor(sat12, topics, quadpts = 31, TOL = 1e-5, SE = TRUE, SE.type = "Oakes", verbose = FALSE,
                    technical = control)
anger <- as.matrix(read.csv(file.path(data, "verbal_aggression_poly_wide.csv"))[, -(1:3)])
wants <- grep("Want", colnames(anger))
acts <- setdiff(seq_len(ncol(anger)), wants)
model <- mirt.model(sprintf("A = %s\nB = %s\nCOV = A*B", paste(wants, collapse = ","), paste(acts, collapse = ",")))
between <- mirt(anger, model, itemtype = "graded", quadpts = 41, TOL = 1e-5, SE = TRUE, SE.type = "Oakes",
                verbose = FALSE, technical = control)
cat(jsonlite::toJSON(list(
  version = as.character(packageVersion("mirt")),
  bifactor = c(list(topics = topics), found_by(bifactor, c("a1", "a2", "a3", "a4", "d"), sat12[2:4, ], 25)),
  between = found_by(between, c("a1", "a2", "d1", "d2"), anger[1:3, ], 61)
), digits = 10, auto_unbox = TRUE, na = "null"))
