#!/usr/bin/env bash
# What `docker compose up` must bring, proved where a Docker engine is (CI's job `compose`, or by hand: bash scripts/compose-try.sh):
# images build, every service becomes healthy with an arbitrary user's files, a device's reading goes through gateway, Kafka and collector
# into InfluxDB, Grafana is up with its dashboards and takes the made password and no other. Everything that it made is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v docker >/dev/null || { echo "compose-try: needs docker with compose" >&2; exit 2; }
docker info >/dev/null 2>&1 || { echo "compose-try: no Docker engine answers" >&2; exit 2; }
project=headwater-try-$$
compose() { docker compose -p "$project" "$@"; }
trap 'compose logs --tail 30; compose down -v --rmi local >/dev/null 2>&1' EXIT
fail() { echo "compose-try: $*" >&2; exit 1; }

node scripts/compose-secrets.mjs
compose up -d --build --wait --wait-timeout 600 || fail "not every service became healthy"
password=$(cat secrets/mqtt_password_of_device)
HEADWATER_MQTT_USER=device HEADWATER_MQTT_PASSWORD=$password node cli/bin.mjs publish home/kitchen/climate '{"temperature":21.5}' --mqtt 127.0.0.1:1883
HEADWATER_MQTT_USER=device HEADWATER_MQTT_PASSWORD=wrong node cli/bin.mjs publish a 1 --mqtt 127.0.0.1:1883 2>/dev/null && fail "the gateway takes a wrong password"
for _ in $(seq 60); do
  answer=$(HEADWATER_TOKEN=$(cat secrets/api_token) node cli/bin.mjs query --measurement climate --http 127.0.0.1:8080 2>/dev/null || true)
  case $answer in *21.5*) break ;; esac
  sleep 1
done
case $answer in *21.5*) ;; *) fail "the reading did not arrive: $answer" ;; esac
grafana=$(cat secrets/grafana_password)
[ "$(curl -s -o /dev/null -w '%{http_code}' -u "headwater:$grafana" http://127.0.0.1:3000/api/org)" = 200 ] || fail "Grafana does not take the password that was made"
[ "$(curl -s -o /dev/null -w '%{http_code}' -u admin:admin http://127.0.0.1:3000/api/org)" = 401 ] || fail "Grafana takes admin:admin"
[ "$(curl -s -u "headwater:$grafana" 'http://127.0.0.1:3000/api/search?type=dash-db' | node -p 'JSON.parse(require("fs").readFileSync(0)).length')" -ge 3 ] || fail "Grafana lacks its dashboards"
echo "compose-try: passed"
