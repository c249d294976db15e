// What a variable of a dashboard asks for.

import { DataQuery } from '@grafana/schema';

export type VariableKind = 'tables' | 'tags' | 'fields' | 'values' | 'wql';

export interface VariableQuery extends DataQuery {
  kind: VariableKind;
  // Of tags, fields and values.
  table?: string;
  // Of values.
  tag?: string;
  // Of values: conditions as they stand in braces, such as `region=$region`, which may name other variables.
  conditions?: string;
  // Of wql: the first column gives the values, or `__value` with `__text` beside it.
  query?: string;
}
