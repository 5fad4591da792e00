# Reference figures of equating: R packages equate, kequate and equateIRT.
# Rscript equating.R, beside designs.json (equating_designs.py). Writes equate.json, kequate.json, equateIRT.json,
# which equating.json holds together. kequate was built with tol = 1e-13 in uniroot instead of 1e-6; ACTmath (Kolen &
# Brennan 2014) is a data set of equate.
suppressMessages({library(jsonlite); library(equate)})
d <- fromJSON("designs.json")
ft <- function(m) { m <- as.matrix(m); tab <- expand.grid(total=0:(nrow(m)-1), anchor=0:(ncol(m)-1)); as.freqtab(cbind(tab, as.vector(m)), scales=list(0:(nrow(m)-1),0:(ncol(m)-1)), design="ng") }
out <- list()
x <- as.freqtab(ACTmath[,1:2]); y <- as.freqtab(ACTmath[,c(1,3)])
out$ACTmath <- list(new=ACTmath$xcount, old=ACTmath$ycount)
one <- function(e) list(yx=e$concordance$yx, se=e$concordance$se)
rg <- list()
for (t in c("identity","mean","linear","circle-arc","equipercentile")) rg[[t]] <- one(equate(x,y,type=t))
rg[["equipercentile loglinear 6"]] <- one(equate(x,y,type="equipercentile",smoothmethod="loglinear",degrees=6))
px <- presmoothing(x,smoothmethod="loglinear",degrees=6); py <- presmoothing(y,smoothmethod="loglinear",degrees=6)
rg$fitted <- list(new=as.vector(px), old=as.vector(py))
out$random <- rg
for (design in c("internal","external")) {
  nx <- ft(d[[paste(design,"new")]]); ny <- ft(d[[paste(design,"old")]])
  r <- list()
  inn <- design=="internal"
  for (t in c("mean","linear")) for (m in c("tucker","levine","chained")) r[[paste(t,m)]] <- one(equate(nx,ny,type=t,method=m,internal=inn))
  r[["linear levine-true-score"]] <- one(equate(nx,ny,type="linear",method="levine",lts=TRUE,internal=inn))
  r[["mean frequency"]] <- one(equate(nx,ny,type="mean",method="braun/holland"))
  r[["linear frequency"]] <- one(equate(nx,ny,type="linear",method="braun/holland"))
  for (m in c("frequency estimation","chained")) r[[paste("equipercentile",m)]] <- one(equate(nx,ny,type="equip",method=m))
  for (m in c("tucker","levine","chained")) r[[paste("circle-arc",m)]] <- one(equate(nx,ny,type="circle",method=m,internal=inn))
  r[["circle-arc frequency"]] <- tryCatch(one(equate(nx,ny,type="circle",method="braun/holland")), error=function(e) NULL)
  r[["tucker weight .5"]] <- one(equate(nx,ny,type="linear",method="tucker",ws=.5))
  sx <- presmoothing(nx,smoothmethod="loglinear",degrees=list(4,2)); sy <- presmoothing(ny,smoothmethod="loglinear",degrees=list(4,2))
  r$fitted <- list(new=matrix(as.vector(sx),nrow=nrow(d[[paste(design,"new")]])), old=matrix(as.vector(sy),nrow=nrow(d[[paste(design,"old")]])))
  r[["smoothed frequency estimation"]] <- one(equate(nx,ny,type="equip",method="frequency estimation",smoothmethod="loglinear",degrees=list(4,2)))
  r[["smoothed chained"]] <- one(equate(nx,ny,type="equip",method="chained",smoothmethod="loglinear",degrees=list(4,2)))
  out[[design]] <- r
}
sg <- d[["single group"]]
tab <- expand.grid(x=0:20,y=0:20); s <- as.freqtab(cbind(tab,as.vector(sg)),scales=list(0:20,0:20),design="sg")
out$single <- list()
for (t in c("mean","linear","circle-arc","equipercentile")) out$single[[t]] <- tryCatch(one(equate(s,type=t)), error=function(e) {cat(t, conditionMessage(e),"\n"); NULL})
out$versions <- list(R=R.version.string, equate=as.character(packageVersion("equate")))
write(toJSON(out,digits=NA,auto_unbox=FALSE,null="null",na="null"),"equate.json")
suppressMessages({library(jsonlite); library(equate); library(kequate)})
d <- fromJSON("designs.json"); out <- list()
X <- 0:40
x <- ACTmath$xcount; y <- ACTmath$ycount
glmpoly <- function(n,k,deg) { z <- (0:k)/k; glm(n ~ poly(z,deg), family="poisson", x=TRUE) }
# kequate wants columns in the design matrix without poly's class
fx <- data.frame(n=x,s=X); for (i in 1:6) fx[[paste0("s",i)]] <- (X/40)^i
fy <- data.frame(n=y,s=X); for (i in 1:6) fy[[paste0("s",i)]] <- (X/40)^i
gx <- glm(n~s1+s2+s3+s4+s5+s6,data=fx,family="poisson",x=TRUE,control=list(epsilon=1e-14,maxit=100)); gy <- glm(n~s1+s2+s3+s4+s5+s6,data=fy,family="poisson",x=TRUE,control=list(epsilon=1e-14,maxit=100))
k1 <- kequate("EG",X,X,gx,gy,hx=.6,hy=.7)
out$EG <- list(yx=getEq(k1),se=getSee(k1))
k2 <- kequate("EG",X,X,gx,gy); out$EGchosen <- list(yx=getEq(k2),se=getSee(k2),h=getH(k2))
biv <- function(m) { m<-as.matrix(m); K<-nrow(m)-1; A<-ncol(m)-1; t<-data.frame(n=as.vector(m),X=rep(0:K,A+1),A=rep(0:A,each=K+1)); x<-t$X/K; a<-t$A/A
 glm(n~x+I(x^2)+I(x^3)+I(x^4)+a+I(a^2)+I(a^3)+I(a^4)+I(x*a)+I(x^2*a)+I(x*a^2)+I(x^2*a^2),data=cbind(t,x=x,a=a),family="poisson",x=TRUE,control=list(epsilon=1e-14,maxit=100)) }
