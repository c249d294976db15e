"""Clients of /api/live: Server-Sent Events and a WebSocket, against a running server.

    live.py HOST:PORT

Listens, is told windows when they close and corrections after, comes back with the last id it has seen, is told when it was
too slow, and that many listeners of one statement share one run. The last line is `ok`.
"""

import http.client
import json
import sys
import time
from urllib.parse import quote

from websockets.sync.client import connect

ADDRESS = sys.argv[1]
SECOND = 1_000_000_000
STATEMENT = "cpu | last 1m | every 1s count, max(v) as v by host"


def write(lines):
    connection = http.client.HTTPConnection(ADDRESS)
    connection.request("POST", "/write?db=default", lines)
    answer = connection.getresponse()
    assert answer.status == 204, answer.read()


class Events:
    """Server-Sent Events as a browser reads them."""

    def __init__(self, statement, seen=None, **parameters):
        self.connection = http.client.HTTPConnection(ADDRESS, timeout=30)
        query = "&".join(f"{name}={quote(value)}" for name, value in {"q": statement, **parameters}.items())
        self.connection.request("GET", f"/api/live?{query}", headers={"Last-Event-ID": seen} if seen else {})
        self.answer = self.connection.getresponse()
        self.id = seen

    def next(self):
        """The next event as its name and its data."""
        name, data = "message", []
        while line := self.answer.readline().decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                self.id = value
        return (name, json.loads("\n".join(data))) if data else self.next()

    def until(self, wanted):
        for _ in range(200):
            name, data = self.next()
            if wanted(name, data):
                return name, data
        raise AssertionError("200 events without the one that was waited for")


def rows(data):
    names = [column["name"] for column in data["columns"]]
    return [dict(zip(names, row)) for row in data["rows"]]


now = time.time_ns()
write(f"cpu,host=a v=1 {now - 10 * SECOND}\ncpu,host=b v=2 {now - 9 * SECOND}")

events = Events(STATEMENT, time="ns")
assert events.answer.status == 200, events.answer.read()
assert events.answer.headers["content-type"] == "text/event-stream"
name, data = events.next()
assert name == "start" and data["statement"] == "cpu | every 1s count, max(v) as v by host", (name, data)
name, data = events.next()
assert name == "window" and {row["host"] for row in rows(data)} == {"a", "b"}, (name, data)

# A window closes with what was written in it.
at = time.time_ns()
write(f"cpu,host=c v=3 {at}")
_, data = events.until(lambda name, data: name in ("window", "correction") and any(row["host"] == "c" for row in rows(data)))
assert data["from"] <= at < data["to"], data
seen = events.id

# A late point changes one that has closed.
write(f"cpu,host=a v=50 {now - 10 * SECOND}")
_, data = events.until(lambda name, _: name == "correction")
assert [(row["host"], row["v"]) for row in rows(data)] == [("a", 50)], data

# One that comes back is told what it has missed.
events.connection.close()
again = Events(STATEMENT, seen, time="ns")
assert again.next()[0] == "start"
_, data = again.until(lambda name, _: name == "correction")
assert [(row["host"], row["v"]) for row in rows(data)] == [("a", 50)], data

# With an id of another time it is told so, and the windows of the range again.
lost = Events(STATEMENT, f"1-7-{now - 5 * SECOND}", time="ns")
assert [lost.next()[0] for _ in range(3)] == ["start", "missed", "window"]

# The same over a WebSocket.
with connect(f"ws://{ADDRESS}/api/live?q={quote(STATEMENT)}&time=ns") as socket:
    first, second = (json.loads(socket.recv(10)) for _ in range(2))
    assert (first["event"], second["event"]) == ("start", "window"), (first, second)
    assert rows(second["data"]) and second["id"], second
    third = json.loads(socket.recv(10))
    assert third["event"] in ("window", "correction") and third["id"], third

# Many listeners, one run.
many = [Events(STATEMENT, time="ns") for _ in range(200)]
assert all(one.answer.status == 200 for one in many)
at = time.time_ns()
write(f"cpu,host=many v=9 {at}")
for one in many:
    one.until(lambda name, data: name in ("window", "correction") and any(row.get("host") == "many" for row in rows(data)))

# One that does not listen is told how much it has missed.
wide = Events("wide | every 1s last(text) as text by host", time="ns") if write(f'wide,host=x text="" {time.time_ns()}') is None else None
for _ in range(6):
    at = time.time_ns()
    write("\n".join(f'wide,host=h{n} text="{"x" * 4000}" {at}' for n in range(1_000)))
    time.sleep(1)
name, data = wide.until(lambda name, _: name == "missed")
assert data["events"] > 0 and "live_buffer_bytes_max" in data["reason"], data

# What cannot go on says why.
for statement, status, word in [
    ("cpu | last 5m", 400, "every 1m"),
    ("cpu | every 1m count | limit 3", 400, "top 5"),
    ("nothing | every 1m count", 404, "nothing"),
]:
    refused = Events(statement)
    assert refused.answer.status == status, (statement, refused.answer.status)
    text = refused.answer.read().decode()
    assert word in text, (statement, text)
refused = [Events(STATEMENT, time="ns") for _ in range(100)]
full = [one for one in refused if one.answer.status == 503]
assert full and "live_subscribers_max" in full[0].answer.read().decode()
print("ok")
