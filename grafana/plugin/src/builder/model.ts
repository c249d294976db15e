// What the builder can say: one table, conditions on its tags, one aggregate stage, gaps, a limit. `print` and `read` are its two doors to
// text.
//
// A name or a value of the form `$name` is a variable of the dashboard, wherever it stands.

import { FilterOperator } from '../language/sources';

export interface BuilderFilter {
  tag: string;
  operator: FilterOperator;
  // One, but for `in` and `not in`.
  values: string[];
}

export interface BuilderAggregate {
  function: string;
  // None where it counts points, or the table has a sole field.
  field?: string;
  // Of `quantile(x, 0.95)`.
  argument?: string;
  alias?: string;
}

export interface BuilderFill {
  // `null`, `previous`, `linear`, or a number.
  how: string;
  max?: string;
}

export interface BuilderQuery {
  source: string;
  filters: BuilderFilter[];
  // A duration or `$__interval`; without it the whole range is one bucket.
  every?: string;
  over?: string;
  // None gives points.
  aggregates: BuilderAggregate[];
  // Without it each series is its own group; empty pools all.
  by?: string[];
  fill?: BuilderFill;
  limit?: string;
}

export const EMPTY: BuilderQuery = { source: '', filters: [], aggregates: [] };

// What a new query of a table begins with.
export function started(source: string): BuilderQuery {
  return { source, filters: [], every: '$__interval', aggregates: [{ function: 'avg' }] };
}

export const isVariable = (text: string) => /^\$(?:[A-Za-z_]\w*|\{[A-Za-z_][\w.]*(?::[^}]*)?\})$/.test(text);
export const isList = (operator: FilterOperator) => operator === 'in' || operator === 'not in';
