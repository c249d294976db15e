// What a panel asks: a text of WQL and how its answer is shown.
//
// Invariant: the text is the one truth. The builder reads it and writes it, and keeps nothing beside it.

import { DataQuery } from '@grafana/schema';

import { Bound } from './language/interpolate';

export type Format = 'time_series' | 'table' | 'logs';

export type EditorMode = 'builder' | 'code';

export interface WaterclockQuery extends DataQuery {
  query: string;
  format?: Format;
  // What series are called: `{{host}}` is the value of a tag, `{{column}}` the column. Without it Grafana names them.
  legend?: string;
  editor?: EditorMode;
  // Reads raw points only.
  withoutRollups?: boolean;
  // Goes on by itself while the dashboard's range ends now.
  live?: boolean;
}

// As the backend is sent it. An alert sends it as it was saved, without values and notes.
export interface PreparedQuery extends WaterclockQuery {
  params?: Record<string, Bound>;
  // Shown with the answer.
  notes?: string[];
}

export const DEFAULT_QUERY: Partial<WaterclockQuery> = { query: '', format: 'time_series', editor: 'builder' };