for (des in c("internal","external")) {
 m1<-d[[paste(des,"new")]]; m2<-d[[paste(des,"old")]]; P<-biv(m1); Q<-biv(m2); K<-nrow(m1)-1
 ce<-kequate("NEAT_CE",0:K,0:K,0:12,P,Q,hxP=.6,hyQ=.65,haP=.55,haQ=.5)
 pse<-kequate("NEAT_PSE",0:K,0:K,P,Q,hx=.6,hy=.65)
 ce2<-kequate("NEAT_CE",0:K,0:K,0:12,P,Q)
 pse2<-kequate("NEAT_PSE",0:K,0:K,P,Q)
 out[[des]]<-list(ce=list(yx=getEq(ce),se=getSee(ce),h=getH(ce)),pse=list(yx=getEq(pse),se=getSee(pse),h=getH(pse)),ce2=list(yx=getEq(ce2),h=getH(ce2)),pse2=list(yx=getEq(pse2),se=getSee(pse2),h=getH(pse2)))
}
sg<-d[["single group"]]; S<-biv(sg); s<-kequate("SG",0:20,0:20,S,hx=.6,hy=.6); out$SG<-list(yx=getEq(s),se=getSee(s))
out$versions<-list(R=R.version.string,kequate=as.character(packageVersion("kequate")))
write(toJSON(out,digits=NA,null="null",na="null"),"kequate.json")
suppressMessages({library(jsonlite); library(equateIRT)})
out<-list()
for (m in c("2pl","3pl")) {
 e <- if (m=="2pl") {data(est2pl); est2pl} else {data(est3pl); est3pl}
 mods<-modIRT(coef=e$coef,var=e$var,names=paste0("test",1:5),display=FALSE)
 for (link in c("mean-sigma","Haebara")) {
  l<-direc(mods=mods,which=c(1,2),method=link)
  tse<-score(l); 
  nodes<-seq(-6,6,length.out=61); w<-dnorm(nodes); w<-w/sum(w)
  ose<-score(l,method="OSE",theta=nodes,weights=w,w=.5)
  out[[paste(m,link)]]<-list(A=l$A,B=l$B,varAB=l$varAB,partial=l$partial,partial_names=rownames(l$partial),tse=tse,ose=ose,itm=itm(l),suff=l$suff)
 }
 out[[m]]<-list(coef1=mods[[1]]$coefficients,n1=names(mods[[1]]$coefficients),var1=mods[[1]]$var,coef2=mods[[2]]$coefficients,n2=names(mods[[2]]$coefficients),var2=mods[[2]]$var)
}
out$versions<-list(R=R.version.string,equateIRT=as.character(packageVersion("equateIRT")))
write(toJSON(out,digits=NA,null="null",na="null",dataframe="columns"),"equateIRT.json")
str(out[["3pl mean-sigma"]][c("A","B","partial","tse","ose")],give.attr=FALSE); print(head(out[["3pl"]]$n1)); print(head(out[["3pl mean-sigma"]]$partial_names)); print(head(out[["3pl mean-sigma"]]$itm))
