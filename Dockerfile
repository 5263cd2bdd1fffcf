# Taba's image: three static programs and nothing else, no shell and no C library.
#
#   docker build -t taba .        (or: buildah bud -t taba .)
#   docker run --rm -p 8300:8300 -v taba-data:/data taba standalone --listen 0.0.0.0:8300 --data /data
#
# `cargo xtask images` makes the same image without a container engine; a test compares the two.

FROM rust:1.95-alpine AS build
RUN apk add --no-cache build-base linux-headers
WORKDIR /taba
COPY . .
# The image's own toolchain is the pinned one; rust-toolchain.toml would make rustup fetch it with clippy.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN cargo build --locked --release --package taba-server --package taba-keeper --package taba-operator \
        --bin taba --bin taba-keeper --bin taba-operator \
    && mkdir -p /image/usr/local/bin /image/tmp /image/data && chmod 1777 /image/tmp /image/data \
    && for program in taba taba-keeper taba-operator; do \
        strip -o "/image/usr/local/bin/$program" "target/release/$program"; done

FROM scratch
COPY --from=build /image/ /
ENV PATH=/usr/local/bin
USER 65532:65532
EXPOSE 8300
ENTRYPOINT ["/usr/local/bin/taba"]
