"""An independent oracle: DuckDB answers the same questions from the same Parquet files.

    oracle.py make SEED COUNT FOLDER     writes FOLDER/plan.json: points to write, statements, and the SQL of each
    oracle.py check FOLDER               compares FOLDER/answers.json with what DuckDB says of FOLDER/blocks

The SQL is made from the same description as the WQL, never from its text. Whole numbers, texts, booleans and times must be equal,
floats within a billionth (the sketches within their stated error), null is null and NaN is NaN. The last line is `ok`.
"""

import glob
import json
import math
import random
import sys

from expressions import MACROS, NOW, SECOND, Column
from queries import HOUR, MINUTE, Statement

NAME = Column("__name__", "tag", "s")
TAGS = [Column("host", "tag", "s"), Column("dc", "tag", "s")]
METRIC = "g"
FIELDS = {
    "m": {"f": "f", "i": "i", "j": "i", "u": "u", "b": "b", "s": "s"},
    "q": {"p": "f", "n": "i"},
    METRIC: {"value": "f"},
}
SQL_TYPES = {"f": "double", "i": "bigint", "u": "ubigint", "b": "boolean", "s": "varchar"}
TOLERANCE = 1e-9
MILLISECOND = SECOND // 1000


class Table:
    def __init__(self, name):
        self.name = name
        self.columns = [Column("time", "time", "t"), *([NAME] if name == METRIC else []), *TAGS]
        self.columns += [Column(field, "value", type) for field, type in FIELDS[name].items()]
        self.points = {}
        self.times = []


def times(dice):
    """Mostly close together, so that series meet and gaps are exactly as long as a limit."""
    near = [NOW - 2 * HOUR + dice.randrange(400) * 10 * SECOND for _ in range(60)]
    odd = [NOW - HOUR + dice.randrange(HOUR) for _ in range(10)]
    days = [NOW - dice.randrange(72) * HOUR + dice.choice([-1, 0, 0, 1]) for _ in range(25)]
    spring = [1_774_656_000 * SECOND + dice.randrange(60) * HOUR + dice.choice([-1, 0]) for _ in range(12)]
    future = [NOW, NOW + 1, NOW + dice.randrange(1, 50) * MINUTE, NOW + 30 * HOUR]
    old = [-1, 0, -dice.randrange(40) * HOUR, 1_541_300_400 * SECOND + dice.choice([-1, 0, 1])]
    return sorted(set(near + odd + days + spring + future + old))


def value(dice, type, name):
    if type == "f":
        return dice.choice([dice.randrange(-800, 800) / 8, dice.randrange(4) / 2, 0.0, -0.0, 1e12 + 0.5])
    if name == "j":
        near = dice.randrange(3)
        return dice.choice([2**63 - 1 - near, -(2**63) + near, dice.randrange(-9, 9)])
    if type == "i":
        return dice.choice([dice.randrange(-500, 500), dice.randrange(4)])
    if type == "u":
        return dice.choice([dice.randrange(1000), dice.randrange(3), 2**64 - 1 - dice.randrange(3), 2**63])
    if type == "b":
        return dice.random() < 0.5
    return dice.choice(["", "a", "b", "xy", "Abc", "é€", "a b"])


def written(type, value):
    if type == "f":
        return repr(value)
    if type in "iu":
        return f"{value}{type}"
    return {True: "t", False: "f"}[value] if type == "b" else '"' + value + '"'


def write(dice, table, pool, count):
    """Points as line protocol. Some are there already: then each field is the last one written."""
    series = [("a", "x"), ("a", None), ("b", "x"), ("b", "y"), ("c", "y"), (None, "x")]
    lines = []
    for _ in range(count):
        key = (dice.choice(series), dice.choice(pool))
        if table.points and dice.random() < 0.1:
            key = dice.choice(list(table.points))
        fields = {name: value(dice, type, name) for name, type in FIELDS[table.name].items() if dice.random() < 0.7}
        if not fields:
            continue
        table.points.setdefault(key, {}).update(fields)
        (host, dc), time = key
        tags = "".join(f",{tag}={text}" for tag, text in (("host", host), ("dc", dc)) if text)
        values = ",".join(f"{name}={written(FIELDS[table.name][name], value)}" for name, value in fields.items())
        lines.append(f"{table.name}{tags} {values} {time}")
    table.times = sorted({time for _, time in table.points})
    return lines


