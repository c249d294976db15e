"""Blocks are plain Parquet: DuckDB, pyarrow and Polars read them with no help and agree with the server.

    open_files.py BLOCKS_FOLDER EXPECTED_JSON

EXPECTED_JSON is {"rows": N, "sum": S, "sent": S, "hosts": [..], "first": RFC 3339 time} of the table `cpu` of the
database `default`: the points of all its files, its fields `usage` and `sent` added up. Fields are encoded by their
values, each file in its own way: the files must still be one table to each reader. The last line is `ok`.
"""

import glob
import json
import sys

import duckdb
import polars
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

folder, expected = sys.argv[1], json.loads(sys.argv[2])
files = sorted(glob.glob(f"{folder}/default/cpu/*.parquet"))
assert files, f"no files in {folder}/default/cpu"

count, total, hosts, first = duckdb.sql(
    f"select count(*), sum(usage), list_sort(list(distinct host)), "
    f"strftime(min(time) at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ') from read_parquet({files})"
).fetchall()[0]
assert (count, total, hosts, first) == (
    expected["rows"],
    expected["sum"],
    expected["hosts"],
    expected["first"],
), ("duckdb", count, total, hosts, first)

table = pyarrow.concat_tables(
    [pyarrow.parquet.read_table(file) for file in files], promote_options="default"
)
assert table.num_rows == expected["rows"]
assert pyarrow.compute.sum(table["usage"]).as_py() == expected["sum"]
assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]", table.schema

frame = polars.concat([polars.read_parquet(file) for file in files], how="diagonal")
assert frame.height == expected["rows"] and frame["usage"].sum() == expected["sum"]
assert sorted(frame["host"].unique().to_list()) == expected["hosts"]

encodings = {}
for file in files:
    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
    for column in map(group.column, range(group.num_columns)):
        encodings.setdefault(column.path_in_schema, set()).update(column.encodings)
assert "RLE_DICTIONARY" in encodings["usage"], encodings
assert "BYTE_STREAM_SPLIT" in encodings["sent"], encodings
scanned = polars.scan_parquet(files).select(polars.col("usage", "sent").sum()).collect()
assert scanned.row(0) == (expected["sum"], expected["sent"]), scanned
dataset = pyarrow.dataset.dataset(files).to_table(columns=["sent"])
assert pyarrow.compute.sum(dataset["sent"]).as_py() == expected["sent"]
assert duckdb.sql(f"select sum(sent) from read_parquet({files})").fetchall() == [(expected["sent"],)]

print("ok")
