# R's side of the engines mirt and brms: four functions from plain lists to plain lists, irt_versions, irt_load,
# irt_calibrate and irt_score. The child process of `r_child.py` and the plumber service both source this file;
# docs/reference/r-engines.md describes requests and results. The only files it touches are cached compiled models.
#
# Errors that the caller can fix have the class `irt_request_error` (a field is wrong) or `irt_data_error`
# (these answers cannot be fitted). NA means "not known", in vectors and matrices alike.

irt_versions <- function() {
  version_of <- function(package) {
    if (nzchar(system.file(package = package))) as.character(utils::packageVersion(package)) else NA_character_
  }
  packages <- c("mirt", "brms", "rstan", "eRm")
  c(list(R = as.character(getRversion())), sapply(packages, version_of, simplify = FALSE))
}

# Loads the package of an engine; if that fails although it is installed, R's own error says why.
irt_load <- function(request) {
  loadNamespace(request$engine)
  list(versions = irt_versions())
}

irt_calibrate <- function(request) {
  r <- checked_calibration(request)
  n <- tabulate(r$item, length(r$item_ids))
  right <- tabulate(r$item[r$score == r$categories[r$item] - 1L], length(r$item_ids))
  several <- tabulate(r$item[!duplicated(cbind(r$item, r$score))], length(r$item_ids)) > 1
  keep <- several | r$anchored & n > 0
  if (sum(keep) < 2) {
    refuse("irt_data_error", "only ", sum(keep), " items have both correct and wrong answers: ",
           "a scale needs at least two")
  }
  rows <- keep[r$item]
  seen <- sort(unique(r$person[rows]))
  data <- list(
    person = match(r$person[rows], seen), item = cumsum(keep)[r$item[rows]], score = r$score[rows],
    n_persons = length(seen), n_items = sum(keep), item_ids = r$item_ids[keep], model = r$model,
    categories = r$categories[keep], item_types = r$item_types[keep], anchors = lapply(r$anchors, `[`, keep), anchored = r$anchored[keep],
    guessing_prior = r$guessing_prior, options = r$options
  )
  caught <- with_warnings(switch(r$engine, mirt = fit_mirt(data), brms = fit_brms(data)))
  fit <- caught$value
  spread <- function(values) replace(rep(NA_real_, length(keep)), keep, values)
  K <- dim(fit$cov)[3]
  cov <- array(NA_real_, c(length(keep), K, K))
  cov[keep, , ] <- fit$cov
  scored <- !is.null(fit$log_odds)
  log_odds <- matrix(NA_real_, length(keep), K - 1)
  if (scored) log_odds[keep, ] <- fit$log_odds
  left_out <- ifelse(n == 0, "no answers", ifelse(right == n, "all correct", "all alike"))
  left_out[r$categories == 2 & left_out == "all alike"] <- "all wrong"
  if (any(!keep)) {
    fit$reason <- c(fit$reason, paste0("left out: ", some(paste0(r$item_ids, " (", left_out, ")")[!keep])))
  }
  answer <- list(
    a = spread(fit$a), d = spread(fit$d), c = spread(fit$c), cov = cov,
    cov_of = if (scored) c("a", fit$of_scores) else c("a", "d", "logit c")[seq_len(K)],
    latent = fit$latent, loglik = fit$loglik, n_parameters = fit$n_parameters, converged = fit$converged,
    reason = paste(fit$reason, collapse = "; "), iterations = fit$iterations, max_change = NA_real_,
    warnings = as.list(caught$warnings), versions = irt_versions(), diagnostics = fit$diagnostics
  )
  if (scored) answer$log_odds <- log_odds
  answer
}

# --- mirt ------------------------------------------------------------------------------------------------------------

