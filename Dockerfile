# Tickr alone, without a MySQL server. Everything that a node needs comes from TICKR_* variables:
#
#   docker build -t tickr .
#   docker run --rm tickr serve --help

FROM rust:1-slim-bookworm AS build
WORKDIR /tickr
COPY Cargo.toml Cargo.lock README.md ./
COPY src src
COPY sql sql
# Tests and benchmarks are named in the manifest, and not needed here.
COPY tests tests
COPY benches benches
RUN cargo build --release --locked --bin tickr

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tickr \
    && install --directory --owner=tickr --group=tickr --mode=2750 /run/tickr
COPY --from=build /tickr/target/release/tickr /usr/local/bin/tickr
USER 10001
ENV TICKR_LISTEN=0.0.0.0:8080,unix:/run/tickr/tickr.sock
EXPOSE 8080
# Healthy: the node serves. TICKR_HTTP_AUTH_PASSWORD holds for the check as well.
HEALTHCHECK --interval=10s --timeout=5s \
    CMD ["tickr", "cluster", "check", "unix:/run/tickr/tickr.sock"]
ENTRYPOINT ["tickr"]
CMD ["serve"]
