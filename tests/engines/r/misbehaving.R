# What R can do to the process it runs in, for test_r_process.py.

stopping <- function(request) stop("no such luck: ", request$word)

warning_then <- function(request) {
  warning("mind the gap")
  list(value = request$value)
}

crashing <- function(request) {
  tools::pskill(Sys.getpid(), request$signal)
  Sys.sleep(60)
}

quitting <- function(request) quit(status = request$status)

hoarding <- function(request) {
  kept <- list()
  repeat {
    kept <- c(kept, list(rep(1.5, 2e6)))
    Sys.sleep(0.02) # whoever watches may be late, and the machine's memory is not for this
  }
}

asking_too_much <- function(request) numeric(1e15)

# Says that it runs, with its own process id and that of a helper, and computes for ever.
endless <- function(request) {
  system("sleep 600 & echo $! > \"$MARK.helper\"")
  writeLines(as.character(Sys.getpid()), Sys.getenv("MARK"))
  repeat sqrt(2)
}

echo <- function(request) request
