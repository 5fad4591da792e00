# Faults of R that affect the process it runs in, for test_r_process.py.

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
    Sys.sleep(0.02) # the check of memory may be late, and the machine must not run out of it
  }
}

asking_too_much <- function(request) numeric(1e15)

# Writes its own process id and a helper's to files, and then computes forever.
endless <- function(request) {
  system("sleep 600 & echo $! > \"$MARK.helper\"")
  writeLines(as.character(Sys.getpid()), Sys.getenv("MARK"))
  repeat sqrt(2)
}

echo <- function(request) request
