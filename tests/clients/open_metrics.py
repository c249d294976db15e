"""Blocks of metrics: the commonest labels are columns, the others a map, and DuckDB, pyarrow and Polars read both.

    open_metrics.py FOLDER EXPECTED_JSON

FOLDER is that of the table `metrics`; EXPECTED_JSON a list of [labels, rows, sum of values], one for each series. Each tool
reads the files with no help and must have the same series, wherever a label stands. The last line is `ok`.
"""

import glob
import json
import sys

import duckdb
import polars
import pyarrow
import pyarrow.parquet

folder, expected = sys.argv[1:3]
expected = {
    frozenset(labels.items()): (rows, total) for labels, rows, total in json.load(open(expected))
}
files = sorted(glob.glob(f"{folder}/*.parquet"))
assert files, folder

RARE_MAX = 64  # columns of labels
NO_LABELS = {"time", "labels", "value", "histogram"}


def series(rows, what):
    """Rows with `labels` as a dictionary, by series; they come metric after metric."""
    found, names = {}, []
    for row in rows:
        labels = {
            column.removesuffix(".tag"): value
            for column, value in row.items()
            if column not in NO_LABELS and value is not None
        }
        assert row["labels"] is None or not labels.keys() & row["labels"].keys(), (what, row)
        labels |= row["labels"] or {}
        if not names or names[-1] != labels["__name__"]:
            names.append(labels["__name__"])
        count, total = found.get(frozenset(labels.items()), (0, 0.0))
        found[frozenset(labels.items())] = (count + 1, total + row["value"])
    assert len(names) == len(set(names)), (what, "the rows of a metric follow one another", names)
    return found


def merged(parts):
    all = {}
    for part in parts:
        for key, (count, total) in part.items():
            before = all.get(key, (0, 0.0))
            all[key] = (before[0] + count, before[1] + total)
    return all


def of_duckdb(file):
    cursor = duckdb.sql(f"select * from read_parquet('{file}')")
    return series((dict(zip(cursor.columns, row)) for row in cursor.fetchall()), "duckdb")


def of_pyarrow(file):
    table = pyarrow.parquet.read_table(file)
    assert pyarrow.types.is_map(table.schema.field("labels").type), table.schema
    rows = table.to_pylist()
    for row in rows:
        row["labels"] = row["labels"] and dict(row["labels"])
    return series(rows, "pyarrow")


def of_polars(file):
    return series(polars.read_parquet(file).to_dicts(), "polars")


for read in of_duckdb, of_pyarrow, of_polars:
    found = merged(map(read, files))
    assert found == expected, (read.__name__, len(found), len(expected))

with_columns = set()
in_map = 0
for file in files:
    schema = pyarrow.parquet.read_schema(file)
    columns = [name for name in schema.names if name not in NO_LABELS]
    assert columns[0] == "__name__" and len(columns) <= RARE_MAX, columns
    with_columns |= set(columns)
    in_map += len(columns) == RARE_MAX
assert in_map, "no file has more labels than columns"

# A label in the map, over all files at once, whatever columns each has.
rare, wanted = next(
    (label, value)
    for series in sorted(expected, key=sorted)
    for label, value in sorted(series)
    if label not in with_columns and label != "labels"
)
total = sum(total for series, (_, total) in expected.items() if (rare, wanted) in series)
every = f"read_parquet({files}, union_by_name = true)"
found = duckdb.sql(f"select sum(value) from {every} where labels['{rare}'] = '{wanted}'").fetchall()
assert found == [(total,)], (rare, wanted, found, total)

print("ok")
