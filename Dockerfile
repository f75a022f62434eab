# Vlinders for CPUs: heads, loaders of models and workers without a GPU.
#
#   docker build -t vlinders/vlinders:0.1.0 .
#   docker run --rm -p 8000:8000 --read-only vlinders/vlinders:0.1.0
#
# Layers of the image, unpacked: base (C library, certificates, time zones) 24 MB, vlinders 28 MB. Nothing else: no shell, no packages.
# Layers of the build: compiler 1.5 GB; cargo-chef 25 MB; dependencies, compiled, 1 GB, which stay as long as Cargo.lock does.

FROM rust:1.95-bookworm AS chef
RUN cargo install --locked cargo-chef --version 0.1.78 \
 && rm -rf /usr/local/cargo/registry
WORKDIR /src

# What the dependencies are, without our own sources: the same as long as no Cargo.toml changes.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
# Line numbers in backtraces would be three quarters of the file.
ENV CARGO_PROFILE_RELEASE_DEBUG=none \
    CARGO_PROFILE_RELEASE_STRIP=symbols
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --package vlinders --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package vlinders \
 && install -D target/release/vlinders /out/vlinders

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="vlinders" \
      org.opencontainers.image.description="Serves large language models over an OpenAI-compatible API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/vlinders /usr/local/bin/vlinders
USER 65532:65532
WORKDIR /etc/vlinders
EXPOSE 8000
# Where nothing else asks: Kubernetes does so by its own probes. Loading takes minutes.
HEALTHCHECK --interval=10s --timeout=6s --start-period=15m --retries=6 CMD ["/usr/local/bin/vlinders", "health"]
ENTRYPOINT ["/usr/local/bin/vlinders"]
CMD ["serve"]