def write_samples(dice, table, pool, count):
    """Samples of a Prometheus metric, which may be anything that a float can be: (host, dc, milliseconds, value as text)."""
    series = [("a", "x"), ("a", None), ("b", "y"), (None, "x")]
    samples = []
    for _ in range(count):
        key = (dice.choice(series), dice.choice(pool) // MILLISECOND * MILLISECOND)
        # A message has no place for -0.
        said = dice.choice(["nan", *(repr(value(dice, "f", "value") + 0.0) for _ in range(2))])
        table.points[key] = {"value": said}
        samples.append([*key[0], key[1] // MILLISECOND, said])
    return samples


def make(seed, count, folder):
    dice = random.Random(seed)
    tables = {name: Table(name) for name in FIELDS}
    pool = times(dice)
    batches = []
    for _ in range(3):
        lines = write(dice, tables["m"], pool, 120) + write(dice, tables["q"], pool, 40)
        batches.append({"lines": lines, "samples": write_samples(dice, tables[METRIC], pool, 60)})
    statements = []
    for _ in range(count):
        made = Statement(dice, tables, NOW).make()
        statements.append({
            "wql": made.text, "sql": made.final(), "types": [column.type for column in made.columns],
            "names": [column.name for column in made.columns], "rough": made.rough, "ordered": made.ordered,
        })
    points = {
        name: [[host, dc, time, fields] for ((host, dc), time), fields in table.points.items()]
        for name, table in tables.items()
    }
    plan = {"seed": seed, "now": NOW, "batches": batches, "statements": statements, "points": points}
    with open(f"{folder}/plan.json", "w") as file:
        json.dump(plan, file)


def load(duckdb, folder, plan):
    """The files as tables, which must hold exactly what was written."""
    connection = duckdb.connect()
    connection.execute(MACROS)
    connection.execute("set timezone = 'UTC'")
    for table, fields in FIELDS.items():
        stored = "metrics" if table == METRIC else table
        files = sorted(glob.glob(f"{folder}/blocks/default/{stored}/*.parquet"))
        columns = ", ".join(f"{field}::{SQL_TYPES[type]} as {field}" for field, type in fields.items())
        columns = "__name__, " * (table == METRIC) + f"nullif(host, '') as host, nullif(dc, '') as dc, {columns}"
        connection.execute(
            f"create table {table} as select epoch_ns(time) as time, {columns}"
            f" from read_parquet({files}, union_by_name = true)"
        )
        names = list(fields)
        rows = connection.execute(f"select host, dc, time, {', '.join(names)} from {table}").fetchall()
        points = plan["points"][table]
        if table == METRIC:
            points = [(host, dc, time, {"value": float(point["value"])}) for host, dc, time, point in points]
        expected = [(host, dc, time, *map(point.get, names)) for host, dc, time, point in points]
        order = lambda row: tuple(map(str, row))
        found, wanted = sorted(rows, key=order), sorted(expected, key=order)
        apart = next((pair for pair in zip(found, wanted) if str(pair[0]) != str(pair[1])), (len(found), len(wanted)))
        assert list(map(str, found)) == list(map(str, wanted)), f"seed {plan['seed']}: {files}: the rows differ: found {apart[0]}, written {apart[1]}"
    return connection


def parsed(text, type):
    if text is None:
        return None
    if type == "f":
        return float(text)
    if type in "iut":
        return int(text)
    return text == "true" if type == "b" else text


def same(ours, theirs, tolerance):
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, float):
        theirs = float(theirs)
        if math.isnan(ours) or math.isnan(theirs):
            return math.isnan(ours) and math.isnan(theirs)
        # What cancels leaves roundings of what it cancelled.
        return ours == theirs or math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=1e-9)
    return ours == theirs


def order_of(row, types):
    """Floats last, as they may differ in the last bit."""
    exact = [(value is not None, str(value)) for value, type in zip(row, types) if type != "f"]
    return exact, [f"{value:.6g}" if value is not None else "" for value, type in zip(row, types) if type == "f"]


def differs(statement, answer, rows):
    """What is not the same, as a text."""
    if "error" in answer:
        return f"error: {answer['error']}"
    places = [answer["columns"].index(name) if name in answer["columns"] else None for name in statement["names"]]
    types = statement["types"]
    missing = [name for name, place, type in zip(statement["names"], places, types) if place is None and type != "s"]
    if missing:
        return f"columns {missing} are missing in {answer['columns']}"
    ours = [
        tuple(None if place is None else parsed(row[place], type) for place, type in zip(places, types))
        for row in answer["rows"]
    ]
    if not statement["ordered"]:
        ours, rows = (sorted(side, key=lambda row: order_of(row, types)) for side in (ours, rows))
    tolerances = [statement["rough"].get(name, TOLERANCE) for name in statement["names"]]
    pairs = list(zip(ours, rows))
    wrong = [at for at, (a, b) in enumerate(pairs) if not all(map(same, a, b, tolerances))]
    if len(ours) == len(rows) and not wrong:
        return None
    said = [f"{len(ours)} rows, and DuckDB says {len(rows)}: {statement['names']}"]
    if len(ours) != len(rows):
        said += [f"  only ours:   {row}" for row in ours if row not in rows][:4]
        said += [f"  only DuckDB: {row}" for row in rows if row not in ours][:4]
    for at in wrong[:4]:
        said += [f"  row {at}: ours   {ours[at]}", f"  row {at}: DuckDB {rows[at]}"]
    return "\n".join(said)


def check(folder):
    import duckdb

    with open(f"{folder}/plan.json") as file:
        plan = json.load(file)
    with open(f"{folder}/answers.json") as file:
        answers = json.load(file)
    connection = load(duckdb, folder, plan)
    wrong, silent = 0, 0
    for statement, answer in zip(plan["statements"], answers, strict=True):
        try:
            rows = connection.execute(statement["sql"]).fetchall()
        except duckdb.Error as error:
            print(f"seed {plan['seed']}\n{statement['wql']}\nDuckDB: {error}\n{statement['sql']}\n")
            wrong += 1
            continue
        silent += not rows
        if difference := differs(statement, answer, rows):
            print(f"seed {plan['seed']}\n{statement['wql']}\n{difference}\n{statement['sql']}\n")
            wrong += 1
    count = len(plan["statements"])
    assert wrong == 0, f"seed {plan['seed']}: {wrong} of {count} answers differ"
    assert silent * 2 < count, f"seed {plan['seed']}: {silent} of {count} answers are empty: the test tests too little"
    print("ok")


if sys.argv[1] == "make":
    make(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
else:
    check(sys.argv[2])
