"""The backend of the Grafana plugin as Grafana's server runs it: started by go-plugin's handshake, asked by gRPC, its frames read as Arrow.

Messages and services come from pluginv2.proto, by Google's compiler, and not from the plugin's own sources.
"""

import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pyarrow as arrow
from grpc_tools import protoc

HERE = Path(__file__).parent
HANDSHAKE = re.compile(r"1\|2\|tcp\|(127\.0\.0\.1:\d+)\|grpc\n")

generated = tempfile.TemporaryDirectory()
status = protoc.main(["", f"-I{HERE}", f"--python_out={generated.name}", f"--grpc_python_out={generated.name}", "pluginv2.proto"])
assert status == 0, status
sys.path.insert(0, generated.name)
import pluginv2_pb2 as messages  # noqa: E402
import pluginv2_pb2_grpc as services  # noqa: E402


class Plugin:
    def __init__(self, executable):
        # Its environment is the one that Grafana gives, and no more.
        environment = {"grafana_plugin_type": "datasource", "PLUGIN_PROTOCOL_VERSIONS": "2", "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen([executable], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # A test that fails leaves nothing behind.
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        found = HANDSHAKE.fullmatch(line)
        assert found, (line, self.process.stderr.read() if self.process.poll() is not None else None)
        # As go-plugin dials: no limit on what is received.
        self.channel = grpc.insecure_channel(found[1], options=[("grpc.max_receive_message_length", -1)])
        self.data = services.DataStub(self.channel)
        self.diagnostics = services.DiagnosticsStub(self.channel)
        self.resource = services.ResourceStub(self.channel)
        self.stream = services.StreamStub(self.channel)

    def raw(self, method, request=b""):
        """A method of a service that pluginv2.proto does not have."""
        return self.channel.unary_unary(method, lambda sent: sent, lambda got: got)(request, timeout=60)

    def end(self):
        """As go-plugin ends one: it asks."""
        self.raw("/plugin.GRPCController/Shutdown")
        assert self.process.wait(timeout=10) == 0
        said = self.process.stdout.read()
        assert said == "", said


def context(url, secrets=None, uid="waterclock", basic=None, **settings):
    return messages.PluginContext(
        orgId=1,
        pluginId="waterclock-waterclock-datasource",
        user=messages.User(login="admin"),
        dataSourceInstanceSettings=messages.DataSourceInstanceSettings(
            id=1,
            name="Waterclock",
            uid=uid,
            url=url,
            basicAuthEnabled=basic is not None,
            basicAuthUser=basic or "",
            jsonData=json.dumps(settings).encode(),
            decryptedSecureJsonData=secrets or {},
        ),
    )


def query(ref_id, span, interval_ms=60_000, points=60, **parts):
    """As Grafana's server passes a query of a panel or an alert on; `span` is in seconds."""
    return messages.DataQuery(
        refId=ref_id,
        maxDataPoints=points,
        intervalMS=interval_ms,
        timeRange=messages.TimeRange(fromEpochMS=int(span[0] * 1000), toEpochMS=int(span[1] * 1000)),
        json=json.dumps({"refId": ref_id, **parts}).encode(),
    )


KINDS = {
    "timestamp[ns]": ("time", "time.Time"),
    "double": ("number", "float64"),
    "int64": ("number", "int64"),
    "uint64": ("number", "uint64"),
    "bool": ("boolean", "bool"),
    "string": ("string", "string"),
    "binary": ("other", "json.RawMessage"),
}


def frame(file):
    """A frame in Arrow as the JSON that Grafana's server makes of it for the browser."""
    table = arrow.ipc.open_file(arrow.BufferReader(file)).read_all()
    said = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    fields, values, nanos = [], [], []
    for field, column in zip(table.schema, table.columns):
        more = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert more.pop("name") == field.name, field
        kind, go = KINDS[str(field.type)]
        schema = {"name": field.name, "type": kind, "typeInfo": {"frame": go, "nullable": field.nullable}}
        fields.append(schema | {key: json.loads(text) for key, text in more.items()})
        cells, beyond = column.to_pylist() if kind != "time" else column.cast(arrow.int64()).to_pylist(), None
        if kind == "time":
            beyond = [(cell or 0) % 1_000_000 for cell in cells]
            cells = [None if cell is None else cell // 1_000_000 for cell in cells]
        elif kind == "other":
            cells = [json.loads(cell) for cell in cells]
        values.append(cells)
        nanos.append(beyond if beyond and any(beyond) else None)
    data = {"values": values} | ({"nanos": nanos} if any(nanos) else {})
    return {"schema": {"refId": said["refId"], "meta": json.loads(said.get("meta", "{}")), "fields": fields}, "data": data}
