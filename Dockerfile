# A static warren and nothing else.
#
#   docker build -t warren .
#   docker run --network host -v warren:/data warren
#   docker run --rm -i --network host warren connect KEY
#
# There is no shell in it, so no "listen --exec". Host networking spares the node a NAT of Docker's own making.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The version is the commit's, from .git, where it is part of the context.
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/warren ./cmd/warren && mkdir -p /out/data

FROM scratch
COPY --from=build /out/warren /warren
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
EXPOSE 49737/udp
ENTRYPOINT ["/warren"]
CMD ["node", "--port", "49737", "--store", "/data", "--metrics", "127.0.0.1:9737", "--json"]