fit_mirt <- function(data) {
  need("mirt")
  J <- data$n_items
  answers <- matrix(NA_integer_, data$n_persons, J, dimnames = list(NULL, paste0("i", seq_len(J))))
  answers[cbind(data$person, data$item)] <- data$score
  guessed <- data$item_types == "3PL" | (data$anchored & data$anchors$c > 0)
  more <- data$categories > 2
  scores <- lapply(seq_len(J), function(j) sort(unique(data$score[data$item == j])))
  for (j in which(more)) answers[, j] <- match(answers[, j], scores[[j]]) - 1L
  graded <- data$item_types == "graded"
  itemtype <- ifelse(guessed, "3PL", ifelse(graded & lengths(scores) == 2, "2PL", data$item_types))
  pars <- mirt::mirt(answers, 1, itemtype = itemtype, pars = "values", verbose = FALSE)
  row <- function(name) match(paste(colnames(answers), name), paste(pars$item, pars$name))
  rows <- cbind(a = row("a1"), d = row("d"), g = row("g"))
  of_scores <- function(j, name) {
    match(paste(colnames(answers)[j], paste0(name, seq_along(scores[[j]]) - 1)), paste(pars$item, pars$name))
  }
  for (j in which(more & !graded)) pars$value[of_scores(j, "ak")] <- scores[[j]] - scores[[j]][1]
  if (data$model == "rasch") pars[rows[, "a"], c("value", "est")] <- list(1, FALSE)
  if (!is.null(data$guessing_prior)) {
    own <- rows[guessed & !data$anchored, "g"]
    pars$prior.type[own] <- "norm"
    pars$prior_1[own] <- data$guessing_prior$mean_logit
    pars$prior_2[own] <- data$guessing_prior$sd_logit
  }
  latent <- match(c("MEAN_1", "COV_11"), pars$name)
  for (j in which(data$anchored)) {
    pars$value[rows[j, ]] <- c(data$anchors$a[j], data$anchors$d[j], data$anchors$c[j])
    pars$est[rows[j, ]] <- FALSE
  }
  pars$est[latent] <- any(data$anchored) | c(FALSE, data$model == "rasch")
  slopes <- rows[pars$est[rows[, "a"]], "a"]
  constrain <- if (data$model == "1pl" && length(slopes) > 1) list(pars$parnum[slopes]) else list()
  cycles <- data$options$cycles %or% 10000
  nodes <- data$options$nodes %or% 61
  run <- function(limit) tryCatch(
    mirt::mirt(
      answers, 1, itemtype = itemtype, pars = pars, constrain = constrain, SE = TRUE, SE.type = "Oakes",
      TOL = data$options$tolerance %or% 1e-7, quadpts = 1 + round((nodes - 1) * limit / 6), verbose = FALSE,
      technical = list(NCYCLES = cycles, theta_lim = c(-limit, limit))
    ),
    error = function(e) {
      if (!grepl("sigma matrix contains negative", conditionMessage(e), fixed = TRUE)) stop(e)
      refuse("irt_data_error", "mirt's variance of ability went to 0: answers to different items are unrelated")
    }
  )
  fit <- run(6)
  found <- mirt::mod2values(fit)
  mean <- found$value[latent[1]]
  sd <- sqrt(found$value[latent[2]])
  if (abs(mean) + 4 * sd > 6) { # the nodes do not span so wide a population
    limit <- ceiling(abs(mean) + 5 * sd)
    fit <- run(min(limit, 60))
    found <- mirt::mod2values(fit)
    mean <- found$value[latent[1]]
    sd <- sqrt(found$value[latent[2]])
  }
  value <- matrix(found$value[rows], nrow = J)
  reason <- character()
  if (!isTRUE(mirt::extract.mirt(fit, "converged"))) {
    reason <- c(reason, paste0("mirt had not converged after ", mirt::extract.mirt(fit, "iterations"), " cycles"))
  }
  if (!isTRUE(mirt::extract.mirt(fit, "secondordertest"))) {
    reason <- c(reason, "mirt's information matrix is not positive definite, so its estimates are not a maximum")
  }
  K <- if (any(data$item_types == "3PL")) 3 else 2
  log_odds <- names <- NULL
  if (any(more)) {
    K <- 1 + max(data$categories)
    of_each <- matrix(NA_integer_, J, K - 1) # where pars has each score's d; NA of the lowest score and absent ones
    of_each[!more, 2] <- rows[!more, "d"]
    for (j in which(more)) {
      of_each[j, scores[[j]][-1] + 1] <- if (itemtype[j] == "2PL") rows[j, "d"] else of_scores(j, "d")[-1]
    }
    log_odds <- matrix(found$value[of_each], nrow = J)
    log_odds[cbind(seq_len(J), vapply(scores, min, 1L) + 1)] <- 0
    of_each[guessed, 3] <- rows[guessed, "g"]
    names <- paste0("d", seq_len(ncol(of_each)) - 1)
    nominal <- data$item_types == "nominal"
    if (any(nominal)) {
      points <- matrix(NA_integer_, J, ncol(of_each)) # where pars has the slope of each score
      for (j in which(nominal)) points[j, scores[[j]] + 1] <- of_scores(j, "ak")
      log_odds <- cbind(log_odds, matrix(found$value[points], nrow = J))
      of_each <- cbind(of_each, points)
      names <- c(names, sub("d", "ak", names))
    }
    K <- 1 + ncol(of_each)
    rows <- cbind(rows[, "a"], of_each)
  }
  list(
    a = value[, 1], d = value[, 2], c = replace(value[, 3], more, 0), log_odds = log_odds, of_scores = names,
    cov = item_blocks(mirt::vcov(fit), pars, rows, K),
    latent = list(mean = mean, sd = sd), loglik = mirt::extract.mirt(fit, "logLik"),
    n_parameters = mirt::extract.mirt(fit, "nest"), converged = length(reason) == 0, reason = reason,
    iterations = mirt::extract.mirt(fit, "iterations"), diagnostics = list(cycles_allowed = cycles)
  )
}

