#!/usr/bin/env bash
# Brings the real servers that the tests run against, from package registries alone, into a cache outside the checkout.
# Usage: test/services/install.sh [NAME …]   names: see `all` below; without a name: what `npm test` needs.
# Each part runs once a machine (a marker file says it is there); a second call returns at once. It names what it lacks and fails.
# What Go and Rust build, on all cores, goes beside what the network or a single core takes its time for.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${HEADWATER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/headwater}
mkdir -p "$cache/bin" "$cache/locks" "$cache/logs"

fail() { echo "services: $*" >&2; exit 1; }
say() { echo "services: $*" >&2; }
need() { command -v "$1" >/dev/null 2>&1 || fail "$2 needs '$1', which is not here. Install it ($3) and run this again."; }

apt_get() { # PACKAGE … : Debian packages, without starting the services that they bring
  [ "$(id -u)" = 0 ] || fail "needs Debian packages: run  sudo apt-get install --no-install-recommends $*  and try again."
  need apt-get "$*" "a Debian or Ubuntu system"
  exec 8>"$cache/locks/apt"; flock 8
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=1; fi
  local rc=0
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >"$cache/logs/apt.log" 2>&1 || rc=$?
  [ -z "$made" ] || rm -f "$policy"
  exec 8>&-
  [ "$rc" = 0 ] || { tail -n 5 "$cache/logs/apt.log" >&2; fail "apt-get install $* failed: see $cache/logs/apt.log"; }
}

once() { # NAME VERSION SECONDS FUNCTION : runs FUNCTION once a machine and version, by a shell of its own, which ends at its first failure
  local name=$1 version=$2 seconds=$3 run=$4
  local marker="$cache/$name-$version.ok"
  [ -e "$marker" ] && return 0
  exec 9>"$cache/locks/$name"; flock 9
  if [ ! -e "$marker" ]; then
    say "fetching $name $version (about $seconds s, once a machine, into $cache)"
    bash "$here/install.sh" --run "$run" "$version" >"$cache/logs/$name.log" 2>&1 9>&- || { tail -n 15 "$cache/logs/$name.log" >&2; fail "$name $version did not install: see $cache/logs/$name.log"; }
    touch "$marker"
  fi
  exec 9>&-
}

ensure_mosquitto() {
  if ! command -v mosquitto >/dev/null || ! command -v mosquitto_pub >/dev/null; then say "installing mosquitto and its clients from Debian"; apt_get mosquitto mosquitto-clients; fi
}
ensure_kcat() { if ! command -v kcat >/dev/null; then say "installing kcat from Debian"; apt_get kcat; fi; }
ensure_chromium() { if ! command -v chromium >/dev/null; then say "installing chromium from Debian (about 60 s)"; apt_get chromium; fi; }

