# The routes of the service, and who may use them. Fits run in their own processes (jobs.R), so that this process, which
# has a single thread, always answers. `settings` and the functions of jobs.R are in this file's environment.

json <- function(res, status, body) {
  res$status <- status
  res$setHeader("Content-Type", "application/json; charset=utf-8")
  res$body <- body
  res
}

failure <- function(res, status, kind, ...) {
  json(res, status, error_json(kind, ...))
}

# Whole digests are compared, so that the time reveals neither the token's length nor its first wrong byte.
authorised <- function(header) {
  if (length(header) != 1 || !startsWith(header, "Bearer ")) {
    return(FALSE)
  }
  shown <- sodium::sha256(charToRaw(substring(header, 8)))
  sum(bitwXor(as.integer(shown), as.integer(settings$token))) == 0
}

#* @plumber
function(pr) {
  pr <- plumber::pr_set_parsers(pr, character()) # worker.R parses the body, so that a large one does not block others
  pr <- plumber::pr_set_404(pr, function(req, res) {
    failure(
      res, 404, "permanent", "there is no ", req$REQUEST_METHOD, " ", req$PATH_INFO,
      "; there are GET /health, GET /healthz, POST /irt/calibrate and POST /irt/score"
    )
  })
  pr <- plumber::pr_set_error(pr, function(req, res, err) {
    message("r-irt: ", conditionMessage(err))
    failure(res, 500, "transient", "the service itself failed; see its log")
  })
  pr <- plumber::pr_hook(pr, "preroute", function(data) data$began <- Sys.time())
  plumber::pr_hook(pr, "postroute", function(data, req, res, value) {
    if (!startsWith(req$PATH_INFO, "/health")) {
      seconds <- as.numeric(difftime(Sys.time(), data$began, units = "secs"))
      message(sprintf("r-irt: %s %s %d %.1f s", req$REQUEST_METHOD, req$PATH_INFO, as.integer(res$status), seconds))
    }
    value
  })
}

#* @filter authorise
function(req, res) {
  if (startsWith(req$PATH_INFO, "/irt/") && !authorised(req$HTTP_AUTHORIZATION)) {
    res$setHeader("WWW-Authenticate", "Bearer")
    return(failure(res, 401, "permanent", "no bearer token, or not the token of this service"))
  }
  plumber::forward()
}

#* @get /health
#* @get /healthz
function(res) json(res, 200, health())

#* @post /irt/calibrate
function(req, res) answer(req, res, "calibrate")

#* @post /irt/score
function(req, res) answer(req, res, "score")

answer <- function(req, res, task) {
  promises::then(start_job(task, req$bodyRaw), function(done) json(res, done$status, done$body))
}
