// What the server answers: docs/http-api.md, with times in milliseconds.

export type ColumnType = 'time' | 'float' | 'integer' | 'unsigned' | 'boolean' | 'string';

export interface Column {
  name: string;
  role: 'time' | 'tag' | 'value';
  type: ColumnType;
}

export type Cell = string | number | boolean | null;

export interface RollupStats {
  name: string;
  buckets: number;
  dirty_recomputed: number;
}

export interface Stats {
  series: number;
  rows_read: number;
  bytes_read: number;
  files: number;
  elapsed_ms: number;
  rollups: RollupStats[];
}

export interface Answer {
  columns: Column[];
  rows: Cell[][];
  stats: Stats;
  warnings: string[];
}
