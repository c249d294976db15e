// What the server answers to a statement about names: docs/http-api.md, with times in milliseconds. Answers to queries come as frames.

export type ColumnType = 'time' | 'float' | 'integer' | 'unsigned' | 'boolean' | 'string';

export interface Column {
  name: string;
  role: 'time' | 'tag' | 'value';
  type: ColumnType;
}

export type Cell = string | number | boolean | null;

export interface Answer {
  columns: Column[];
  rows: Cell[][];
}
