"""An answer as a Parquet file is plain Parquet: DuckDB, pyarrow and Polars read it with no help and agree.

    open_answer.py FILE EXPECTED_JSON

EXPECTED_JSON is {"rows": N, "sum": S, "n": S, "hosts": H}: rows, the sums of `v` and `n`, how many `host` there are. The last
line is `ok`.
"""

import json
import sys

import duckdb
import polars
import pyarrow
import pyarrow.compute
import pyarrow.parquet

file, expected = sys.argv[1], json.loads(sys.argv[2])
wanted = (expected["rows"], expected["sum"], expected["n"], expected["hosts"])

found = duckdb.sql(
    f"select count(*), sum(v), sum(n)::bigint, count(distinct host) from read_parquet('{file}') where up is not null"
).fetchall()[0]
assert found == wanted, ("duckdb", found, wanted)
answer = duckdb.sql(f"select * from read_parquet('{file}')")
kinds = dict(zip(answer.columns, map(str, answer.types)))
assert (kinds["v"], kinds["n"], kinds["up"], kinds["note"]) == ("DOUBLE", "BIGINT", "BOOLEAN", "VARCHAR"), kinds

table = pyarrow.parquet.read_table(file)
schema = table.schema
assert schema.field("time").type == pyarrow.timestamp("ns", "UTC"), schema
assert schema.field("host").metadata[b"role"] == b"tag", schema
assert table.num_rows == wanted[0] and pyarrow.compute.sum(table["n"]).as_py() == wanted[2]
footer = pyarrow.parquet.ParquetFile(file)
stats = json.loads(footer.metadata.metadata[b"waterclock.stats"])
assert stats["rows_read"] == wanted[0] and stats["rollups"] == [], stats
assert json.loads(footer.metadata.metadata[b"waterclock.warnings"]) == []
assert footer.metadata.num_row_groups > 1

frame = polars.read_parquet(file)
assert (frame.height, frame["v"].sum(), frame["n"].sum(), frame["host"].n_unique()) == wanted, frame

print("ok")
