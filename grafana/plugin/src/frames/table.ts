// Rows as they are: a field per column.

import { createDataFrame, DataFrame, Field, FieldType } from '@grafana/data';

import { Answer, Cell, ColumnType } from '../answer';
import { NUMERIC_LONG, Shape } from './shape';

export const FIELD_TYPES: Record<ColumnType, FieldType> = {
  time: FieldType.time,
  float: FieldType.number,
  integer: FieldType.number,
  unsigned: FieldType.number,
  boolean: FieldType.boolean,
  string: FieldType.string,
};

export function table(answer: Answer, { refId }: Shape): DataFrame {
  return createDataFrame({ refId, fields: fields(answer), meta: { preferredVisualisationType: 'table' } });
}

// Numbers without a time, one row per group: what stat panels and alerts take.
export function numericLong(answer: Answer, { refId }: Shape): DataFrame {
  return createDataFrame({
    refId,
    fields: fields(answer),
    meta: { ...NUMERIC_LONG, preferredVisualisationType: 'table' },
  });
}

function fields({ columns, rows }: Answer): Field[] {
  return columns.map(({ name, type }, at) => {
    const values: Cell[] = rows.map((row) => row[at] ?? null);
    return { name, type: FIELD_TYPES[type], config: {}, values };
  });
}
