# Tickr alone, without a MySQL server: the static program and nothing else. Everything that a node
# needs comes from TICKR_* variables:
#
#   make dist
#   docker build --tag tickr .
#   docker run --rm tickr serve --help
#
# Tried without Docker: `.ci/check-image` lays the same root file system out and asks it for a
# ticket in a namespace, as user 10001, read-only. The build by Docker itself has not been run.

FROM scratch
COPY target/dist/image/usr/ /usr/
COPY --chown=10001:10001 target/dist/image/run/tickr/ /run/tickr/
USER 10001:10001
ENV PATH=/usr/bin
ENV TICKR_LISTEN=0.0.0.0:8080,unix:/run/tickr/tickr.sock
EXPOSE 8080
# Healthy: the node serves. TICKR_HTTP_AUTH_PASSWORD holds for the check as well.
HEALTHCHECK --interval=10s --timeout=5s \
    CMD ["tickr", "cluster", "check", "unix:/run/tickr/tickr.sock"]
ENTRYPOINT ["tickr"]
CMD ["serve"]
