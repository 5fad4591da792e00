# Reference figures of classification and subscores: R packages cacIRT, betafunctions and subscore (with α instead of CTT).
# cacIRT uses D = 1.7 in a part of class.Lee whatever D is given, so its items have a/1.7.
suppressMessages({library(jsonlite); library(cacIRT); library(betafunctions)})
set.seed(1)
ip <- cbind(round(exp(rnorm(30,0,.25)),3), round(rnorm(30),3), 0); ip3 <- ip; ip3[,3] <- .2
out <- list(items=ip)
th <- round(rnorm(200),3)
out$theta <- th
for (nm in c("2pl","3pl")) { p <- if (nm=="2pl") ip else ip3
 q <- seq(-6,6,length.out=2001); w <- dnorm(q); w <- w/sum(w)
 L <- class.Lee(c(15,22), sweep(p,2,c(1.7,1,1),"/"), quadrature=list(q,w), D=1.7)
 LP <- class.Lee(c(15,22), p, ability=th, D=1)
 se <- SEM(p, th, D=1)
 R <- class.Rud(c(-.3,.8), p, ability=th, se=se, D=1)
 out[[nm]] <- list(lee=L$Marginal, leeP=LP$Marginal, se=se, rudner=R$Marginal) }
# LL
x <- rowSums(sapply(1:30, function(j) rbinom(2000,1,plogis(ip[j,1]*(rep(th,10)-ip[j,2])))))
al <- function(r) r
for (r in c(.85)) for (cut in c(15,18)) { res <- LL.CA(x, reliability=r, cut=cut, min=0, max=30)
 out[[paste("LL",cut)]] <- list(par=res$parameters, cm=res$confusionmatrix, acc=res$classification.accuracy, con=res$classification.consistency, cmat=res$consistencymatrix) }
out$x <- tabulate(x+1,31)
out$versions <- list(cacIRT=as.character(packageVersion("cacIRT")), betafunctions=as.character(packageVersion("betafunctions")))
write(toJSON(out,digits=NA,null="null",na="null"),"class.json"); str(out[["LL 15"]]); print(out[["2pl"]]$lee); print(out[["2pl"]]$rudner); str(out[["LL 18"]])
src <- file.path(Sys.getenv("R_SOURCES"), "subscore/R")
alpha <- function(d) { k <- ncol(d); k/(k-1)*(1-sum(apply(d,2,var))/var(rowSums(d))) }
for (f in c("subscore.x.R","subscore.s.r")) { s <- readLines(file.path(src,f)); s <- gsub("CTT::itemAnalysis\\(test.data\\[\\[r\\]\\],,NA.Delete=T, itemReport=F\\)\\$alpha","alpha(test.data[[r]])",s); s<-gsub("CTT::disattenuated.cor\\(corr, reliability.alpha\\)\\[-n.tests,-n.tests\\]","corr",s); eval(parse(text=s)) }
library(jsonlite)
d <- read.csv(file.path(Sys.getenv("IRT_SHARED"), "data/sat12_scored_wide.csv"))[,-1]
subs <- list(a=d[,1:10],b=d[,11:20],c=d[,21:32],total=d)
x <- suppressWarnings(subscore.x(subs)); s <- suppressWarnings(subscore.s(subs))
print(names(x)); print(x$subscore.information); print(s$subscore.information,digits=15); print(x$PRMSE,digits=15); print(s$PRMSE,digits=15)