# J x K x K, from the covariance of all free parameters. Their names end in the numbers of the parameters that share
# them ("a1.1.5.9"). The error of a fixed parameter is 0.
item_blocks <- function(joint, pars, rows, K) {
  joint <- as.matrix(joint)
  numbers <- lapply(strsplit(colnames(joint), ".", fixed = TRUE), function(part) as.integer(part[-1]))
  column <- integer(max(pars$parnum))
  for (k in seq_along(numbers)) column[numbers[[k]]] <- k
  out <- array(0, c(nrow(rows), K, K))
  for (j in seq_len(nrow(rows))) {
    own <- rows[j, seq_len(K)]
    at <- column[pars$parnum[own]]
    at[is.na(own)] <- 0L # it has no such parameter
    out[j, at > 0, at > 0] <- joint[at[at > 0], at[at > 0]]
    if (any(at == 0 & pars$est[own] %in% TRUE)) out[j, , ] <- NA_real_
  }
  out
}

# --- brms ------------------------------------------------------------------------------------------------------------

# log a = la + las * za and b = lb + lbs * zb with za, zb ~ N(0, 1) by item: the priors are columns of the data, so that
# one compiled program serves all data and all anchors of a model. brms would call these group-level effects; their SDs
# are the constant 1. Scores between an item's lowest and highest have w ~ N(0, 1), the logarithm of the distance between
# the thresholds below and above (graded response model). If the effective sample size is between 500 and the required 1000, more draws are taken.
fit_brms <- function(data) {
  need("brms")
  options <- data$options
  free <- c(mean = any(data$anchored), sd = any(data$anchored) || data$model == "rasch")
  prior <- brms_priors(data)
  graded <- graded_items(data)
  widths <- seq_len(ncol(graded$by) * any(data$item_types == "graded"))
  frame <- data.frame(
    score = graded$score, person = factor(data$person), item = factor(data$item),
    la = prior$log_a_mean[data$item], las = prior$log_a_sd[data$item],
    lb = prior$b_mean[data$item], lbs = prior$b_sd[data$item]
  )
  family <- brms::bernoulli()
  functions <- NULL
  if (length(widths)) {
    family <- brms::custom_family("graded", dpars = c("mu", "lower", "upper"), links = rep("identity", 3), type = "int")
    functions <- brms::stanvar(scode = GRADED_DENSITY, block = "functions")
    for (end in c("lower", "upper")) {
      row <- graded$first[data$item] + graded$score + (end == "upper")
      frame[paste0(end, c(0, widths))] <- cbind(graded$ends, graded$by)[row, , drop = FALSE]
    }
  }
  slope <- switch(data$model, rasch = "1", `1pl` = "exp(slope)", `2pl` = "exp(la + las * za)")
  ability <- paste0(if (free["mean"]) "mean + ", if (free["sd"]) "exp(logsd) * ", "theta")
  terms <- c("theta ~ 0 + (1 | person)", "zb ~ 0 + (1 | item)", if (data$model == "2pl") "za ~ 0 + (1 | item)",
             if (length(widths)) paste0("w", widths, " ~ 0 + (1 | item)"),
             if (data$model == "1pl") "slope ~ 1", if (free["mean"]) "mean ~ 1", if (free["sd"]) "logsd ~ 1")
  formula <- do.call(brms::bf, c(
    list(stats::as.formula(sprintf("score ~ %s * (%s - lb - lbs * zb)", slope, ability))),
    lapply(terms, stats::as.formula), if (length(widths)) lapply(c("lower", "upper"), function(end) {
      sum <- paste0(end, widths, " * exp(w", widths, ")", collapse = " + ")
      brms::nlf(stats::as.formula(paste0(end, " ~ ", end, "0 + ", sum)))
    }), list(nl = TRUE)
  ))
  priors <- do.call(c, c(
    lapply(c("theta", "zb", if (data$model == "2pl") "za", if (length(widths)) paste0("w", widths)), function(name) {
      brms::prior_string("constant(1)", class = "sd", nlpar = name)
    }),
    if (data$model == "1pl") list(brms::prior_string("normal(0, 0.5)", class = "b", nlpar = "slope")),
    if (free["mean"]) list(brms::prior_string("normal(0, 1)", class = "b", nlpar = "mean")),
    if (free["sd"]) list(brms::prior_string("normal(0, 0.5)", class = "b", nlpar = "logsd"))
  ))
  code <- brms::make_stancode(formula, frame, family, priors, stanvars = functions)
  sampled_names <- unique(regmatches(code, gregexpr("\\b(r_[0-9]+_(z[ab]|w[0-9]+)_1|b_(slope|mean|logsd))\\b", code))[[1]])
  chains <- options$chains %or% 4
  tune <- options$tune %or% 500
  model <- compiled(code, options$cache)
  standata <- unclass(brms::make_standata(formula, frame, family, priors, stanvars = functions))
  sample_with <- function(draws) {
    sampled <- rstan::sampling(
      model, data = standata, pars = sampled_names, chains = chains, iter = tune + draws, warmup = tune,
      cores = min(options$cores %or% 1, chains), seed = options$seed %or% 1, refresh = 0
    )
    divergent <- vapply(rstan::get_sampler_params(sampled, inc_warmup = FALSE),
                        function(chain) sum(chain[, "divergent__"]), 0)
    summarise_brms(data, prior, graded, as.array(sampled), sum(divergent), tune)
  }
  draws <- options$draws %or% 1500
  found <- sample_with(draws)
  ess <- min(found$diagnostics$min_bulk_ess, found$diagnostics$min_tail_ess)
  if (isTRUE(ess >= 500 && ess < 1000)) sample_with(ceiling(draws * 1300 / ess)) else found
}

