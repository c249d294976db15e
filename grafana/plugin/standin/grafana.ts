// The shapes in which a plugin meets Grafana.

import { DataSourceApi, DataSourceInstanceSettings, DataSourcePlugin, DataSourcePluginMeta } from '@grafana/data';
import { DataQuery } from '@grafana/schema';

export interface Query extends DataQuery {
  query?: string;
  format?: string;
}

export type Source = DataSourceApi<Query>;

export interface PluginModule {
  plugin: DataSourcePlugin<Source, Query>;
}

export function instance(plugin: PluginModule['plugin'], meta: DataSourcePluginMeta, database: string): Source {
  const settings = {
    id: 1,
    uid: 'waterclock',
    type: meta.id,
    name: 'Waterclock',
    meta,
    readOnly: false,
    access: 'proxy',
    url: '/api/datasources/proxy/uid/waterclock',
    jsonData: { database },
  } as DataSourceInstanceSettings;
  const source = new plugin.DataSourceClass(settings);
  source.meta = meta;
  return source;
}
