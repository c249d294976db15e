// Rows as series: one for each value column and group of tags.
//
// Rows of buckets become one wide frame, where a missing row is null and shows as a gap. Points stand at times of their own and become one
// frame for each series, in which nothing is missing.

import { createDataFrame, DataFrame, Field, FieldType, Labels } from '@grafana/data';

import { Answer, Cell, Column } from '../answer';
import { MULTI, Shape, WIDE } from './shape';
import { legendOf } from './legend';
import { FIELD_TYPES } from './table';

// Cells of a wide frame. Over it, few groups have rows at the same times, and a frame for each is smaller.
const WIDE_CELLS_MAX = 4_000_000;

interface Group {
  labels: Labels;
  rows: Cell[][];
}

export function timeSeries(answer: Answer, shape: Shape): DataFrame[] {
  const timeAt = answer.columns.findIndex((column) => column.role === 'time');
  const values = answer.columns.flatMap((column, at) => (column.role === 'value' ? [{ column, at }] : []));
  const groups = grouped(answer);
  for (const group of groups) {
    group.rows.sort((a, b) => timeOf(a, timeAt) - timeOf(b, timeAt));
  }
  const times = shape.inBuckets ? allTimes(groups, timeAt) : [];
  if (shape.inBuckets && times.length * groups.length * values.length <= WIDE_CELLS_MAX) {
    return [wide(groups, times, timeAt, values, shape)];
  }
  return groups.flatMap((group) =>
    values.map(({ column, at }) => {
      const rows = group.rows.filter((row) => (row[at] ?? null) !== null || shape.inBuckets);
      return createDataFrame({
        refId: shape.refId,
        meta: { ...MULTI, preferredVisualisationType: 'graph' },
        fields: [
          timeField(rows.map((row) => timeOf(row, timeAt))),
          valueField(
            column,
            group.labels,
            rows.map((row) => row[at] ?? null),
            shape
          ),
        ],
      });
    })
  );
}

function wide(
  groups: Group[],
  times: number[],
  timeAt: number,
  values: Array<{ column: Column; at: number }>,
  shape: Shape
): DataFrame {
  const place = new Map(times.map((time, at) => [time, at]));
  const fields: Field[] = [timeField(times)];
  for (const group of groups) {
    for (const { column, at } of values) {
      const cells: Cell[] = new Array<Cell>(times.length).fill(null);
      for (const row of group.rows) {
        const index = place.get(timeOf(row, timeAt));
        if (index !== undefined) {
          cells[index] = row[at] ?? null;
        }
      }
      fields.push(valueField(column, group.labels, cells, shape));
    }
  }
  return createDataFrame({ refId: shape.refId, meta: { ...WIDE, preferredVisualisationType: 'graph' }, fields });
}

function grouped({ columns, rows }: Answer): Group[] {
  const tags = columns.flatMap((column, at) => (column.role === 'tag' ? [{ name: column.name, at }] : []));
  const groups = new Map<string, Group>();
  for (const row of rows) {
    const key = JSON.stringify(tags.map(({ at }) => row[at]));
    let group = groups.get(key);
    if (group === undefined) {
      // A missing tag is the empty text.
      const labels = tags.flatMap(({ name, at }) => (row[at] ? [[name, String(row[at])] as const] : []));
      group = { labels: Object.fromEntries(labels), rows: [] };
      groups.set(key, group);
    }
    group.rows.push(row);
  }
  return [...groups.values()];
}

function allTimes(groups: Group[], timeAt: number): number[] {
  const times = new Set(groups.flatMap((group) => group.rows.map((row) => timeOf(row, timeAt))));
  return [...times].sort((a, b) => a - b);
}

const timeOf = (row: Cell[], at: number) => Number(row[at]);

function timeField(values: number[]): Field<number> {
  return { name: 'time', type: FieldType.time, config: {}, values };
}

function valueField(column: Column, labels: Labels, values: Cell[], { legend }: Shape): Field {
  const config = legend ? { displayNameFromDS: legendOf(legend, labels, column.name) } : {};
  return { name: column.name, type: FIELD_TYPES[column.type], labels, config, values };
}