GRADED_DENSITY <- "  real graded_lpmf(int y, real mu, real lower, real upper) {
    return log_inv_logit(mu - lower) + log_inv_logit(upper - mu) + log1m_exp(lower - upper);
  }"

# Scores counted from 0 without gaps, and the thresholds of all items: item j has the rows first[j], ..., of which the
# first and the last are far below and above all mu. A threshold is ends + by %*% exp(w); the mean of an item's is 0.
graded_items <- function(data) {
  scores <- lapply(seq_len(data$n_items), function(j) sort(unique(data$score[data$item == j])))
  size <- lengths(scores)
  by <- lapply(size - 1L, function(m) {
    outer(0:(m + 1), seq_len(max(size) - 2L), function(k, i) ifelse(i < m & k > 0 & k <= m, (i < k) - (m - i) / m, 0))
  })
  list(
    scores = scores, size = size, score = mapply(function(j, x) match(x, scores[[j]]) - 1L, data$item, data$score),
    first = cumsum(c(1L, size + 1L))[seq_along(size)], by = do.call(rbind, by),
    ends = unlist(lapply(size, function(n) c(-1000, rep(0, n - 1), 1000)))
  )
}

# Posterior means and covariances from draws x chains x parameters; whether the chains agree, and where least.
summarise_brms <- function(data, prior, graded, draws, divergences, tune) {
  J <- data$n_items
  of_items <- function(name) draws[, , grep(paste0("^r_[0-9]+_", name, "_1\\["), dimnames(draws)[[3]]), drop = FALSE]
  of_all <- function(name) {
    if (any(hit <- startsWith(dimnames(draws)[[3]], paste0("b_", name)))) draws[, , hit] else array(0, dim(draws)[1:2])
  }
  by_item <- function(values) aperm(array(values, c(J, dim(draws)[1:2])), c(2, 3, 1))
  log_a <- switch(data$model,
    `2pl` = by_item(prior$log_a_mean) + by_item(prior$log_a_sd) * of_items("za"),
    array(of_all("slope"), c(dim(draws)[1:2], J))
  )
  b <- by_item(prior$b_mean) + by_item(prior$b_sd) * of_items("zb")
  mean_draws <- of_all("mean")
  sd_draws <- exp(of_all("logsd"))
  a <- exp(log_a)
  d <- -a * b
  estimate <- function(values) apply(values, 3, mean)
  cov <- array(0, c(J, 2, 2))
  for (j in seq_len(J)) cov[j, , ] <- stats::cov(cbind(c(a[, , j]), c(d[, , j])))
  log_odds <- NULL
  u <- matrix(graded$ends, ncol = 1)
  w <- lapply(seq_len(ncol(graded$by)), function(k) of_items(paste0("w", k)))
  if (any(data$item_types == "graded")) {
    log_odds <- matrix(NA_real_, J, max(data$categories))
    cov <- array(0, c(J, 1 + ncol(log_odds), 1 + ncol(log_odds)))
    for (j in seq_len(J)) {
      at <- graded$first[j] + seq_len(graded$size[j] - 1L)
      widths <- exp(vapply(w, function(values) c(values[, , j]), numeric(length(a[, , j]))))
      odds <- c(d[, , j]) - widths %*% t(graded$by[at, , drop = FALSE])
      places <- graded$scores[[j]] + 1L
      log_odds[j, places] <- c(0, colMeans(odds))
      cov[j, c(1L, 1L + places[-1]), c(1L, 1L + places[-1])] <- stats::cov(cbind(c(a[, , j]), odds))
      u[at] <- mean(log_odds[j, places[-1]]) - log_odds[j, places[-1]]
    }
  }
  named <- function(symbol, values) {
    stats::setNames(lapply(seq_len(J), function(j) values[, , j]), paste(symbol, "of item", data$item_ids))
  }
  latent <- list(`the latent mean` = mean_draws, `the latent SD` = sd_draws)
  of_widths <- lapply(seq_along(w), function(k) named(paste0("w", k), w[[k]])[graded$size > k + 1])
  judged <- c(named("a", a), named("b", b), named("d", d), do.call(c, of_widths), latent)
  judged <- judged[vapply(judged, function(x) diff(range(x)) > 0, TRUE)]
  rhat <- vapply(judged, posterior::rhat, 0)
  bulk <- vapply(judged, posterior::ess_bulk, 0)
  tail <- vapply(judged, posterior::ess_tail, 0)
  unidentified <- !data$anchored & determined_by_prior(data$model, prior, log_a, b)
  reason <- c(
    if (!isTRUE(max(rhat) <= 1.01)) {
      sprintf("the chains disagree, most on %s: R-hat %.3f, at most 1.01 is allowed", names(which.max(rhat)), max(rhat))
    },
    if (!isTRUE(min(bulk) >= 1000)) few_draws("bulk", bulk),
    if (!isTRUE(min(tail) >= 1000)) few_draws("tail", tail),
    if (divergences > 0) {
      sprintf("%d transitions diverged: the sampler missed a part of the posterior. Look at %s first",
              as.integer(divergences), names(which.min(tail)))
    },
    if (any(unidentified)) {
      sprintf("the responses do not determine the parameters of %d items (%s): their estimates only reflect the prior",
              sum(unidentified), some(data$item_ids[unidentified]))
    }
  )
  cov[unidentified, , ] <- NA_real_
  latent <- list(mean = mean(mean_draws), sd = mean(sd_draws))
  fixed <- sum(diff(range(mean_draws)) == 0, diff(range(sd_draws)) == 0)
  list(
    a = estimate(a), d = estimate(d), c = numeric(J), cov = cov, latent = latent, log_odds = log_odds,
    loglik = marginal_loglik(data, graded, estimate(a), estimate(d), u, latent),
    n_parameters = J + switch(data$model, `2pl` = J, `1pl` = 1, rasch = 0) + 2 - fixed + sum(graded$size - 2L),
    converged = length(reason) == 0, reason = as.character(reason), iterations = prod(dim(b)[1:2]) + dim(b)[2] * tune,
    diagnostics = list(
      max_rhat = max(rhat), worst_rhat = names(which.max(rhat)), min_bulk_ess = min(bulk), min_tail_ess = min(tail),
      worst_ess = names(which.min(pmin(bulk, tail))), divergences = divergences, chains = dim(b)[2], draws = dim(b)[1],
      unidentified = as.list(data$item_ids[unidentified])
    )
  )
}

