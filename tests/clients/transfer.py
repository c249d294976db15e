"""Exported Parquet is read by DuckDB, pyarrow and Polars, and written again by each of them in its own way.

    transfer.py EXPORT_FOLDER FOLDER

EXPORT_FOLDER holds the table `cpu`: 500 points of 3 hosts. The last line is `ok`.
"""

import glob
import sys

import duckdb
import polars
import pyarrow
import pyarrow.parquet

export, folder = sys.argv[1:3]
files = sorted(glob.glob(f"{export}/cpu/*.parquet"))
assert files, export

table = pyarrow.concat_tables(pyarrow.parquet.read_table(file) for file in files)
assert table.num_rows == 500, table.num_rows
assert str(table.schema.field("time").type) == "timestamp[ns, tz=UTC]", table.schema
assert pyarrow.types.is_dictionary(table.schema.field("host").type), table.schema
assert table.schema.field("u").type == pyarrow.uint64(), table.schema

count, total = duckdb.sql(f"select count(*), sum(n) from read_parquet({files})").fetchall()[0]
assert (count, total) == (500, sum(range(500))), (count, total)

frame = polars.concat([polars.read_parquet(file) for file in files])
assert frame.height == 500 and frame["up"].sum() == 250, frame

# Each tool's own defaults: compression, types of texts, units of time.
pyarrow.parquet.write_table(table.replace_schema_metadata(None), f"{folder}/pyarrow.parquet")
seconds = table.set_column(0, "time", table["time"].cast(pyarrow.timestamp("s", tz="UTC")))
narrow = seconds.set_column(
    seconds.schema.get_field_index("n"), "n", seconds["n"].cast(pyarrow.int32())
)
pyarrow.parquet.write_table(
    narrow, f"{folder}/pyarrow_snappy_seconds.parquet", compression="snappy", use_dictionary=False
)
duckdb.sql(f"copy (select * from read_parquet({files})) to '{folder}/duckdb.parquet' (format parquet)")
frame.write_parquet(f"{folder}/polars.parquet")

print("ok")
