# Two images from one file: `gateway` (few dependencies, no DuckDB, no Kafka client) and `collector` (the command with
# everything; the default). `--build-arg KAFKA=0` leaves the Kafka client out, which is compiled for some minutes.
# `npm run images:try` runs these steps in Debian roots of their own where there is no container engine.
FROM node:20.19-bookworm-slim AS build
WORKDIR /app
COPY . .
RUN npm ci --no-audit --no-fund

# The gateway's own dependencies alone, without the workspace's development tools.
FROM node:20.19-bookworm-slim AS gateway-modules
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY gateway/package.json gateway/
COPY shared/package.json shared/
COPY collector/package.json collector/
COPY dashboards/package.json dashboards/
COPY contracts/package.json contracts/
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --workspace gateway --workspace shared

FROM node:20.19-bookworm-slim AS collector-modules
ARG KAFKA=1
WORKDIR /app
RUN if [ "$KAFKA" = 1 ]; then apt-get update && apt-get install -y --no-install-recommends build-essential python3 libssl-dev zlib1g-dev libsasl2-dev && rm -rf /var/lib/apt/lists/*; fi
COPY package.json package-lock.json .npmrc ./
COPY gateway/package.json gateway/
COPY shared/package.json shared/
COPY collector/package.json collector/
COPY dashboards/package.json dashboards/
COPY contracts/package.json contracts/
COPY collector/kafka-client collector/kafka-client
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
# The headers that it compiles against are the image's own; what it is compiled from is not needed to run it.
RUN if [ "$KAFKA" = 1 ]; then npm_config_nodedir=/usr/local npm ci --no-audit --no-fund --prefix collector/kafka-client && cd collector/kafka-client/node_modules/node-rdkafka && rm -rf deps build/Release/obj.target build/deps/*.a build/deps/librdkafka; else mkdir -p collector/kafka-client/node_modules; fi

FROM node:20.19-bookworm-slim AS gateway
WORKDIR /app
COPY --from=gateway-modules /app /app
COPY --from=build /app/dist /app/dist
COPY gateway/bin.mjs gateway/
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
VOLUME /data
ENTRYPOINT ["gateway/bin.mjs"]

FROM node:20.19-bookworm-slim AS collector
# What the Kafka client's library is linked to: TLS and SASL.
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 libsasl2-2 zlib1g && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=collector-modules /app /app
COPY --from=build /app/dist /app/dist
COPY cli/bin.mjs cli/
COPY collector/mappings collector/mappings
COPY collector/batch collector/batch
COPY data data
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
VOLUME /data
ENTRYPOINT ["cli/bin.mjs"]
