// The statement that gives a variable's values, undefined while something is missing in it.

import { isVariable } from '../builder/model';
import { Answer } from '../answer';
import { quoteName } from '../language/wql';
import { VariableQuery } from './query';

export function statementOf({ kind, table, tag, conditions, query }: VariableQuery): string | undefined {
  const source = table && name(table);
  const braces = conditions?.trim() ? `{${conditions.trim()}}` : '';
  switch (kind) {
    case 'tables':
      return 'show tables';
    case 'tags':
      return source && `show tags from ${source}`;
    case 'fields':
      return source && `show fields from ${source}`;
    case 'values':
      return source && tag && `show values of ${name(tag)} from ${source}${braces}`;
    case 'wql':
      return query?.trim() || undefined;
  }
}

export interface Option {
  text: string;
  value: string;
}

// Each value once, in the order of the answer.
export function optionsOf({ columns, rows }: Answer): Option[] {
  const valueAt = at(columns, '__value') ?? firstOf(columns);
  const textAt = at(columns, '__text') ?? valueAt;
  const found = new Map<string, Option>();
  for (const row of rows) {
    const value = row[valueAt] ?? null;
    if (value !== null && value !== '') {
      const option = { text: String(row[textAt] ?? value), value: String(value) };
      if (!found.has(option.value)) {
        found.set(option.value, option);
      }
    }
  }
  return [...found.values()];
}

function at(columns: Answer['columns'], wanted: string): number | undefined {
  const found = columns.findIndex(({ name }) => name === wanted);
  return found < 0 ? undefined : found;
}

// The time of a row is no value that a person would choose.
function firstOf(columns: Answer['columns']): number {
  return Math.max(
    0,
    columns.findIndex(({ role }) => role !== 'time')
  );
}

const name = (text: string) => (isVariable(text) ? text : quoteName(text));
