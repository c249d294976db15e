import { DataSourcePlugin } from '@grafana/data';

import { ConfigEditor } from './config/ConfigEditor';
import { WaterclockDataSource } from './datasource';
import { Help } from './editor/Help';
import { QueryEditor } from './editor/QueryEditor';
import { WaterclockOptions, WaterclockSecrets } from './options';
import { WaterclockQuery } from './query';

export const plugin = new DataSourcePlugin<WaterclockDataSource, WaterclockQuery, WaterclockOptions, WaterclockSecrets>(
  WaterclockDataSource
)
  .setConfigEditor(ConfigEditor)
  .setQueryEditor(QueryEditor)
  .setQueryEditorHelp(Help);
