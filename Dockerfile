# Debian's nginx with the module, in two stages:
#
#     docker build -t nginx-sse .
#     docker run --rm -p 8080:80 -v "$PWD/site.conf:/etc/nginx/conf.d/site.conf:ro" nginx-sse
#
# See docs/install.md. scripts/test package tests the commands of the first stage, the package, and its
# installation.

FROM rust:1-slim-trixie AS build
COPY . /nginx-sse
RUN cd /nginx-sse && scripts/package

FROM debian:trixie-slim
COPY --from=build /nginx-sse/target/package/*.deb /tmp/
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates /tmp/*.deb \
    && rm -rf /tmp/*.deb /var/lib/apt/lists/* /etc/nginx/sites-enabled/default \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log \
    && nginx -t
EXPOSE 80
# Ends streams gracefully, as `nginx -s quit` does.
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