# What makes the faults of `npm run chaos`: power cuts, failing system calls, wrong clocks, lost packets, no fsync.
ensure_faults() {
  local missing=
  command -v linux.uml >/dev/null || missing="$missing user-mode-linux"
  command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
  command -v strace >/dev/null || missing="$missing strace"
  command -v faketime >/dev/null || missing="$missing faketime"
  command -v iptables >/dev/null || missing="$missing iptables"
  command -v mkfs.ext4 >/dev/null || missing="$missing e2fsprogs"
  command -v mcopy >/dev/null || missing="$missing mtools"
  command -v prlimit >/dev/null || missing="$missing util-linux"
  ls /usr/lib/*/libeatmydata.so >/dev/null 2>&1 || missing="$missing libeatmydata1"
  if [ -n "$missing" ]; then say "installing$missing from Debian"; apt_get $missing; fi
  once guest 6.1 20 guest_install
}
# Debian's kernel and an initramfs for guests of QEMU: the host's files by 9p, and the disk whose power is cut.
guest_install() {
  need apt-get "the guests' kernel" "a Debian system"
  local folder="$cache/guest-$1" work version module number=10
  work=$(mktemp -d); cd "$work"
  apt-get update -q
  version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  apt-get download -q "$version" busybox-static
  local package; for package in *.deb; do dpkg-deb -x "$package" files; done
  mkdir -p tree/modules tree/dev tree/host
  cp files/bin/busybox tree/busybox
  # In the order in which they need each other.
  for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk failover net_failover virtio_net virtio-rng \
    netfs fscache 9pnet 9pnet_virtio 9p crc32c_generic crc16 mbcache jbd2 ext4; do
    cp "$(find files/lib/modules -name "$module.ko" -print -quit)" "tree/modules/$number-$module.ko"; number=$((number + 1))
  done
  cat > tree/init <<'EOF'
#!/busybox sh
for module in /modules/*.ko; do /busybox insmod "$module"; done
/busybox ifconfig eth0 10.0.2.15 up 2>/dev/null
/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host
/busybox mount -t devtmpfs dev /host/dev
exec /busybox switch_root /host "$guest"
EOF
  chmod +x tree/init
  rm -rf "$folder"; mkdir -p "$folder"
  ( cd tree && find . | ./busybox cpio -o -H newc ) | gzip -1 > "$folder/initramfs"
  cp files/boot/vmlinuz-* "$folder/vmlinuz"
  cd /; rm -rf "$work"
}

kafka_install() {
  need java "Kafka" "a Java 17 runtime, e.g. Debian's openjdk-17-jre-headless"; need mvn "Kafka" "Debian's maven"
  rm -rf "$cache/kafka-$1"; mkdir -p "$cache/kafka-$1"
  mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/kafka-$1/libs" -Dkafka.version="$1"
}
# Kafka's classes as this JVM keeps them: the tests start it twenty times.
kafka_classes_install() { ( cd "$root" && "$root/node_modules/.bin/tsx" test/services/kafka-classes.ts ); }
influxdb1_install() {
  need go "InfluxDB 1.8" "the Go toolchain"
  GOBIN="$cache/bin/influxdb1-$1" go install "github.com/influxdata/influxdb/cmd/influxd@v$1"
}
influxdb2_install() {
  need go "InfluxDB 2" "the Go toolchain"; need cargo "InfluxDB 2" "Rust by rustup (its query engine is written in it)"
  local work; work=$(mktemp -d); cd "$work"
  cp "$here/influxdb2/go.mod.txt" go.mod; cp "$here/influxdb2/main.go.txt" main.go
  go get "github.com/influxdata/influxdb/v2/cmd/influxd@v$1" github.com/influxdata/pkg-config@v0.2.14
  go mod tidy
  GOBIN="$work/bin" go install github.com/influxdata/pkg-config
  printf '#!/bin/sh\nexec "$@" --cap-lints warn\n' > "$work/rustc-wrapper"; chmod +x "$work/rustc-wrapper"
  # The pinned toolchain cannot be fetched: use the installed one.
  local toolchain; toolchain=$(rustup toolchain list 2>/dev/null | sed -n 's/ .*(.*default.*//p' | head -n 1)
  [ -n "$toolchain" ] || toolchain=$(rustup toolchain list 2>/dev/null | head -n 1 | cut -d' ' -f1)
  mkdir -p "$cache/bin/influxdb2-$1"
  PKG_CONFIG="$work/bin/pkg-config" RUSTUP_TOOLCHAIN="$toolchain" RUSTC_WRAPPER="$work/rustc-wrapper" \
    go build -o "$cache/bin/influxdb2-$1/influxd" github.com/influxdata/influxdb/v2/cmd/influxd
  cd /; chmod -R u+w "$work"; rm -rf "$work"
}
telegraf_install() {
  need go "Telegraf" "the Go toolchain"
  GOBIN="$cache/bin/telegraf-$1" GOFLAGS=-mod=mod GONOSUMDB='github.com/tdrn-org/*,github.com/SAP/*,github.com/sap/*' go install \
    -tags "custom,inputs.mqtt_consumer,outputs.influxdb,outputs.influxdb_v2,outputs.kafka,outputs.file,parsers.json,parsers.influx,serializers.influx,inputs.internal" \
    "github.com/influxdata/telegraf/cmd/telegraf@v$1"
}
rdkafka_install() { # compiles librdkafka (its makefile breaks with parallel jobs): kept by Node's module version, copied into the checkout afterwards
  need cc "node-rdkafka" "Debian's build-essential"
  rm -rf "$cache/rdkafka-$1"; mkdir -p "$cache/rdkafka-$1"
  cp "$root/collector/kafka-client/package.json" "$root/collector/kafka-client/package-lock.json" "$cache/rdkafka-$1/"
  ( cd "$cache/rdkafka-$1" && env -u MAKEFLAGS -u JOBS npm ci --no-audit --no-fund )
}
rdkafka() {
  local version; version="$(node -p 'require(process.argv[1]).dependencies["node-rdkafka"]' "$root/collector/kafka-client/package.json")-abi$(node -p process.versions.modules)"
  once rdkafka "$version" 160 rdkafka_install
  local there="$root/collector/kafka-client/node_modules"
  if [ ! -d "$there/node-rdkafka/build/Release" ]; then rm -rf "$there"; cp -a "$cache/rdkafka-$version/node_modules" "$there"; fi
}

# Python's MQTT client, in an environment of its own.
paho_install() {
  need python3 "paho-mqtt" "Debian's python3 and python3-venv"
  rm -rf "$cache/paho-$1"
  python3 -m venv "$cache/paho-$1" || { apt_get python3-venv && python3 -m venv "$cache/paho-$1"; }
  "$cache/paho-$1/bin/pip" install -q --disable-pip-version-check "paho-mqtt==$1"
}