few_draws <- function(kind, ess) {
  sprintf("the draws are worth only %.0f independent values for %s (%s ESS), at least 1000 are needed: sample more draws",
          min(ess), names(which.min(ess)), kind)
}

# Item by item: mean and SD of the normal priors of log a and b. Anchors bring theirs.
brms_priors <- function(data) {
  J <- data$n_items
  prior <- list(log_a_mean = rep(0, J), log_a_sd = rep(0.5, J), b_mean = rep(0, J), b_sd = rep(1, J))
  at <- data$anchored
  if (any(at)) {
    prior$b_mean[at] <- -data$anchors$d[at] / data$anchors$a[at]
    prior$b_sd[at] <- pmax(data$anchors$b_se[at], 1e-3)
    prior$log_a_mean[at] <- log(data$anchors$a[at])
    prior$log_a_sd[at] <- pmax(data$anchors$a_se[at] / data$anchors$a[at], 1e-3)
  }
  prior
}

# Whether the posterior SD of an item's slope or location is more than 90 % of the prior's, on the scale on which it
# shrinks most (log a or a, b or d): the b of a flat item and the a of a steep one stay wide with any number of answers.
determined_by_prior <- function(model, prior, log_a, b) {
  spread <- function(values) apply(values, 3, stats::sd)
  variance <- prior$log_a_sd^2
  mean_a <- exp(prior$log_a_mean + variance / 2)
  square_a <- mean_a^2 * exp(variance)
  a_sd <- sqrt(square_a - mean_a^2)
  d_sd <- sqrt(square_a * (prior$b_mean^2 + prior$b_sd^2) - (mean_a * prior$b_mean)^2)
  if (model != "2pl") return(spread(b) / prior$b_sd > 0.9)
  slope <- pmin(spread(log_a) / prior$log_a_sd, spread(exp(log_a)) / a_sd)
  place <- pmin(spread(b) / prior$b_sd, spread(exp(log_a) * b) / d_sd)
  slope > 0.9 | place > 0.9
}

# The program of a model, compiled once per folder: brms writes the same code for any data, and a compilation takes a
# minute and 2.6 GB. The name in the folder is the hash of code and versions.
compiled <- function(code, folder) {
  if (dir.exists("/usr/include/boost")) rstan::rstan_options(boost_lib = "/usr/include")
  folder <- folder %or% tempdir()
  dir.create(folder, recursive = TRUE, showWarnings = FALSE)
  text <- tempfile()
  on.exit(unlink(text))
  writeLines(c(code, R.version.string, format(utils::packageVersion("rstan"))), text)
  path <- file.path(folder, paste0("brms-", tools::md5sum(text), ".rds"))
  model <- if (file.exists(path)) tryCatch(readRDS(path), error = function(e) NULL)
  if (is.null(model)) {
    model <- tryCatch(
      rstan::stan_model(model_code = code, model_name = "irt"),
      error = function(e) recompile_verbosely(code)
    )
    unfinished <- tempfile(tmpdir = folder)
    saveRDS(model, unfinished)
    file.rename(unfinished, path)
  }
  model
}

