# Handles one request in its own process: Rscript worker.R IRT_FILE CACHE load|calibrate|score FOLDER
# Reads FOLDER/request.json, calls irt_load(), irt_calibrate() or irt_score() of IRT_FILE, writes FOLDER/answer.json and
# then, when that is complete, FOLDER/status with the HTTP status. irt.R checks the content of a request.

LISTS <- c("a", "d", "c", "cov", "cov_of", "warnings", "theta", "se") # lists even if they have a single entry

refuse <- function(...) {
  stop(structure(class = c("irt_request_error", "error", "condition"), list(message = paste0(...), call = NULL)))
}

read_request <- function(file) {
  text <- readChar(file, file.size(file), useBytes = TRUE)
  request <- tryCatch(
    jsonlite::fromJSON(text, simplifyDataFrame = FALSE, simplifyMatrix = FALSE),
    error = function(e) refuse("the body is not JSON: ", sub("\n.*", "", conditionMessage(e)))
  )
  if (!is.list(request) || is.null(names(request))) refuse("the body must be a JSON object with fields")
  for (field in c("anchors", "guessing_prior", "options")) {
    if (!is.null(request[[field]]) && !is.list(request[[field]])) refuse(field, ": must be a JSON object or null")
  }
  request
}

as_json <- function(result) {
  lists <- intersect(LISTS, names(result))
  result[lists] <- lapply(result[lists], I)
  jsonlite::toJSON(result, auto_unbox = TRUE, digits = NA, na = "null", null = "null")
}

failed <- function(status) {
  function(e) {
    message <- paste0(if (status == 500) "R: ", conditionMessage(e))
    list(status = status, body = as_json(list(error = list(kind = "permanent", message = message))))
  }
}

arguments <- commandArgs(TRUE)
folder <- arguments[4]
answer <- tryCatch(
  {
    sys.source(arguments[1], irt <- new.env())
    request <- read_request(file.path(folder, "request.json"))
    request$options$cache <- arguments[2] # callers cannot name folders of this machine
    list(status = 200, body = as_json(irt[[paste0("irt_", arguments[3])]](request)))
  },
  irt_request_error = failed(400),
  irt_data_error = failed(422),
  error = failed(500)
)
writeLines(answer$body, file.path(folder, "answer.json"), sep = "", useBytes = TRUE)
writeLines(as.character(answer$status), file.path(folder, "status"))
