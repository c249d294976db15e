"""Whatever way the pages of a block are encoded: DuckDB, pyarrow and Polars read each value of each row, to the bit.

    every_value.py BLOCK_FILE EXPECTED_JSON_FILE

EXPECTED_JSON_FILE has for each row [host or null, dc or null, v or null, w or null], floats as the number that their bits
are. All pages of `v` must not be encoded alike, or the file does not show what it should. The last line is `ok`.
"""

import json
import struct
import sys

import duckdb
import polars
import pyarrow.parquet

file, expected = sys.argv[1], json.load(open(sys.argv[2]))


def bits(value):
    return None if value is None else struct.unpack("<Q", struct.pack("<d", value))[0]


def check(reader, rows):
    rows = [[host, dc, bits(v), bits(w)] for host, dc, v, w in rows]
    assert len(rows) == len(expected), (reader, len(rows), len(expected))
    for at, (found, wanted) in enumerate(zip(rows, expected)):
        assert found == wanted, (reader, at, found, wanted)


columns = ["host", "dc", "v", "w"]
check("duckdb", duckdb.sql(f"select {', '.join(columns)} from read_parquet('{file}')").fetchall())
table = pyarrow.parquet.read_table(file, columns=columns)
check("pyarrow", zip(*(table[column].to_pylist() for column in columns)))
check("polars", polars.read_parquet(file, columns=columns).select(columns).rows())

# One series alone, by which readers skip pages and row groups.
some = [row for row in expected if row[0] == "h3"]
found = duckdb.sql(f"select count(*), count(v) from read_parquet('{file}') where host = 'h3'").fetchall()
counted = (len(some), sum(row[2] is not None for row in some))
assert found == [counted], (found, counted)
found = polars.scan_parquet(file).filter(polars.col("host") == "h3").select(polars.len(), polars.col("v").count())
assert found.collect().row(0) == counted, found
found = pyarrow.parquet.read_table(file, columns=["v"], filters=[("host", "=", "h3")])["v"]
assert (len(found), len(found) - found.null_count) == counted

column = [pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(at) for at in range(5)]
encodings = set(next(one for one in column if one.path_in_schema == "v").encodings)
assert {"PLAIN", "BYTE_STREAM_SPLIT", "RLE_DICTIONARY"} <= encodings, encodings

print("ok")