# Unless it is verbose, rstan reports every failure as "invalid connection".
recompile_verbosely <- function(code) {
  tryCatch(
    {
      utils::capture.output(model <- rstan::stan_model(model_code = code, model_name = "irt", verbose = TRUE))
      model
    },
    error = function(e) stop("the model's program cannot be compiled: ", conditionMessage(e), call. = FALSE)
  )
}

# --- scores ----------------------------------------------------------------------------------------------------------

irt_score <- function(request) {
  r <- checked_answers(request)
  for (name in c("a", "d", "c")) r[[name]] <- numbers(request, name, length(r$item_ids))
  r$mean <- numbers(request, "mean", 1, otherwise = 0)
  r$sd <- numbers(request, "sd", 1, otherwise = 1)
  method <- one_of(request, "method", c("eap", "map", "wle", "ml"))
  if (!isTRUE(r$sd > 0)) refuse("irt_request_error", "sd must be positive, got ", r$sd)
  bad <- which(!is.na(r$c) & (r$c < 0 | r$c >= 1))
  if (length(bad)) {
    refuse("irt_request_error", "c of item ", r$item_ids[bad[1]], " must be in [0, 1), got ", r$c[bad[1]])
  }
  usable <- !is.na(r$a + r$d + r$c) & (method == "eap" | r$a != 0)
  rows <- usable[r$item]
  r[c("person", "item", "score")] <- list(r$person[rows], r$item[rows], r$score[rows])
  found <- if (method == "eap") posterior_moments(r) else maximum(r, method)
  unanswered <- !(seq_len(r$n_persons) %in% r$person)
  prior <- method %in% c("eap", "map")
  found$theta[unanswered] <- if (prior) r$mean else NA_real_
  found$se[unanswered] <- if (prior) r$sd else NA_real_
  list(theta = finite(found$theta), se = finite(found$se), versions = irt_versions())
}

# Mean and SD of each posterior over 61 nodes on mean +- 6 sd.
posterior_moments <- function(r) {
  nodes <- r$mean + r$sd * seq(-6, 6, length.out = 61)
  post <- at_nodes(r, nodes) + rep(stats::dnorm(nodes, r$mean, r$sd, log = TRUE), each = r$n_persons)
  post <- exp(post - apply(post, 1, max))
  post <- post / rowSums(post)
  theta <- drop(post %*% nodes)
  list(theta = theta, se = sqrt(pmax(drop(post %*% nodes^2) - theta^2, 0)))
}

marginal_loglik <- function(data, graded, a, d, u, latent) {
  nodes <- latent$mean + latent$sd * seq(-6, 6, length.out = 61)
  weight <- stats::dnorm(nodes, latent$mean, latent$sd)
  at <- graded$first[data$item] + graded$score
  each <- by_nodes(data, nodes, function(theta) {
    eta <- a[data$item] * theta + d[data$item]
    stats::plogis(eta - u[at], log.p = TRUE) + stats::plogis(u[at + 1L] - eta, log.p = TRUE) +
      log1p(-exp(u[at] - u[at + 1L]))
  })
  top <- apply(each, 1, max)
  sum(top + log(drop(exp(each - top) %*% (weight / sum(weight)))))
}

# Log-likelihood of each person at each node, persons x nodes.
at_nodes <- function(r, nodes) {
  by_nodes(r, nodes, function(theta) {
    eta <- r$a[r$item] * theta + r$d[r$item]
    guess <- r$c[r$item]
    ifelse(r$score == 1L, log(guess + (1 - guess) * stats::plogis(eta)),
           log1p(-guess) + stats::plogis(-eta, log.p = TRUE))
  })
}

by_nodes <- function(r, nodes, log_p) {
  sums <- vapply(nodes, function(theta) sum_by_person(log_p(theta), r), numeric(r$n_persons))
  matrix(sums, r$n_persons)
}

sum_by_person <- function(values, r) {
  out <- numeric(r$n_persons)
  sums <- rowsum(values, r$person)
  out[as.integer(rownames(sums))] <- sums
  out
}

# Root of the estimating function of ML, MAP or Warm's (1989) WLE. Of several roots, the one with the largest integral
# up to it; NA where the likelihood of ML is highest at an end of the grid.
maximum <- function(r, method) {
  grid <- seq(-15, 15, length.out = 301) * max(r$sd, 1) + r$mean
  slope <- vapply(grid, function(theta) equation(rep(theta, r$n_persons), r, method)$slope, numeric(r$n_persons))
  slope <- matrix(slope, r$n_persons)
  height <- t(apply(slope, 1, function(row) cumsum(c(0, (utils::head(row, -1) + row[-1]) / 2))))
  best <- max.col(height, ties.method = "first")
  inside <- best > 1 & best < length(grid)
  low <- grid[pmax(best - 1, 1)]
  high <- grid[pmin(best + 1, length(grid))]
  for (step in 1:50) {
    middle <- (low + high) / 2
    up <- equation(middle, r, method)$slope > 0 # NA for persons without an answer
    low <- ifelse(up, middle, low)
    high <- ifelse(up, high, middle)
  }
  theta <- (low + high) / 2
  theta[!inside] <- NA_real_
  information <- equation(ifelse(inside, theta, r$mean), r, method)$information
  list(theta = theta, se = ifelse(inside & information > 0, 1 / sqrt(abs(information)), NA_real_))
}

