// Keys and values for ad-hoc filters: of the tables that the dashboard's queries read, in its range and under the other filters.

import { DataSourceGetTagKeysOptions, DataSourceGetTagValuesOptions, MetricFindValue } from '@grafana/data';

import { sources } from './language/sources';
import { Names } from './names';
import { tagFilter } from './prepare';
import { WaterclockQuery } from './query';

export async function tagKeys(
  names: Names,
  { queries }: DataSourceGetTagKeysOptions<WaterclockQuery>
): Promise<MetricFindValue[]> {
  const tables = await tablesOf(names, queries);
  return asValues((await Promise.all(tables.map((table) => names.tags(table)))).flat());
}

export async function tagValues(
  names: Names,
  { key, filters, queries, timeRange }: DataSourceGetTagValuesOptions<WaterclockQuery>
): Promise<MetricFindValue[]> {
  const others = filters.flatMap((filter) => tagFilter(filter) ?? []).filter(({ tag }) => tag !== key);
  const span = timeRange && { fromMs: timeRange.from.valueOf(), toMs: timeRange.to.valueOf() };
  const found = (await tablesOf(names, queries)).map(async (table) => {
    const tags = await names.tags(table);
    const about = others.filter(({ tag }) => tags.includes(tag));
    return tags.includes(key) ? names.values(table, key, about, span) : [];
  });
  return asValues((await Promise.all(found)).flat());
}

async function tablesOf(names: Names, queries: WaterclockQuery[] | undefined): Promise<string[]> {
  const asked = (queries ?? []).flatMap((query) => sources(query.query ?? '').map(({ name }) => name));
  const all = await names.tables();
  const read = (await Promise.all([...new Set(asked)].map((source) => names.tableOf(source)))).filter((name) =>
    all.includes(name)
  );
  return read.length > 0 ? [...new Set(read)] : all;
}

export function asValues(texts: string[]): MetricFindValue[] {
  return [...new Set(texts)].sort().map((text) => ({ text, value: text }));
}
