# One image for gateway and collector; `--build-arg KAFKA=1` adds the native Kafka client (compiled, a few minutes).
FROM node:20.19-bookworm-slim AS build
ARG KAFKA=0
WORKDIR /app
RUN if [ "$KAFKA" = 1 ]; then apt-get update && apt-get install -y --no-install-recommends build-essential python3 libssl-dev zlib1g-dev libsasl2-dev && rm -rf /var/lib/apt/lists/*; fi
COPY . .
RUN npm ci && npm prune --omit=dev
RUN if [ "$KAFKA" = 1 ]; then npm run install:kafka; else mkdir -p collector/kafka-client/node_modules; fi

FROM node:20.19-bookworm-slim
WORKDIR /app
COPY --from=build /app /app
RUN mkdir /data && chown node /data
USER node
VOLUME /data
ENTRYPOINT ["node", "cli/bin.mjs"]