equation <- function(theta, r, method) {
  a <- r$a[r$item]
  guess <- r$c[r$item]
  s <- stats::plogis(a * theta[r$person] + r$d[r$item])
  q_s <- stats::plogis(-(a * theta[r$person] + r$d[r$item]))
  p <- guess + (1 - guess) * s
  q <- (1 - guess) * q_s
  first <- a * (1 - guess) * s * q_s
  # P'/(PQ) and P'/Q stay finite as Q goes to 0: P'/Q = a s
  slope <- sum_by_person(ifelse(r$score == 1L, first / p, -a * s), r)
  expected <- sum_by_person(first * a * s / p, r)
  if (method == "wle") {
    second <- a^2 * (1 - guess) * s * q_s * (q_s - s)
    return(list(slope = slope + sum_by_person(second * a * s / p, r) / (2 * expected), information = expected))
  }
  # minus the second derivative of log P (right) or log Q (wrong)
  observed <- sum_by_person(ifelse(r$score == 1L, (first / p)^2 - a^2 * (1 - guess) * s * q_s * (q_s - s) / p,
                                   a^2 * s * q_s), r)
  if (method == "ml") return(list(slope = slope, information = observed))
  list(slope = slope - (theta - r$mean) / r$sd^2, information = observed + 1 / r$sd^2)
}

# --- requests --------------------------------------------------------------------------------------------------------

# Answers with indices from 1, or a refusal that names the field.
checked_answers <- function(request) {
  ids <- as.character(unlist(request$item_ids))
  if (!length(ids)) refuse("irt_request_error", "item_ids: at least one item is needed")
  if (anyDuplicated(ids)) refuse("irt_request_error", "item_ids: ", ids[anyDuplicated(ids)], " is named twice")
  n_persons <- whole(request, "n_persons", 1, Inf)
  if (length(n_persons) != 1) refuse("irt_request_error", "n_persons: must be one number")
  item <- whole(request, "item", 0, length(ids) - 1)
  person <- whole(request, "person", 0, n_persons - 1)
  categories <- as.integer(whole(request, "categories", 2, 21) %or% rep(2L, length(ids)))
  if (length(categories) != length(ids)) refuse("irt_request_error", "categories: one number for each item is needed")
  score <- whole(request, "score", 0, max(categories) - 1)
  if (length(unique(lengths(list(item, person, score)))) != 1) {
    refuse("irt_request_error", sprintf("person, item and score must have the same length, got %d, %d and %d",
                                        length(person), length(item), length(score)))
  }
  beyond <- which(score >= categories[item + 1])
  if (length(beyond)) {
    refuse("irt_request_error", "score: item ", ids[item[beyond[1]] + 1], " is scored up to ",
           categories[item[beyond[1]] + 1] - 1, ", got ", score[beyond[1]], " at position ", beyond[1])
  }
  twice <- anyDuplicated(person * length(ids) + item)
  if (twice) {
    refuse("irt_request_error", "person ", person[twice], " has two answers to item ", ids[item[twice] + 1])
  }
  list(item_ids = ids, n_persons = n_persons, person = as.integer(person) + 1L, item = as.integer(item) + 1L,
       score = as.integer(score), categories = categories)
}

