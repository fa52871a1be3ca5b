# A small image of Dockwright: docker build -t dockwright .
#
# It runs as user 10001, who may not open the engine's socket until told so. Give the container the socket and its group:
#   docker run --network host -v /var/run/docker.sock:/var/run/docker.sock \
#     --group-add "$(stat -c %g /var/run/docker.sock)" -v dockwright:/data dockwright
# Whoever may open that socket is root on the host; so is, in the end, this container.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The dependencies in a layer of their own: a change of ours does not compile them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && mkdir -p tests/it && touch tests/it/main.rs tests/architecture.rs \
    && cargo build --release --locked --bin dockwright && rm -r src
COPY src src
# Newer than the placeholder, whatever the context's times are.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked --bin dockwright

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dockwright \
    && install -d -o dockwright -g dockwright -m 700 /data
COPY --from=build /build/target/release/dockwright /usr/local/bin/dockwright
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/dockwright/
USER dockwright
VOLUME /data
EXPOSE 8080
ENV DOCKWRIGHT_DATA_DIR=/data
# The image has no HTTP client: bash asks. A worker serves nothing, so switch this off there.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["dockwright"]
CMD ["serve"]
