# Jobs: worker.R handles each request in its own process, with limits of time and memory, so that R may crash there.
# Requests wait in line if too many run already. This file contains no HTTP and no IRT.

jobs <- new.env()
jobs$running <- 0L
jobs$line <- list() # an environment per waiting request, oldest first
POLL_SECONDS <- 0.1
LOG_TAIL_LINES <- 20 # lines of a crashed R's output that are logged

error_json <- function(kind, ...) {
  body <- list(error = list(kind = kind, message = paste0(...)))
  as.character(jsonlite::toJSON(body, auto_unbox = TRUE))
}

# A promise of list(status, body), which is kept even if the process crashes. `task` is "calibrate" or "score".
start_job <- function(task, request) {
  job <- new.env()
  job$folder <- tempfile("job")
  dir.create(job$folder, mode = "0700")
  writeBin(if (is.null(request)) raw() else request, file.path(job$folder, "request.json"))
  job$due <- Sys.time() + settings$wait_seconds
  jobs$line <- c(jobs$line, job)
  ended <- promises::promise(function(resolve, reject) {
    poll <- function() {
      tryCatch( # an error in a callback would end the service
        {
          done <- advance(job, task)
          if (is.null(done)) later::later(poll, POLL_SECONDS) else resolve(done)
        },
        error = reject
      )
    }
    poll()
  })
  promises::finally(ended, function() {
    if (is.null(job$process)) leave_line(job) else jobs$running <- jobs$running - 1L
    unlink(job$folder, recursive = TRUE)
  })
}

# list(status, body) when the job is over, NULL before.
advance <- function(job, task) {
  late <- Sys.time() > job$due
  if (is.null(job$process)) {
    if (jobs$running < settings$at_once && identical(jobs$line[[1]], job)) {
      leave_line(job)
      job$process <- start_worker(task, job$folder)
      jobs$running <- jobs$running + 1L
      job$due <- Sys.time() + settings$seconds
    } else if (late) {
      return(list(status = 503, body = error_json(
        "transient", "waited ", settings$wait_seconds, " s for one of the ", settings$at_once,
        " requests that run at once to end"
      )))
    }
  } else if (!job$process$is_alive()) {
    return(outcome(job$process$get_exit_status(), job$folder))
  } else if (late) {
    job$process$kill_tree()
    return(list(status = 504, body = error_json(
      "permanent", "stopped after ", settings$seconds, " s, the limit of R_IRT_SECONDS: send fewer responses, use a ",
      "smaller model, or raise the limit"
    )))
  }
  NULL
}

leave_line <- function(job) {
  jobs$line <- Filter(function(other) !identical(other, job), jobs$line)
}

start_worker <- function(task, folder) {
  limit <- if (settings$memory_mib > 0) sprintf("ulimit -v %.0f && ", settings$memory_mib * 1024) else ""
  processx::process$new(
    "sh",
    c(
      "-c", paste0(limit, 'exec "$@"'), "sh",
      file.path(R.home("bin"), "Rscript"), "--no-init-file", settings$worker, settings$irt_file, settings$cache, task,
      folder
    ),
    stdout = file.path(folder, "log"), stderr = "2>&1", env = c("current", TMPDIR = folder),
    supervise = TRUE, cleanup_tree = TRUE # fits end with the service
  )
}

# The response that worker.R wrote or, if it is not complete, an error that says how R ended.
outcome <- function(exit, folder) {
  status <- file.path(folder, "status")
  if (file.exists(status)) {
    answer <- file.path(folder, "answer.json")
    return(list(
      status = as.integer(readLines(status)),
      body = readChar(answer, file.size(answer), useBytes = TRUE)
    ))
  }
  ending <- if (exit < 0) paste("signal", -exit) else paste("exit code", exit)
  message("r-irt: R ended with ", ending, " and no answer; its last output:")
  log <- file.path(folder, "log")
  if (file.exists(log)) {
    words <- utils::tail(readLines(log, warn = FALSE), LOG_TAIL_LINES)
    message(paste("r-irt:  ", words, collapse = "\n"))
  }
  killed <- exit == -9 # by the kernel if memory ran out, or by a person: a later attempt may succeed
  list(status = 500, body = error_json(
    if (killed) "transient" else "permanent", "R ended with ", ending, " and without an answer",
    if (killed) ", as happens if memory runs out" else "", "; the log of the service has its last output"
  ))
}

# Sets loads[[engine]]: NA while it loads, then "" after success, or the reason of the failure.
try_loading <- function(engine, loads) {
  loads[[engine]] <- NA_character_
  folder <- tempfile("load")
  dir.create(folder, mode = "0700")
  writeLines(as.character(jsonlite::toJSON(list(engine = engine), auto_unbox = TRUE)), file.path(folder, "request.json"))
  process <- start_worker("load", folder)
  poll <- function() {
    if (process$is_alive()) {
      return(later::later(poll, POLL_SECONDS))
    }
    done <- outcome(process$get_exit_status(), folder)
    loads[[engine]] <- if (done$status == 200) "" else jsonlite::fromJSON(done$body)$error$message
    if (done$status != 200) message("r-irt: ", engine, " is installed and does not load: ", loads[[engine]])
    unlink(folder, recursive = TRUE)
  }
  poll()
}

# At the start, each engine is loaded in its own process, because an installed package may fail to load. Until then it
# is in `loading`; `not_loaded` has the reasons of failures.
health <- local({
  sys.source(settings$irt_file, irt <- new.env())
  versions <- irt$irt_versions()
  loads <- new.env()
  for (engine in Filter(function(engine) !is.na(versions[[engine]]), c("mirt", "brms"))) try_loading(engine, loads)
  function() {
    tried <- sapply(sort(names(loads), decreasing = TRUE), function(engine) loads[[engine]])
    failed <- Filter(nzchar, tried[!is.na(tried)])
    body <- list(
      status = "ok", engines = I(names(tried)[tried %in% ""]), loading = I(names(tried)[is.na(tried)]),
      not_loaded = if (length(failed)) as.list(failed) else structure(list(), names = character()),
      versions = versions, running = jobs$running, waiting = length(jobs$line), at_once = settings$at_once
    )
    as.character(jsonlite::toJSON(body, auto_unbox = TRUE, na = "null"))
  }
})