checked_calibration <- function(request) {
  r <- checked_answers(request)
  r$engine <- one_of(request, "engine", c("mirt", "brms"))
  r$model <- one_of(request, "model", c("rasch", "1pl", "2pl", "3pl"))
  if (r$engine == "brms" && r$model == "3pl") refuse("irt_request_error", "brms fits rasch, 1pl and 2pl; got model 3pl")
  r$item_types <- checked_item_types(request, r)
  if (!length(r$score)) refuse("irt_data_error", "a calibration needs answers, and there are none")
  r$options <- as.list(request$options)
  J <- length(r$item_ids)
  r$anchored <- logical(J)
  r$anchors <- sapply(c("a", "d", "c", "a_se", "b_se"), function(name) rep(NA_real_, J), simplify = FALSE)
  if (length(request$anchors)) {
    ids <- as.character(unlist(request$anchors$item_ids))
    at <- match(ids, r$item_ids)
    if (anyNA(at)) refuse("irt_request_error", "anchors: ", ids[is.na(at)][1], " is not among item_ids")
    r$anchored[at] <- TRUE
    for (name in intersect(names(r$anchors), names(request$anchors))) {
      r$anchors[[name]][at] <- numbers(request$anchors, name, length(ids), what = "anchors: ")
    }
    for (name in c("a", "d", "c", if (r$engine == "brms") c("a_se", "b_se"))) {
      missing <- is.na(r$anchors[[name]]) & r$anchored
      if (any(missing)) refuse("irt_request_error", "anchors: ", r$item_ids[missing][1], " has no ", name)
    }
    if (r$engine == "brms" && any(bad <- r$anchored & !(r$anchors$a > 0))) {
      refuse("irt_request_error", "anchors: a of ", r$item_ids[bad][1], " must be positive, got ", r$anchors$a[bad][1])
    }
  }
  prior <- request$guessing_prior
  if (length(prior)) {
    if (!any(r$item_types == "3PL")) {
      refuse("irt_request_error", "guessing_prior: the model ", r$model, " has no guessing")
    }
    r$guessing_prior <- lapply(list(mean_logit = "mean_logit", sd_logit = "sd_logit"), function(name) {
      numbers(prior, name, 1, what = "guessing_prior: ")
    })
  }
  r
}

# The type of each item, in mirt's words.
checked_item_types <- function(request, r) {
  more <- r$categories > 2
  types <- as.character(unlist(request$item_types))
  if (!length(types)) types <- ifelse(more, "gpcm", if (r$model == "3pl") "3PL" else "2PL")
  if (length(types) != length(more)) refuse("irt_request_error", "item_types: one name for each item is needed")
  scored <- c("gpcm", "graded", "nominal")
  bad <- which(!(types %in% c("2PL", "3PL", scored)) | more != types %in% scored)
  if (length(bad)) {
    refuse("irt_request_error", "item_types: ", r$item_ids[bad[1]], ", which is scored up to ",
           r$categories[bad[1]] - 1, ", must be ", if (more[bad[1]]) "gpcm, graded or nominal" else "2PL or 3PL", ", got ",
           types[bad[1]])
  }
  if (any(more) && length(request$anchors)) {
    refuse("irt_request_error", "anchors: scored items are fitted without anchors")
  }
  if (r$engine == "brms" && any(types %in% c("3PL", "gpcm", "nominal"))) {
    refuse("irt_request_error", "brms fits 2PL and graded items; use mirt for other items")
  }
  if (r$model != "2pl" && any(types %in% c("graded", "nominal"))) {
    refuse("irt_request_error", "graded and nominal items have their own slopes: the model must be 2pl, got ", r$model)
  }
  types
}

refuse <- function(kind, ...) {
  stop(structure(class = c(kind, "error", "condition"), list(message = paste0(...), call = NULL)))
}

need <- function(package) {
  if (!requireNamespace(package, quietly = TRUE)) {
    refuse("irt_request_error", "R package ", package, " is not installed here")
  }
}

one_of <- function(request, name, known) {
  value <- unlist(request[[name]])
  if (length(value) != 1 || !(value %in% known)) {
    refuse("irt_request_error", name, ": must be one of ", paste(known, collapse = ", "), "; got ",
           some(value, "nothing"))
  }
  value
}

whole <- function(request, name, low, high) {
  value <- unlist(request[[name]])
  if (!is.null(value) && (!is.numeric(value) || anyNA(value) || any(value != round(value)))) {
    refuse("irt_request_error", name, ": must be whole numbers")
  }
  bad <- which(value < low | value > high)
  if (length(bad)) {
    refuse("irt_request_error", sprintf("%s: must lie between %g and %g, got %g at position %d",
                                        name, low, high, value[bad[1]], bad[1]))
  }
  value
}

# A field as numbers, with NA for null.
numbers <- function(request, name, length_needed, otherwise = NULL, what = "") {
  value <- unlist(lapply(request[[name]], function(x) if (is.null(x)) NA_real_ else x)) %or% otherwise
  if (length(value) != length_needed || !(is.numeric(value) || all(is.na(value)))) {
    refuse("irt_request_error", what, name, ": must be ", length_needed, " numbers, got ", length(value), " values")
  }
  as.numeric(value)
}

# --- small things ----------------------------------------------------------------------------------------------------

`%or%` <- function(value, otherwise) if (is.null(value)) otherwise else value

finite <- function(values) replace(values, !is.finite(values), NA_real_)

some <- function(values, otherwise = "") {
  if (!length(values)) return(otherwise)
  more <- if (length(values) > 5) paste(" and", length(values) - 5, "more")
  paste0(paste(utils::head(values, 5), collapse = ", "), more)
}

# The value of an expression, and its warnings, each once.
with_warnings <- function(expression) {
  warnings <- character()
  value <- withCallingHandlers(
    expression,
    warning = function(w) {
      warnings <<- unique(c(warnings, conditionMessage(w)))
      invokeRestart("muffleWarning")
    },
    message = function(m) invokeRestart("muffleMessage")
  )
  list(value = value, warnings = warnings)
}
