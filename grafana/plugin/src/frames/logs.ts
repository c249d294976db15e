// Rows with a text as lines of a log.

import { createDataFrame, DataFrame, FieldType } from '@grafana/data';

import { Answer, Cell, Column } from '../answer';
import { LOG_LINES, Shape } from './shape';

// A field with one of these names is the line, else the first that holds texts.
const BODIES = ['body', 'message', 'msg', 'line', 'log', 'text'];
const SEVERITIES = ['severity', 'level'];

export function logLines({ columns, rows }: Answer, { refId }: Shape): DataFrame {
  const timeAt = columns.findIndex((column) => column.role === 'time');
  const bodyAt = bodyOf(columns);
  if (timeAt < 0 || bodyAt < 0) {
    const lacking = timeAt < 0 ? 'have no time' : 'have no field that holds texts';
    throw new Error(`the rows ${lacking}, and lines of a log need one; choose another format`);
  }
  const severityAt = columns.findIndex((column) => SEVERITIES.includes(column.name));
  const others = columns.flatMap(({ name }, at) =>
    at === timeAt || at === bodyAt || at === severityAt ? [] : [{ name, at }]
  );
  const labels = rows.map((row) =>
    Object.fromEntries(others.flatMap(({ name, at }) => ((row[at] ?? '') === '' ? [] : [[name, String(row[at])]])))
  );
  const cells = (at: number): Cell[] => rows.map((row) => row[at] ?? null);
  return createDataFrame({
    refId,
    meta: { ...LOG_LINES, preferredVisualisationType: 'logs' },
    fields: [
      { name: 'timestamp', type: FieldType.time, config: {}, values: cells(timeAt) },
      { name: 'body', type: FieldType.string, config: {}, values: rows.map((row) => String(row[bodyAt] ?? '')) },
      ...(severityAt < 0 ? [] : [{ name: 'severity', type: FieldType.string, config: {}, values: cells(severityAt) }]),
      { name: 'labels', type: FieldType.other, config: {}, values: labels },
    ],
  });
}

function bodyOf(columns: Column[]): number {
  const texts = columns.filter((column) => column.role === 'value' && column.type === 'string');
  const named =
    texts.find((column) => BODIES.includes(column.name)) ??
    texts.find((column) => !SEVERITIES.includes(column.name)) ??
    texts[0];
  return named === undefined ? -1 : columns.indexOf(named);
}