# What tries an API by its description, and makes a client from it: `npm run api:try`.
api_tools_install() {
  need python3 "schemathesis" "Debian's python3 and python3-venv"
  rm -rf "$cache/api-tools-$1"
  python3 -m venv "$cache/api-tools-$1" || { apt_get python3-venv && python3 -m venv "$cache/api-tools-$1"; }
  "$cache/api-tools-$1/bin/pip" install -q --disable-pip-version-check "schemathesis==$1" openapi-python-client==0.29.1
}

# InfluxDB's own clients, of 1.x and of 2, in Python and Node: `npm run api:try` asks and writes with them.
influx_clients_install() {
  need python3 "InfluxDB's clients" "Debian's python3 and python3-venv"
  local folder="$cache/influx-clients-$1"
  rm -rf "$folder"
  python3 -m venv "$folder" || { apt_get python3-venv && python3 -m venv "$folder"; }
  "$folder/bin/pip" install -q --disable-pip-version-check influxdb==5.3.2 influxdb-client==1.50.0
  ( cd "$folder" && echo '{"private":true}' > package.json && npm install --no-audit --no-fund influx@5.12.0 @influxdata/influxdb-client@1.35.0 )
}

# Node-RED and Home Assistant, whose MQTT speaks version 5: what people run beside a gateway. Home Assistant's newest for this Python.
nodered_install() {
  rm -rf "$cache/nodered-$1"; mkdir -p "$cache/nodered-$1"
  ( cd "$cache/nodered-$1" && echo '{"private":true}' > package.json && npm install --omit=dev --no-audit --no-fund "node-red@$1" )
}
homeassistant_install() {
  need python3.11 "Home Assistant" "Debian's python3 and python3-venv"
  rm -rf "$cache/homeassistant-$1"
  python3.11 -m venv "$cache/homeassistant-$1" || { apt_get python3-venv && python3.11 -m venv "$cache/homeassistant-$1"; }
  "$cache/homeassistant-$1/bin/pip" install -q --disable-pip-version-check "homeassistant==$1" paho-mqtt==1.6.1 janus==1.0.0 aiohttp_cors==0.7.0 aiohttp-fast-url-dispatcher==0.3.0 aiohttp-zlib-ng==0.3.1 numpy==1.26.0 pillow==10.2.0 PyTurboJPEG==1.7.1
}

# What reads and writes the lake beside us: Spark and pandas, and Jupyter's kernel for the notebook.
python_lake_install() {
  need python3 "Spark and pandas" "Debian's python3 and python3-venv"; need mvn "Spark for Kafka" "Debian's maven"; need java "Spark" "a Java 17 runtime, e.g. Debian's openjdk-17-jre-headless"
  rm -rf "$cache/lake-python-$1"
  python3 -m venv "$cache/lake-python-$1" || { apt_get python3-venv && python3 -m venv "$cache/lake-python-$1"; }
  "$cache/lake-python-$1/bin/pip" install -q --disable-pip-version-check -r "$here/lake-python/requirements.txt"
  mvn -q -B -f "$here/spark-kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/lake-python-$1/kafka-jars"
}
# What lets Spark read s3a: URLs. Jars that Spark has itself stay out: two versions of them would be on its path.
spark_s3_install() {
  need mvn "Spark for S3" "Debian's maven"
  rm -rf "$cache/spark-s3-$1"
  mvn -q -B -f "$here/spark-s3/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/spark-s3-$1" -Dhadoop.version="$1" \
    -DexcludeGroupIds=com.fasterxml.jackson.core,com.fasterxml.jackson.dataformat,commons-logging,commons-codec
}
# The peer to beat: Mosquitto of Debian's sid, beside this system and not in it, with its libraries and the loader they need.
mosquitto2_install() {
  need apt-get "Mosquitto $1" "a Debian system"; need dpkg-deb "Mosquitto $1" "a Debian system"
  local folder="$cache/mosquitto2-$1" work mirror
  work=$(mktemp -d); mkdir -p "$work/lists/partial" "$work/archives/partial"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m 1 '/debian/$')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$work/sources.list"
  : > "$work/status" # Of /dev/null itself some versions of apt say that it cannot be parsed.
  # With the status of an empty system everything that it needs is fetched, the C library as well.
  local options=(-q -y -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/lists"
    -o Dir::State::status="$work/status" -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives" -o Debug::NoLocking=1)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" --no-install-recommends --download-only install mosquitto
  rm -rf "$folder"; mkdir -p "$folder"
  local package; for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -rf "$work"
  local loader library; loader=$(find "$folder" -name 'ld-linux-*.so.*' -print -quit)
  library=$(dirname "$(find "$folder" -name libc.so.6 -print -quit)")
  [ -e "$library/libpicohttpparser.so.1" ] || ln -s "$(basename "$(ls "$library"/libpicohttpparser.so* | head -n 1)")" "$library/libpicohttpparser.so.1"
  mkdir -p "$folder/bin"
  local name path
  for name in mosquitto mosquitto_passwd; do
    path=$(find "$folder/usr" -path "*bin/$name" -print -quit)
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$library" "$path" > "$folder/bin/$name"
    chmod +x "$folder/bin/$name"
  done
  "$folder/bin/mosquitto" -h | head -n 1 | grep -F "$1"
}
# NATS with JetStream.
nats_install() {
  need go "NATS" "the Go toolchain"
  GOBIN="$cache/bin/nats-$1" go install "github.com/nats-io/nats-server/v2@v$1"
}
# An S3 server over a folder.
versitygw_install() {
  need go "versitygw" "the Go toolchain"
  GOBIN="$cache/bin/versitygw-$1" go install "github.com/versity/versitygw/cmd/versitygw@v$1"
}
# HDFS: a NameNode and a DataNode.
hadoop_install() {
  need java "HDFS" "a Java 17 runtime, e.g. Debian's openjdk-17-jre-headless"; need mvn "HDFS" "Debian's maven"
  rm -rf "$cache/hadoop-$1"; mkdir -p "$cache/hadoop-$1"
  mvn -q -B -f "$here/hadoop/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/hadoop-$1/libs" -Dhadoop.version="$1"
}
# Logs of other adapters: their servers from Debian, their clients from the root's development packages.
ensure_redis() { if ! command -v redis-server >/dev/null; then say "installing redis-server from Debian"; apt_get redis-server; fi; }
ensure_postgresql() { if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then say "installing postgresql from Debian"; apt_get postgresql; fi; }
ensure_promtool() { if ! command -v promtool >/dev/null; then say "installing prometheus (for promtool) from Debian"; apt_get prometheus; fi; }
ensure_openssl() { if ! command -v openssl >/dev/null; then say "installing openssl from Debian"; apt_get openssl; fi; }

