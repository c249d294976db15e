// Names that the server has: tables, rollups, tags, fields, values. What cannot be asked is an empty list: a person can type any name.

import { read } from './builder/read';
import { TagFilter, withFilters } from './language/sources';
import { quoteName } from './language/wql';
import { Server } from './server';

export interface Field {
  name: string;
  type: string;
}

export interface Span {
  fromMs: number;
  toMs: number;
}

export class Names {
  constructor(private readonly server: Server) {}

  tables(): Promise<string[]> {
    return this.first('show tables');
  }

  async rollups(): Promise<string[]> {
    return [...(await this.definitions()).keys()];
  }

  // Of a rollup those that it keeps, else its table's.
  async tags(source: string): Promise<string[]> {
    const rollup = (await this.definitions()).get(source);
    return rollup === undefined
      ? this.first(`show tags from ${quoteName(source)}`)
      : (rollup.by ?? this.tags(rollup.on));
  }

  // A rollup is asked for the fields of its table.
  async fields(source: string): Promise<Field[]> {
    const table = await this.tableOf(source);
    const rows = await this.server.namesOf(`show fields from ${quoteName(table)}`).catch(() => []);
    return rows.map(([name, type]) => ({ name: String(name), type: String(type) }));
  }

  // Of the series that the filters leave and that have points in the span.
  async values(source: string, tag: string, filters: TagFilter[] = [], span?: Span): Promise<string[]> {
    const table = quoteName(await this.tableOf(source));
    const { text, params } = withFilters(table, () => filters);
    const rows = await this.server
      .rows({ query: `show values of ${quoteName(tag)} from ${text}`, params, ...(span && { range: span }) })
      .catch(() => []);
    return rows.map(([value]) => String(value));
  }

  async tableOf(source: string): Promise<string> {
    const rollup = (await this.definitions()).get(source);
    return rollup === undefined ? source : this.tableOf(rollup.on);
  }

  private async definitions(): Promise<Map<string, { on: string; by?: string[] }>> {
    const rows = await this.server.namesOf('show rollups').catch(() => []);
    // The definition is the last column.
    return new Map(
      rows.map((row) => {
        const [name, on] = row.map(String);
        const definition = String(row.at(-1) ?? '').replace(/^create rollup .*? as /, '');
        const reading = read(definition);
        return [name ?? '', { on: on ?? '', by: 'query' in reading ? reading.query.by : undefined }];
      })
    );
  }

  private async first(statement: string): Promise<string[]> {
    const rows = await this.server.namesOf(statement).catch(() => []);
    return rows.map(([name]) => String(name));
  }
}
