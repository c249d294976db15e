// How a data source is set up.

import { DataSourceJsonData } from '@grafana/data';

export const DEFAULT_DATABASE = 'default';

// Custom headers stand beside these under Grafana's own names, `httpHeaderName1` and so on.
export interface WaterclockOptions extends DataSourceJsonData {
  database?: string;
}

// Values of custom headers, `httpHeaderValue1` and so on: sent to Grafana's server once, and never back to a browser.
export type WaterclockSecrets = Record<string, string>;
