# Reference figures of classical item analysis: psych, ShinyItemAnalysis and TAM on real data.
suppressMessages({library(psych); library(jsonlite); library(Rcpp)})
src <- Sys.getenv("R_SOURCES"); data <- file.path(Sys.getenv("IRT_SHARED"), "data")  # sources of the packages; data
for (f in c("utils","recode_nr","gDiscrim","ItemAnalysis")) source(file.path(src,"ShinyItemAnalysis/R",paste0(f,".R")))
map2_dbl <- function(a,b,f) { g <- function(.x,.y) mean(.x == .y, na.rm=TRUE); mapply(g, a, b) }
Sys.setenv(PKG_CXXFLAGS="")
sourceCpp(file.path(src,"TAM/src/tam_rcpp_ctt.cpp"))
source(file.path(src,"TAM/R/tam_ctt_wrapper.R")); source(file.path(src,"TAM/R/tam.ctt3.R"))
forms <- list(
  sat12=read.csv(file.path(data,"sat12_scored_wide.csv"))[,-1],
  science=read.csv(file.path(data,"science_wide.csv"))[,-1]-1,
  verbal_aggression=read.csv(file.path(data,"verbal_aggression_poly_wide.csv"))[,-(1:3)])
out <- list(versions=list(R=R.version.string, psych=as.character(packageVersion("psych")),
  ShinyItemAnalysis=read.dcf(file.path(src,"ShinyItemAnalysis/DESCRIPTION"))[,"Version"][[1]],
  TAM=read.dcf(file.path(src,"TAM/DESCRIPTION"))[,"Version"][[1]]))
for (n in names(forms)) { d <- forms[[n]]
  a <- suppressWarnings(psych::alpha(d, check.keys=FALSE)); ts <- rowSums(d)
  ia <- ItemAnalysis(as.data.frame(d), minscore=rep(0,ncol(d)))
  sp <- psych::describe(ts, type=2)   # skew, kurtosis type 2 (SAS, SPSS)
  sp1 <- psych::describe(ts, type=1)
  om <- suppressWarnings(suppressMessages(psych::omega(d, nfactors=1, plot=FALSE)))
  omc <- suppressWarnings(suppressMessages(psych::omega(d, nfactors=1, plot=FALSE, covar=TRUE)))
  ml <- factanal(d, 1); fml <- factanal(d,1); L <- ml$loadings[,1]*apply(d,2,sd)
  g <- suppressWarnings(psych::guttman(d)); C <- cov(d)
  odd <- rowSums(d[,seq(1,ncol(d),2)]); even <- rowSums(d[,seq(2,ncol(d),2)])
  rr <- cor(odd,even)
  out[[n]] <- list(n=nrow(d), mean=mean(ts), sd=sd(ts), median=median(ts), skewness2=sp$skew, kurtosis2=sp$kurtosis,
    skewness1=sp1$skew, kurtosis1=sp1$kurtosis,
    alpha=a$total$raw_alpha, feldt=unlist(a$feldt[c("lower.ci","upper.ci")]), alpha_if_deleted=a$alpha.drop$raw_alpha,
    omega_psych=om$omega.tot, omega_covar=omc$omega.tot, omega_ml_raw=sum(L)^2/sum(C),
    lambda2_cor=g$lambda.2, lambda2_cov={k<-ncol(C); o<-C-diag(diag(C)); (sum(o)+sqrt(k/(k-1)*sum(o^2)))/sum(C)},
    split_half=rr, spearman_brown=2*rr/(1+rr),
    item_mean=ia$Mean, item_sd=ia$SD, item_rest=ia$RIR, item_total=ia$RIT, alpha_drop_sia=ia$Alpha.drop, uli=ia$ULI,
    biserial=suppressWarnings(sapply(1:ncol(d), function(j) if (max(d[,j])==1) psych::biserial(ts-d[,j], d[,j]) else NA)))
}
raw <- read.csv(file.path(data,"sat12_raw_choices.csv"))[,-1]; d <- forms$sat12; ts <- rowSums(d)
key <- read.csv(file.path(data,"sat12_key.csv"))
rows <- do.call(rbind, lapply(1:32, function(j) { r <- tam.ctt3(raw[,j,drop=FALSE], wlescore=ts-d[,j], progress=FALSE); r$item <- colnames(raw)[j]; r }))
out$sat12$options <- rows[,c("item","Categ","AbsFreq","RelFreq","rpb.WLE","M.WLE","SD.WLE")]
write_json(out, "classical.json", digits=NA, auto_unbox=TRUE, pretty=TRUE, na="null")
