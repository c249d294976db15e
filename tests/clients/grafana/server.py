"""What Grafana's server is for the stand-in in a browser: it serves the files, keeps the settings with their secrets, and asks the plugin's
backend by Grafana's protocol.
"""

import http.server
import json
import re
import select
import socket
import threading
import urllib.parse
from pathlib import Path

import grpc
from plugin import context, frame, messages

PLUGIN = Path(__file__).parents[3] / "grafana/plugin"
ID = "waterclock-waterclock-datasource"
SOURCE = re.compile(r"/api/datasources/uid/(\w+)(?:/(resources|health)/?(\w*))?")

FOLDERS = {
    f"/public/plugins/{ID}/": PLUGIN / "dist",
    "/standin/": PLUGIN / "standin/dist",
    "/public/build/img/icons/": PLUGIN / "node_modules/@grafana/ui/dist/public/img/icons",
    "/public/img/icons/": PLUGIN / "node_modules/@grafana/ui/dist/public/img/icons",
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}


class GrafanasServer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Of all servers here: the plugin's backend, the data sources by uid, what was asked, who listens to which channel.
    backend = None
    sources = {}
    passed = []
    listening = []

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        self.answer()

    def answer(self):
        # The browser has no credentials, and gets none.
        assert "authorization" not in self.headers, self.headers
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urllib.parse.urlsplit(self.path)
        found = SOURCE.fullmatch(url.path)
        if url.path == "/api/ds/query":
            return self.query(json.loads(body))
        if url.path == "/standin/live":
            asked = urllib.parse.parse_qs(url.query)
            return self.live(asked["channel"][0], asked["data"][0].encode())
        if found and found[2] == "resources":
            return self.resource(self.sources[found[1]], found[3], body)
        if found and found[2] == "health":
            return self.health(self.sources[found[1]])
        if found and self.command == "PUT":
            return self.keep(found[1], json.loads(body))
        path = "/standin/index.html" if url.path == "/" else url.path
        for prefix, folder in FOLDERS.items():
            file = folder / path[len(prefix):]
            if path.startswith(prefix) and file.is_file():
                return self.send(200, TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes())
        self.send(404, "text/plain", b"not here")

    def query(self, asked):
        self.passed.append(asked)
        queries = [
            messages.DataQuery(
                refId=one["refId"],
                maxDataPoints=one["maxDataPoints"],
                intervalMS=one["intervalMs"],
                timeRange=messages.TimeRange(fromEpochMS=int(asked["from"]), toEpochMS=int(asked["to"])),
                json=json.dumps(one).encode(),
            )
            for one in asked["queries"]
        ]
        (uid,) = {one["datasource"]["uid"] for one in asked["queries"]}
        request = messages.QueryDataRequest(pluginContext=self.sources[uid], queries=queries)
        answered = self.unless_left(self.backend.data.QueryData.future(request))
        if answered is None:
            return
        results = {}
        for ref, response in answered.responses.items():
            results[ref] = {"status": response.status, "frames": [frame(file) for file in response.frames]}
            if response.error:
                results[ref] |= {"error": response.error, "errorSource": response.errorSource}
        wrong = any("error" in result for result in results.values())
        self.json(400 if wrong else 200, {"results": results})

    def unless_left(self, future):
        """What is answered, or nothing if the browser has gone: then nobody else waits for it."""
        while True:
            try:
                return future.result(timeout=0.05)
            except grpc.FutureTimeoutError:
                readable, _, _ = select.select([self.connection], [], [], 0)
                if readable and self.connection.recv(1, socket.MSG_PEEK) == b"":
                    future.cancel()
                    self.close_connection = True
                    return None

    def resource(self, of, path, body):
        request = messages.CallResourceRequest(pluginContext=of, path=path, method=self.command, body=body)
        (answer,) = self.backend.resource.CallResource(request)
        self.send(answer.code, answer.headers["content-type"].values[0], answer.body)

    def health(self, of):
        answer = self.backend.diagnostics.CheckHealth(messages.CheckHealthRequest(pluginContext=of))
        self.json(200 if answer.status == 1 else 400, {"status": "OK" if answer.status == 1 else "ERROR", "message": answer.message})

    def keep(self, uid, said):
        secrets = dict(self.sources[uid].dataSourceInstanceSettings.decryptedSecureJsonData) if uid in self.sources else {}
        secrets |= said.pop("secureJsonData", {})
        self.sources[uid] = context(said["url"], secrets, uid, said["basicAuthUser"] if said["basicAuth"] else None, **said["jsonData"])
        self.json(200, said | {"secureJsonFields": {name: True for name in secrets}})

    def live(self, channel, data):
        scope, uid, path = channel.split("/", 2)
        assert scope == "ds" and re.fullmatch(r"[A-Za-z0-9_\-/=.]{1,120}", path), channel
        asked = {"pluginContext": self.sources[uid], "path": path, "data": data}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        first = self.backend.stream.SubscribeStream(messages.SubscribeStreamRequest(**asked))
        assert first.status == 0, first
        packets = self.backend.stream.RunStream(messages.RunStreamRequest(**asked))
        self.listening.append(channel)

        def until_left():
            # The browser says nothing here until it goes away.
            select.select([self.connection], [], [])
            packets.cancel()

        threading.Thread(target=until_left, daemon=True).start()
        try:
            self.tell({"type": "status", "id": channel, "timestamp": 0, "state": "connected", "message": json.loads(first.data)})
            for packet in packets:
                self.tell({"type": "message", "message": json.loads(packet.data)})
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.CANCELLED, error
        finally:
            self.listening.remove(channel)

    def tell(self, event):
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def json(self, status, answer):
        self.send(status, "application/json", json.dumps(answer).encode())

    def send(self, status, content_type, body):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        # A browser that goes away, or cancels, is no error.
        try:
            super().handle_one_request()
        except (ConnectionResetError, BrokenPipeError):
            self.close_connection = True
