# The R service (docs/how-to/r-service.md): brms from Debian, and mirt if its sources are in deploy/docker/mirt.
#   make images, or: docker build -f deploy/docker/r-service.Dockerfile -t r-irt-plumber .
# It writes only to /tmp and /var/cache/irt, which keeps models compiled by brms; so the image has a compiler.
ARG BASE=docker.io/library/debian:bookworm-slim
# Debian packages that mirt loads, for the stages that compile and run it.
ARG MIRT_NEEDS="r-cran-gparotation r-cran-gridextra r-cran-pbapply r-cran-splines2 r-cran-vegan"

FROM ${BASE} AS r
# brms needs RcppParallel, which calls dpkg-architecture but does not depend on its package dpkg-dev.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      dpkg-dev g++ make r-base-core r-cran-brms r-cran-plumber r-cran-processx tini \
 && apt-get clean && rm -rf /var/lib/apt/lists/*

FROM r AS mirt
ARG MIRT_NEEDS
COPY deploy/docker/mirt /sources
RUN mkdir -p /usr/local/lib/R/site-library \
 && if ls /sources/*.tar.gz >/dev/null 2>&1; then \
      apt-get update \
   && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        r-base-dev r-cran-rcpparmadillo ${MIRT_NEEDS} \
   && Rscript -e 'tools::write_PACKAGES("/sources"); install.packages("mirt", contriburl = "file:///sources")' \
              -e 'stopifnot(requireNamespace("mirt"))'; \
    fi

FROM r
ARG MIRT_NEEDS
LABEL org.opencontainers.image.title="r-irt-plumber" \
      org.opencontainers.image.description="R engines of irt-assets over HTTP"
RUN groupadd --gid 10001 irt \
 && useradd --uid 10001 --gid irt --home-dir /tmp --no-create-home --shell /usr/sbin/nologin irt \
 && install -d -o irt -g irt -m 777 /var/cache/irt
COPY --from=mirt /usr/local/lib/R/site-library /usr/local/lib/R/site-library
# Check in the final image that they load.
RUN set -e; engines=brms; \
    if [ -d /usr/local/lib/R/site-library/mirt ]; then \
      engines="brms mirt"; \
      apt-get update; \
      DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${MIRT_NEEDS}; \
      apt-get clean; rm -rf /var/lib/apt/lists/*; \
    fi; \
    for engine in $engines; do Rscript -e "loadNamespace('$engine')"; done
COPY services/r_irt /opt/r_irt
COPY irt_assets/engines/irt.R /opt/r_irt/
ENV HOME=/tmp \
    R_IRT_HOST=0.0.0.0 \
    R_IRT_SOURCE=/opt/r_irt/irt.R \
    R_IRT_CACHE=/var/cache/irt/models
USER 10001:10001
WORKDIR /tmp
# As process 1, R would ignore TERM and leave zombies.
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["Rscript", "/opt/r_irt/run.R"]
