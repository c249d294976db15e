"""The real InfluxDB clients for Python, v1 and v2, unchanged, against a running server.

    influx_clients.py HOST PORT

Every step asserts; the last line is `ok`. What was written is asked back through /api/wql.
"""

import json
import sys
import urllib.parse
import urllib.request

from influxdb import InfluxDBClient as ClientV1
from influxdb.exceptions import InfluxDBClientError
from influxdb_client import InfluxDBClient as ClientV2, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.rest import ApiException

HOST, PORT = sys.argv[1], int(sys.argv[2])
URL = f"http://{HOST}:{PORT}"


def rows(database, statement):
    query = urllib.parse.urlencode({"db": database, "q": statement, "time": "ns"})
    with urllib.request.urlopen(f"{URL}/api/wql?{query}", timeout=20) as answer:
        return json.load(answer)["rows"]


def v1():
    client = ClientV1(HOST, PORT, "user", "password", "v1", timeout=20)
    assert client.ping()
    client.create_database("v1")
    assert {"name": "v1"} in client.get_list_database()
    points = [
        {
            "measurement": "cpu",
            "tags": {"host": "a b", "région": "é,=x"},
            "time": 1_700_000_000_000_000_000 + second * 1_000_000_000,
            "fields": {"f": second * 0.5, "i": second, "b": second % 2 == 0, "s": 'say "hi" \\ back'},
        }
        for second in range(5)
    ]
    assert client.write_points(points)
    assert rows("v1", "cpu | count, sum(i), max(f) by ()") == [[5, 10, 2.0]]
    assert rows("v1", "cpu | limit 1")[0][1:3] == ["a b", "é,=x"]
    for precision, divisor in (("s", 10**9), ("ms", 10**6), ("u", 10**3), ("n", 1)):
        line = f"prec,host={precision} f=1 {1_700_000_000_000_000_000 // divisor}"
        assert client.write_points([line], protocol="line", time_precision=precision)
    times = {row[0] for row in rows("v1", "prec")}
    assert times == {1_700_000_000_000_000_000}, times
    assert ClientV1(HOST, PORT, database="v1", gzip=True).write_points(points)
    assert rows("v1", "cpu | count by ()") == [[5]], "the same points twice are the same points"
    try:
        client.write(["cpu,broken", "good f=1 1"], params={"db": "v1"}, protocol="line")
        raise AssertionError("a malformed line was accepted")
    except InfluxDBClientError as error:
        assert error.code == 400 and "line 1" in str(error), error
    assert rows("v1", "good | count by ()") == [[1]], "the good line beside the bad one is stored"


def v2():
    client = ClientV2(url=URL, token="token", org="org", timeout=20_000)
    assert client.ping()
    assert client.health().status == "pass"
    assert client.ready().status == "ready"
    writer = client.write_api(write_options=SYNCHRONOUS)
    for precision in (WritePrecision.NS, WritePrecision.US, WritePrecision.MS, WritePrecision.S):
        time = 1_700_000_000 * {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1}[precision]
        point = Point("m").tag("t", precision).field("v", 1.5).field("i", 3).time(time, precision)
        writer.write("v2", "org", point, write_precision=precision)
    assert {row[0] for row in rows("v2", "m")} == {1_700_000_000_000_000_000}
    failures = []
    options = WriteOptions(batch_size=500, flush_interval=200, max_retries=1)
    with client.write_api(write_options=options, error_callback=lambda *error: failures.append(error)) as batching:
        for number in range(1_200):
            batching.write("v2", "org", f"batch,t=b v={number} {1_700_000_000_000_000_000 + number}")
    assert not failures, failures
    assert rows("v2", "batch | count, sum(v) by ()") == [[1_200, 1_200 * 1_199 / 2]]
    ClientV2(url=URL, token="token", org="org", enable_gzip=True).write_api(write_options=SYNCHRONOUS).write(
        "v2", "org", "zipped v=2 1"
    )
    assert rows("v2", "zipped | count by ()") == [[1]]
    try:
        writer.write("v2", "org", "m,broken")
        raise AssertionError("a malformed line was accepted")
    except ApiException as error:
        assert error.status == 400 and "line 1" in error.body, error


v1()
v2()
print("ok")
