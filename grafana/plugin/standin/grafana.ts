// The shapes in which a plugin meets Grafana.

import { DataSourceApi, DataSourceInstanceSettings, DataSourcePlugin, DataSourcePluginMeta } from '@grafana/data';
import { DataQuery } from '@grafana/schema';

export interface Query extends DataQuery {
  query?: string;
  format?: string;
  live?: boolean;
}

export type Source = DataSourceApi<Query>;

export interface PluginModule {
  plugin: DataSourcePlugin<Source, Query>;
}

// What a browser is told of a data source: no secrets, and no address of its server.
export function settingsOf(meta: DataSourcePluginMeta, uid: string): DataSourceInstanceSettings {
  const given = { id: 1, uid, type: meta.id, name: 'Waterclock', meta, readOnly: false, access: 'proxy', jsonData: {} };
  return given as DataSourceInstanceSettings;
}

export function instance(plugin: PluginModule['plugin'], meta: DataSourcePluginMeta, uid: string): Source {
  const source = new plugin.DataSourceClass(settingsOf(meta, uid));
  source.meta = meta;
  return source;
}