bring() { # NAME
  case $1 in
    mosquitto) ensure_mosquitto ;;
    kcat) ensure_kcat ;;
    chromium) ensure_chromium ;;
    faults) ensure_faults ;;
    kafka)
      once kafka 4.1.0 20 kafka_install
      once kafka-classes "4.1.0-$(java -version 2>&1 | cksum | cut -d ' ' -f 1)" 10 kafka_classes_install ;;
    influxdb1) once influxdb1 1.8.10 120 influxdb1_install ;;
    influxdb2) once influxdb2 2.7.12 300 influxdb2_install ;;
    telegraf) once telegraf 1.39.3 150 telegraf_install ;;
    nats) once nats 2.12.1 60 nats_install ;;
    mosquitto2) once mosquitto2 2.1.2 60 mosquitto2_install ;;
    rdkafka) rdkafka ;;
    paho) once paho 2.1.0 10 paho_install ;;
    api-tools) once api-tools 4.32.5 30 api_tools_install ;;
    influx-clients) once influx-clients 1 15 influx_clients_install ;;
    nodered) once nodered 4.0.9 30 nodered_install ;;
    homeassistant) once homeassistant 2024.3.3 180 homeassistant_install ;;
    lake-python) once lake-python 2 60 python_lake_install ;;
    spark-s3) once spark-s3 3.3.4 15 spark_s3_install ;;
    versitygw) once versitygw 1.8.0 150 versitygw_install ;;
    hadoop) once hadoop 3.4.1 30 hadoop_install ;;
    openssl) ensure_openssl ;;
    promtool) ensure_promtool ;;
    redis) ensure_redis ;;
    postgresql) ensure_postgresql ;;
    *) fail "no such service: $1 (known: $all $peers)" ;;
  esac
}

# Of those that `npm test` needs: by Go and Rust, and the others. One lane each; Maven and apt want nobody beside them.
built="influxdb2 versitygw influxdb1 telegraf"
others="mosquitto kcat openssl promtool redis postgresql faults chromium kafka paho lake-python spark-s3 hadoop rdkafka"
all="$built $others"
# What else runs that brings them itself: `npm run bench` and `npm run chaos -- --peer`, `npm run test:home`, `npm run api:try`.
peers="mosquitto2 nats nodered homeassistant api-tools influx-clients"

if [ "${1:-}" = --run ]; then shift; "$@"; exit; fi

lane() { local name; for name in "$@"; do bring "$name"; done; }
first=() second=()
for name in ${*:-$all}; do
  case " $built " in *" $name "*) first+=("$name") ;; *) second+=("$name") ;; esac
done
lane "${first[@]}" & one=$!
lane "${second[@]}" & two=$!
trap 'kill $one $two 2>/dev/null || true' EXIT
rc=0
wait $one || rc=1
wait $two || rc=1
trap - EXIT
exit $rc
