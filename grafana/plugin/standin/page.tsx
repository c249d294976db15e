// A stand-in for Grafana: one panel with its query editor, two variables that depend on each other, filters, Explore; the editors of
// variables and annotations; the data source's settings. What is Grafana's own is real, but for the services of its server and its dashboards.
//
// The address says what is shown: `#config`, `#variable`, `#annotation`, else the panel. `?now` has the ranges end now.

import * as emotionCss from '@emotion/css';
import * as emotionReact from '@emotion/react';
import * as grafanaData from '@grafana/data';
import * as grafanaRuntime from '@grafana/runtime';
import * as grafanaUi from '@grafana/ui';
import lodash from 'lodash';
import * as react from 'react';
import * as jsxRuntime from 'react/jsx-runtime';
import * as reactDom from 'react-dom';
import { createRoot } from 'react-dom/client';
import * as rxjs from 'rxjs';

import { App, UID } from './app';
import { PluginModule, settingsOf } from './grafana';
import { backend, live, sources, Templates } from './services';

interface System {
  import(id: string): Promise<PluginModule>;
  set(id: string, module: object): void;
  addImportMap(map: { imports: Record<string, string> }): void;
}
declare const System: System;

const PLUGIN = '/public/plugins/waterclock-waterclock-datasource';

// The modules that Grafana shares with plugins (.config/bundler/externals.ts), under the names by which it shares them.
const SHARED: Record<string, object> = {
  '@emotion/css': emotionCss,
  '@emotion/react': emotionReact,
  '@grafana/data': grafanaData,
  '@grafana/runtime': grafanaRuntime,
  '@grafana/ui': grafanaUi,
  lodash,
  react,
  'react/jsx-runtime': jsxRuntime,
  'react-dom': reactDom,
  rxjs,
};

async function start() {
  const templates = new Templates();
  grafanaRuntime.setBackendSrv(backend());
  grafanaRuntime.setGrafanaLiveSrv(live());
  grafanaRuntime.setTemplateSrv(templates);
  const imports: Record<string, string> = {};
  for (const [name, module] of Object.entries(SHARED)) {
    imports[name] = `app:${name}`;
    System.set(`app:${name}`, module);
  }
  System.addImportMap({ imports });
  const { plugin } = await System.import(`${PLUGIN}/module.js`);
  const meta = await (await fetch(`${PLUGIN}/plugin.json`)).json();
  grafanaRuntime.setDataSourceSrv(sources(() => settingsOf(meta, UID)));
  const root = document.getElementById('page');
  if (root === null) {
    throw new Error('the page has no root');
  }
  createRoot(root).render(<App plugin={plugin} meta={meta} templates={templates} />);
}

start().catch((error: unknown) => {
  document.body.append(`the plugin cannot be loaded: ${error}`);
  throw error;
});
