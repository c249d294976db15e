"""The plugin's backend by Grafana's protocol: handshake, health, queries, resources, streams. Prints `ok`.

Usage: protocol.py URL EXECUTABLE, of a server without data. UPDATE=1 writes what the answers of frames.json are made into.
"""

import base64
import datetime
import http.server
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from plugin import HERE, Plugin, context, frame, messages, query

URL, EXECUTABLE = sys.argv[1:3]
START = 1_767_225_600  # 2026-01-01T00:00:00Z
HOUR = (START, START + 3600)
PATIENCE = 60


def post(path, body):
    return urllib.request.urlopen(urllib.request.Request(URL + path, data=body.encode()))


def write(lines):
    assert post("/write?db=default", "\n".join(lines)).status == 204


class Gateway(http.server.ThreadingHTTPServer):
    """Something between the plugin and the server: it may refuse, answer by itself, be slow, break off."""

    daemon_threads = True

    def __init__(self, tls=False):
        super().__init__(("127.0.0.1", 0), Passing)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}"
        if tls:
            self.pem, key = certified()
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(self.pem + key)
                file.flush()
                secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                secured.load_cert_chain(file.name)
            self.socket = secured.wrap_socket(self.socket, server_side=True)
        self.wanted = {}  # headers without which nothing passes
        self.answer = None  # (status, type, body) instead of the server's
        self.hangs = threading.Event()
        self.left = threading.Event()  # who hung has gone away
        self.breaks = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        gateway = self.server
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if any(self.headers.get(name) != value for name, value in gateway.wanted.items()):
            return self.say(401, "text/plain", b"who are you")
        if gateway.hangs.is_set():
            # Readable, and nothing to read: the other side has closed.
            if self.connection.recv(1) == b"":
                gateway.left.set()
            self.close_connection = True
            return None
        if gateway.answer is not None:
            return self.say(*gateway.answer)
        headers = {"Content-Type": self.headers.get("content-type", "")}
        request = urllib.request.Request(URL + self.path, data=body or None, method=self.command, headers=headers)
        try:
            with urllib.request.urlopen(request) as response:
                if "event-stream" in response.headers["content-type"]:
                    return self.pass_on(response)
                return self.say(response.status, response.headers["content-type"], response.read())
        except urllib.error.HTTPError as error:
            return self.say(error.code, error.headers["content-type"], error.read())

    def pass_on(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        try:
            while not self.server.breaks.is_set():
                self.wfile.write(events.readline())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # who listened has gone

    def say(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def certified():
    """A certificate of this address, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a gateway")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.decode(), plain.decode()


def fill():
    hosts = [("web-1", "eu"), ("web-2", "eu"), ("db-1", "us")]
    write(
        f"cpu,host={host},region={region} usage_user={10 * place + second % 60},n={second}i {(START + second) * 10**9}"
        for place, (host, region) in enumerate(hosts)
        for second in range(0, 3600, 10)
        if not (host == "db-1" and 1200 <= second < 1800)
    )
    write(f'events,host=web-1 message="restart {n}",level="info",code={n}i {(START + 600 * n) * 10**9 + 5}' for n in range(3))
    assert post("/api/wql", "create rollup cpu_1m as cpu | every 1m avg(usage_user) by host, region").status == 200
    assert post("/api/rollups/cpu_1m/refresh", "").status == 200


def handshake(plugin):
    # go-plugin looks whether the plugin lives, under this name.
    assert plugin.raw("/grpc.health.v1.Health/Check", b"\n\x06plugin") == b"\x08\x01"
    for missing in ("/pluginv2.Data/QueryChunkedData", "/plugin.GRPCStdio/StreamStdio"):
        try:
            plugin.raw(missing)
            raise AssertionError(f"{missing} answers")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    try:
        plugin.diagnostics.CollectMetrics(messages.CollectMetricsRequest())
        raise AssertionError("metrics answer")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    # Who wants TLS on the socket is told that there is none, and no socket is opened.
    wants = {"grafana_plugin_type": "datasource", "PLUGIN_CLIENT_CERT": "-----BEGIN CERTIFICATE-----"}
    ended = subprocess.run([EXECUTABLE], env=wants, capture_output=True, text=True)
    line = json.loads(ended.stderr)
    assert (ended.returncode, ended.stdout, line["@level"]) == (1, "", "error") and "TLS" in line["@message"], ended


def orphaned():
    """Whose host is killed ends by itself."""
    host = "import sys; from plugin import Plugin; print(Plugin(sys.argv[1]).process.pid, flush=True); sys.stdin.read()"
    running = subprocess.Popen([sys.executable, "-c", host, EXECUTABLE], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid = int(running.stdout.readline())
    os.kill(pid, 0)
    running.kill()
    running.wait()
    until = time.time() + PATIENCE
    while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z":
        assert time.time() < until, "it is still there"
        time.sleep(0.2)


def health(plugin):
    def check(expected, said, *arguments, **settings):
        asked = messages.CheckHealthRequest(pluginContext=context(*arguments, **settings))
        answer = plugin.diagnostics.CheckHealth(asked, timeout=PATIENCE)
        assert (answer.status == 1) == expected and said in answer.message, answer

    check(True, "Waterclock answers. The database default has 2 tables.", URL)
    check(True, "Waterclock answers. The database default has 2 tables.", URL + "/", database=" ")
    check(True, "There is no database plant yet; it is made on first write. There are data in: default.", URL, database="plant")
    check(False, "the data source has no URL", "")
    check(False, "Waterclock cannot be reached at http://127.0.0.1:9: Connection refused", "http://127.0.0.1:9")
    check(False, "the timeout of the data source is no number", URL, timeout="soon")

    gateway = Gateway()
    gateway.wanted = {"Authorization": "Bearer right"}
    token = {"httpHeaderName1": "Authorization"}
    check(False, "access is refused", gateway.url)
    check(False, "who are you (look at the token", gateway.url, {"httpHeaderValue1": "Bearer wrong"}, **token)
    check(True, "has 2 tables", gateway.url, {"httpHeaderValue1": "Bearer right"}, **token)
    gateway.wanted = {"Authorization": "Basic " + base64.b64encode(b"ann:p w").decode(), "X-Org": "7"}
    check(False, "access is refused", gateway.url, {"basicAuthPassword": "no", "httpHeaderValue2": "7"}, basic="ann", httpHeaderName2="X-Org")
    check(True, "has 2 tables", gateway.url, {"basicAuthPassword": "p w", "httpHeaderValue2": "7"}, basic="ann", httpHeaderName2="X-Org")
    gateway.wanted = {}
    for status, body in ((404, b"<html>"), (200, b"<html>")):
        gateway.answer = (status, "text/html", body)
        check(False, "is there a Waterclock at the URL of this data source?", gateway.url)
    gateway.hangs.set()
    check(False, "timed out", gateway.url, timeout=0.5)

    # A certificate that nobody knows, unless it is told.
    certificate = Gateway(tls=True)
    check(False, "certificate", certificate.url)
    check(True, "has 2 tables", certificate.url, {"tlsCACert": certificate.pem}, tlsAuthWithCACert=True)
    check(True, "has 2 tables", certificate.url, tlsSkipVerify=True)
    check(False, "the CA certificate is asked for", certificate.url, tlsAuthWithCACert=True)


def queries(plugin):
    def ask(*asked):
        request = messages.QueryDataRequest(pluginContext=context(URL), queries=asked)
        return dict(plugin.data.QueryData(request, timeout=PATIENCE).responses)

    def frames(response):
        assert response.error == "" and response.status == 200, response
        return [frame(file) for file in response.frames]

    # What is wrong with one is its own answer, at its place.
    found = ask(
        query("A", HOUR, query="cpu | every $__interval avg(usage_user) by host", legend="{{host}}"),
        query("B", HOUR, query="cpu | where $__timeFilter | evry 5m avg(n)"),
        query("C", HOUR, query=" "),
        query("D", HOUR, query="delete from cpu between 2026-01-01 and 2026-01-02"),
        query("E", (START, START), query="cpu{host=$host} | limit $__maxDataPoints", params={"host": "db-1"}, points=7),
    )
    assert sorted(found) == ["A", "B", "C", "D", "E"]
    said = [(found[ref].status, found[ref].errorSource, found[ref].error) for ref in "BCD"]
    assert said[0][:2] == (400, "downstream") and said[0][2].startswith("line 1, column 29: "), said
    assert said[0][2].endswith("(did you mean `every`?)"), said
    assert said[1] == (400, "plugin", "the query is empty (write one such as cpu | every $__interval avg(usage))"), said
    assert said[2][:2] == (400, "downstream") and "may not change anything" in said[2][2], said
    (wide,) = frames(found["A"])
    meta = wide["schema"]["meta"]
    assert (meta["type"], meta["typeVersion"]) == ("timeseries-wide", [0, 1]), meta
    assert meta["executedQueryString"] == "cpu | every 1m avg(usage_user) by host", meta
    assert meta["notices"] == [{"severity": "info", "text": "from cpu_1m, exact, 170 buckets, none recomputed", "inspect": "stats"}], meta
    assert [field["name"] for field in wide["schema"]["fields"]] == ["time"] + 3 * ["avg_usage_user"]
    assert [field.get("labels") for field in wide["schema"]["fields"]] == [None, {"host": "db-1"}, {"host": "web-1"}, {"host": "web-2"}]
    assert wide["schema"]["fields"][2]["config"] == {"displayNameFromDS": "web-1", "unit": "percent"}
    times, gaps, *_ = wide["data"]["values"]
    assert (times[0], times[-1], len(times)) == (START * 1000, (START + 3540) * 1000, 60)
    assert [place for place, value in enumerate(gaps) if value is None] == list(range(20, 30))
    # A moment is a range, too, and the values of variables are bound.
    assert frames(found["E"])[1]["data"]["values"] == [[START * 1000], [20.0]], frames(found["E"])

    # As an alert asks: as it was saved, with a step of a second, and one number for each set of labels.
    (numbers,) = frames(ask(query("A", HOUR, interval_ms=1000, points=43_200, query="cpu | max(usage_user) by host"))["A"])
    assert numbers["schema"]["meta"]["type"] == "numeric-long", numbers
    assert numbers["data"]["values"] == [["db-1", "web-1", "web-2"], [70.0, 50.0, 60.0]], numbers
    # No data are no fields, by which an alert knows them.
    (nothing,) = frames(ask(query("A", (0, 1), query="cpu | every 1m avg(usage_user)"))["A"])
    assert nothing["schema"]["fields"] == [] and nothing["data"]["values"] == [], nothing
    # Points are a frame for each series, with their times in full.
    points = frames(ask(query("A", HOUR, query="events", format="time_series"))["A"])
    assert [one["schema"]["meta"]["type"] for one in points] == 3 * ["timeseries-multi"], points
    assert points[0]["data"]["nanos"] == [[5, 5, 5], None] and points[0]["data"]["values"][0][0] == START * 1000, points
    (logs,) = frames(ask(query("A", HOUR, query="events", format="logs"))["A"])
    assert [field["name"] for field in logs["schema"]["fields"]] == ["timestamp", "body", "severity", "labels"], logs
    assert logs["data"]["values"][1:] == [[f"restart {n}" for n in range(3)], 3 * ["info"], [{"host": "web-1", "code": str(n)} for n in range(3)]], logs
    (rows,) = frames(ask(query("A", HOUR, query="cpu | limit 2", format="table", notes=["one filter is left out"]))["A"])
    assert "type" not in rows["schema"]["meta"] and rows["schema"]["meta"]["notices"][-1] == {"severity": "warning", "text": "one filter is left out"}
    refused = ask(query("A", HOUR, query="cpu", format="logs"))["A"]
    assert refused.error == "the rows have no field that holds texts, and lines of a log need one (choose another format)", refused
    by_raw = frames(ask(query("A", HOUR, query="cpu | every 1m avg(usage_user) by host", withoutRollups=True))["A"])
    assert by_raw[0]["data"] == wide["data"] and by_raw[0]["schema"]["meta"]["notices"] == []
    # Without a data source there is nothing to ask.
    bare = plugin.data.QueryData(messages.QueryDataRequest(queries=[query("A", HOUR, query="cpu")]), timeout=PATIENCE)
    assert bare.responses["A"].error == "the request comes from no data source", bare


def golden(plugin):
    """The answers of frames.json become the frames that stand beside them, to the last cell."""
    path = HERE / "frames.json"
    cases = json.loads(path.read_text())
    gateway = Gateway()
    for case in cases:
        stats = {"series": 1, "rows_read": 9, "bytes_read": 0, "files": 0, "elapsed_ms": 1, "rollups": []}
        answer = {"stats": stats, "warnings": []} | case["answer"]
        gateway.answer = (200, "application/json", json.dumps(answer).encode())
        request = messages.QueryDataRequest(pluginContext=context(gateway.url), queries=[query("A", HOUR, **case["query"])])
        response = plugin.data.QueryData(request, timeout=PATIENCE).responses["A"]
        found = [frame(file) for file in response.frames]
        for one in found:
            # What every first frame has is looked at by `queries`, and what fields are made of by `frame`.
            for same in ("executedQueryString", "stats"):
                one["schema"]["meta"].pop(same, None)
            one["fields"] = [
                {key: field[key] for key in ("name", "labels", "config") if key in field} | {"type": field["typeInfo"]["frame"], "values": values}
                for field, values in zip(one["schema"]["fields"], one["data"]["values"])
            ]
            one["meta"] = one.pop("schema")["meta"]
            del one["data"]
        if os.environ.get("UPDATE"):
            case["frames"] = found
        assert response.error == "" and found == case["frames"], (case["name"], response.error, json.dumps(found, indent=1))
    if os.environ.get("UPDATE"):
        path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    assert len(cases) >= 8, len(cases)


def cancelling(plugin):
    """Who waits no more ends the request, by which the server ends the query."""
    gateway = Gateway()
    gateway.hangs.set()
    request = messages.QueryDataRequest(pluginContext=context(gateway.url), queries=[query("A", HOUR, query="cpu")])
    waiting = plugin.data.QueryData.future(request)
    time.sleep(0.5)
    assert not waiting.done() and not gateway.left.is_set()
    waiting.cancel()
    assert gateway.left.wait(PATIENCE), "the request goes on"


def resources(plugin):
    def call(path, asked, method="POST", of=context(URL)):
        request = messages.CallResourceRequest(pluginContext=of, path=path, method=method, body=json.dumps(asked).encode())
        (answer,) = plugin.resource.CallResource(request, timeout=PATIENCE)
        assert answer.headers["content-type"].values == ["application/json"], answer
        return answer.code, json.loads(answer.body)

    code, answer = call("wql", {"query": "show values of host from cpu{region in $r}", "params": {"r": ["eu"]}})
    assert (code, answer["rows"]) == (200, [["web-1"], ["web-2"]]), answer
    place = {"range": {"fromMs": 0, "toMs": 1000}, "intervalMs": 3_600_000}
    code, answer = call("/explain", {"query": "cpu | every $__interval\n evry(n)", **place})
    assert code == 400 and (answer["error"]["line"], answer["error"]["column"]) == (2, 2), answer
    code, answer = call("explain", {"query": "cpu | every $__interval avg(n)", **place})
    assert code == 200, answer
    # A person who may look may not change.
    code, answer = call("wql", {"query": "delete from cpu between 2026-01-01 and 2026-01-02"})
    assert code >= 400 and "error" in answer, answer
    assert call("admin", {})[0] == 404 and call("wql", {}, "GET")[0] == 405
    gateway = Gateway()
    gateway.wanted = {"Authorization": "Bearer right"}
    # 401 would send a person to Grafana's own login.
    code, answer = call("wql", {"query": "show tables"}, of=context(gateway.url))
    assert code == 403 and "look at the token" in answer["error"]["hint"], answer


def streams(plugin):
    gateway = Gateway()
    where = context(gateway.url)

    def asked(**parts):
        return json.dumps({"refId": "A", "spanMs": 60_000, "intervalMs": 1000, **parts}).encode()

    def listen(data, path="live/1"):
        said = plugin.stream.SubscribeStream(messages.SubscribeStreamRequest(pluginContext=where, path=path, data=data), timeout=PATIENCE)
        return said, plugin.stream.RunStream(messages.RunStreamRequest(pluginContext=where, path=path, data=data))

    def wrong(packet):
        return packet["schema"]["meta"].get("custom", {}).get("error")

    now = int(time.time())
    write(f"load,host={host} one={second} {(now - second) * 10**9}" for host in "ab" for second in range(1, 30))
    data = asked(query="load{host in $hosts} | every $__interval sum(one) by host", params={"hosts": ["a", "b"]}, legend="{{host}}")
    first, packets = listen(data)
    assert first.status == 0, first
    first = json.loads(first.data)
    # What there was, as a query would give it.
    assert [field.get("config") for field in first["schema"]["fields"]] == [None, {"displayNameFromDS": "a"}, {"displayNameFromDS": "b"}], first
    times, a, _ = first["data"]["values"]
    assert dict(zip(times, a))[(now - 20) * 1000] == 20.0 and len(times) >= 28, first
    assert first["schema"]["meta"]["type"] == "timeseries-wide", first
    # Windows that close, and what late points change in closed ones.
    write([f"load,host=a one=1000 {(now - 20) * 10**9 + 1}", f"load,host=b one=7 {int(time.time()) * 10**9}"])
    until = time.time() + PATIENCE
    for packet in packets:
        told = json.loads(packet.data)
        assert wrong(told) is None, told
        cells = dict(zip(told["data"]["values"][0], zip(*told["data"]["values"][1:])))
        if cells[(now - 20) * 1000][0] == 1020.0 and any(b == 7.0 for _, b in cells.values() if b is not None and b >= 7) and max(cells) >= now * 1000:
            break
        assert time.time() < until, told
    # The server goes away and comes back.
    gateway.breaks.set()
    write([f"load,host=a one=1 {int(time.time()) * 10**9}"])
    told = [json.loads(next(packets).data)]
    while wrong(told[-1]) is None:
        told.append(json.loads(next(packets).data))
    gateway.breaks.clear()
    while wrong(told[-1]) is not None:
        told.append(json.loads(next(packets).data))
        assert time.time() < until, told[-1]
    assert len(told[-1]["data"]["values"][0]) >= 20, told[-1]
    packets.cancel()

    # What cannot be live is said, and not asked again and again.
    for text, said in (("load | limit 5", "every"), ("load | evry 1s sum(one)", "line 1, column 8: ")):
        first, packets = listen(asked(query=text))
        assert said in wrong(json.loads(first.data)), first
        assert said in wrong(json.loads(next(packets).data))
        packets.cancel()
    first = plugin.stream.SubscribeStream(messages.SubscribeStreamRequest(pluginContext=where, path="other", data=b"{}"), timeout=PATIENCE)
    assert first.status == 1, first
    published = plugin.stream.PublishStream(messages.PublishStreamRequest(pluginContext=where, path="live/1", data=b"{}"), timeout=PATIENCE)
    assert published.status == 2, published


fill()
plugin = Plugin(EXECUTABLE)
for part in (handshake, health, queries, golden, cancelling, resources, streams):
    print(part.__name__, flush=True)
    part(plugin)
plugin.end()
orphaned()
print("ok")
