"""A rollup's states are finalized by DuckDB with the statements of the format's page, and agree with ours.

    states.py FORMAT_PAGE FOLDER EXPECTED_JSON

FOLDER has the folders that the statements name. EXPECTED_JSON has one row per hour for each statement of the section
"Reading states with SQL", in their order, by column; `hour` is RFC 3339. The last line is `ok`.
"""

import datetime
import json
import math
import os
import re
import sys

import duckdb

page, folder, expected = open(sys.argv[1]).read(), sys.argv[2], json.loads(sys.argv[3])
section = page.split("### Reading states with SQL\n")[1].split("\n### ")[0]
statements = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
assert len(statements) == len(expected), f"{len(statements)} statements on the page"
os.chdir(folder)
duckdb.sql("set timezone = 'UTC'")


def same(ours, theirs):
    if isinstance(theirs, datetime.datetime):
        return ours == theirs.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return math.isclose(ours, float(theirs), rel_tol=1e-12)


for statement, rows in zip(statements, expected):
    answer = duckdb.sql(statement).order("hour")
    theirs = [dict(zip(answer.columns, row)) for row in answer.fetchall()]
    assert len(theirs) == len(rows), (statement, theirs)
    for ours, row in zip(rows, theirs):
        assert ours.keys() == row.keys(), (ours, row)
        for column, value in ours.items():
            assert same(value, row[column]), (column, value, row[column])

print("ok")
