# Starts the service: Rscript services/r_irt/run.R. Settings are read here and only here; docs/how-to/r-service.md lists them.

here <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1])))

refuse <- function(...) {
  message("r-irt: ", ...)
  quit(save = "no", status = 2)
}

setting <- function(name, default = "") {
  value <- trimws(Sys.getenv(name))
  if (nzchar(value)) value else default
}

whole_number <- function(name, default, minimum, maximum = 1e6) {
  value <- suppressWarnings(as.numeric(setting(name, default)))
  if (is.na(value) || value != round(value) || value < minimum || value > maximum) {
    refuse(name, " must be a whole number from ", minimum, " to ", maximum, ", got '", setting(name), "'")
  }
  value
}

for (package in c("plumber", "promises", "later", "processx", "jsonlite", "sodium")) {
  if (!requireNamespace(package, quietly = TRUE)) {
    refuse("the R package ", package, " is missing; on Debian: apt install r-cran-", package)
  }
}

engines <- Filter(function(name) nzchar(system.file(package = name)), c("mirt", "brms"))
message("r-irt: engines here: ", if (length(engines)) paste(engines, collapse = ", ") else "none",
  if (!"mirt" %in% engines) "; Debian has no package of mirt: docs/how-to/deploy-images.md")

token <- setting("R_IRT_INTERNAL_TOKEN")
if (!nzchar(token)) refuse("R_IRT_INTERNAL_TOKEN is not set: callers send it as their bearer token")
Sys.unsetenv("R_IRT_INTERNAL_TOKEN") # no fit needs it

irt_file <- setting("R_IRT_SOURCE", file.path(here, "..", "..", "irt_assets", "engines", "irt.R"))
if (!file.exists(irt_file)) refuse("R_IRT_SOURCE: there is no file ", irt_file)

host <- setting("R_IRT_HOST", "127.0.0.1")
port <- whole_number("R_IRT_PORT", "8000", 1, 65535)
options(
  plumber.maxRequestSize = whole_number("R_IRT_BODY_MIB", "512", 1) * 2^20,
  plumber.methodNotAllowed = FALSE # plumber's response has a different form from ours
)

api <- new.env()
api$settings <- list(
  token = sodium::sha256(charToRaw(token)),
  worker = file.path(here, "worker.R"),
  irt_file = normalizePath(irt_file),
  cache = setting("R_IRT_CACHE", file.path(tempdir(), "models")), # models compiled by brms
  at_once = whole_number("R_IRT_FITS", "2", 1),
  wait_seconds = whole_number("R_IRT_WAIT_SECONDS", "600", 0),
  seconds = whole_number("R_IRT_SECONDS", "7200", 1),
  memory_mib = whole_number("R_IRT_MEMORY_MIB", "0", 0)
)
sys.source(file.path(here, "jobs.R"), api)
router <- plumber::pr(file.path(here, "plumber.R"), envir = api)
# If systemd started this process, the loop that answers requests reports READY, and later that it is alive.
tell_systemd <- function(state) {
  processx::process$new("systemd-notify", state, cleanup = FALSE)
  later::later(function() tell_systemd("WATCHDOG=1"), as.numeric(Sys.getenv("WATCHDOG_USEC", "60000000")) / 4e6)
}
if (nzchar(Sys.getenv("NOTIFY_SOCKET"))) later::later(function() tell_systemd("READY=1"))
message("r-irt: listening on ", host, ":", port)
router$run(host = host, port = port, docs = FALSE, quiet = TRUE)
