"""InfluxDB's own clients of Python, of 1.x and of 2, against a collector: `influx.py HOST:PORT`. Prints what they found."""
import sys, time
from influxdb import InfluxDBClient as One
from influxdb_client import InfluxDBClient as Two, Point
from influxdb_client.client.write_api import SYNCHRONOUS

T0 = 1_700_000_000_000
host, port = sys.argv[1].split(":")


def until(what, look):
    for _ in range(300):
        found = look()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within 30 s: {what}")


def same(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, and not {wanted!r}")
    print(what)


one = One(host, int(port), username="any", password="none", database="headwater")
same("1.x: ping names a version", one.ping()[:4], "1.8.")
same("1.x: databases", one.get_list_database(), [{"name": "headwater"}])
one.create_database("other")
same("1.x: a database is made, and is the same", one.get_list_database(), [{"name": "headwater"}])
points = [
    {"measurement": "py_one", "tags": {"room": room}, "time": T0 + n * 1000, "fields": {"t": float(n), "s": f"v{n}", "b": n > 3}}
    for n in range(10)
    for room in ("a", "b c")
]
same("1.x: writes", one.write_points(points, time_precision="ms", batch_size=7), True)
count = 'SELECT count("t") FROM "py_one" GROUP BY "room"'
until("what the client of 1.x wrote", lambda: [p["count"] for p in one.query(count).get_points()] == [10, 10])
same("1.x: measurements", "py_one" in [each["name"] for each in one.get_list_measurements()], True)
same("1.x: series", len([each for each in one.get_list_series(measurement="py_one") if "room=" in each]), 2)
same("1.x: retention policies", one.get_list_retention_policies()[0]["name"], "autogen")
mean = f'SELECT mean("t") AS "m" FROM "py_one" WHERE time >= {T0}ms AND "room" = $room GROUP BY time(5s) fill(none)'
found = one.query(mean, bind_params={"room": "b c"}, epoch="ms")
same("1.x: a mean with a bound parameter", [(p["time"] - T0, p["m"]) for p in found.get_points()], [(0, 2.0), (5000, 7.0)])
chunks = one.query('SELECT "t", "s_text", "b_bool" FROM "py_one" WHERE "room" = \'a\'', chunked=True, chunk_size=3, epoch="ms")
rows = [(p["t"], p["s_text"], p["b_bool"]) for part in chunks for p in part.get_points()]
same("1.x: chunks, texts and truths", (len(rows), rows[4]), (10, (4.0, "v4", True)))
try:
    one.query('SELECT holt_winters(mean("t"), 1, 1) FROM "py_one" GROUP BY time(1s)')
    sys.exit("1.x: what is not answered is no error")
except Exception as error:
    same("1.x: what is not answered is named", "holt_winters" in str(error), True)

two = Two(url=f"http://{host}:{port}", token="none", org="any")
same("2: ping", two.ping(), True)
two.write_api(write_options=SYNCHRONOUS).write(
    bucket="plant", record=[Point("py_two").tag("room", "a").field("t", n / 2).time(T0 + n, "ms") for n in range(5)], write_precision="ms"
)
count = 'SELECT sum("t") AS "s" FROM "py_two"'
until("what the client of 2 wrote", lambda: [p["s"] for p in one.query(count).get_points()] == [5.0])
print("2: writes, and what it wrote is there")
