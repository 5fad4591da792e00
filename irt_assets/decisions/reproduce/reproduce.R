# Fit the answers again with mirt, and compare the parameters with parameters.csv. Needs mirt and jsonlite.
# Run it in its folder: Rscript reproduce.R. Exit code 0: no parameter differs by more than 1e-4.

settings <- jsonlite::fromJSON("settings.json", simplifyVector = FALSE)
answers <- read.csv("responses.csv", colClasses = c("character", "character", "integer"))
known <- read.csv("parameters.csv", colClasses = c(item = "character"), check.names = FALSE)
known <- known[!is.na(known$mirt_a1), ]
items <- known$item
models <- vapply(settings$items[items], function(item) item$model, "")
priors <- settings$priors
if (settings$latent != "normal") stop("this fit has a histogram of ability that mirt does not have: use reproduce.py")
if (!is.null(priors$b) || length(settings$prior_on_rare_steps) > 0 || identical(priors$c$family, "Beta")) {
  stop("this fit has a prior that mirt does not have: use reproduce.py")
}
if (!all(models %in% c("rasch", "1pl", "2pl", "3pl", "pcm", "gpcm"))) stop("mirt has no such model: use reproduce.py")

answers <- answers[answers$item %in% items, ]
persons <- unique(answers$learner_key)
x <- matrix(NA_integer_, length(persons), length(items), dimnames = list(NULL, paste0("i", seq_along(items))))
x[cbind(match(answers$learner_key, persons), match(answers$item, items))] <- answers$score
scores <- lapply(seq_along(items), function(j) sort(unique(x[, j])))
scored <- vapply(settings$items[items], function(item) item$max_score > 1, TRUE)
for (j in which(scored)) x[, j] <- match(x[, j], scores[[j]]) - 1L

guessed <- models == "3pl" | items %in% names(settings$guessing)
type <- ifelse(scored, "gpcm", ifelse(guessed, "3PL", "2PL"))
pars <- mirt::mirt(x, 1, itemtype = type, pars = "values", verbose = FALSE)
row <- function(name) match(paste(colnames(x), name), paste(pars$item, pars$name))
for (j in which(scored)) {
  at <- match(paste(colnames(x)[j], paste0("ak", seq_along(scores[[j]]) - 1)), paste(pars$item, pars$name))
  pars$value[at] <- scores[[j]] - scores[[j]][1]
}
set_prior <- function(rows, type, mean, sd) {
  pars$prior.type[rows] <<- type
  pars$prior_1[rows] <<- mean
  pars$prior_2[rows] <<- sd
}
if (!is.null(priors$c)) set_prior(row("g")[guessed], "norm", priors$c$mean, priors$c$sd)
for (item in names(settings$guessing)) {
  set_prior(row("g")[items == item], "norm", qlogis(settings$guessing[[item]]), settings$guessing_sd)
}
if (!is.null(priors$a)) {
  own <- if (is.null(priors$only)) rep(TRUE, length(items)) else items %in% unlist(priors$only)
  set_prior(row("a1")[own], "lnorm", priors$a$mean, priors$a$sd)
}
one_slope <- models %in% c("rasch", "pcm")
if (any(one_slope)) {
  pars$value[row("a1")] <- 1
  pars$est[row("a1")] <- FALSE
  pars$est[pars$name == "COV_11"] <- TRUE
}
constrain <- if (any(models == "1pl")) list(pars$parnum[row("a1")]) else list()
fit <- mirt::mirt(x, 1,
  itemtype = type, pars = pars, constrain = constrain, TOL = 1e-9, quadpts = 61, verbose = FALSE,
  technical = list(NCYCLES = 20000, theta_lim = c(-6, 6))
)
found <- mirt::mod2values(fit)

worst <- 0
for (name in sub("^mirt_", "", grep("^mirt_(a1|d[0-9]*|g)$", names(known), value = TRUE))) {
  value <- found$value[match(paste(colnames(x), name), paste(found$item, found$name))]
  worst <- max(worst, abs(value - known[[paste0("mirt_", name)]]), na.rm = TRUE)
}
cat(sprintf("log-likelihood %.6f, in the platform %.6f\n", mirt::extract.mirt(fit, "logLik"), settings$loglik))
cat(sprintf("largest difference of a parameter: %.2g\n", worst))
quit(status = as.integer(worst > 1e-4))
