// A token is the custom header `Authorization`: its name is a setting, its value a secret that only Grafana's server can read, which hands
// it to the plugin's backend with every request.

import { DataSourceSettings } from '@grafana/data';

import { WaterclockOptions, WaterclockSecrets } from '../options';

type Settings = DataSourceSettings<WaterclockOptions, WaterclockSecrets>;

const HEADER = 'Authorization';

// Headers are counted from 1, without gaps.
function placeOf({ jsonData }: Settings): { at: number; exists: boolean } {
  const headers: Record<string, unknown> = { ...jsonData };
  for (let at = 1; ; at += 1) {
    const name = headers[`httpHeaderName${at}`];
    if (name === undefined || name === HEADER) {
      return { at, exists: name === HEADER };
    }
  }
}

export function hasToken(settings: Settings): boolean {
  const { at, exists } = placeOf(settings);
  return exists && Boolean(settings.secureJsonFields[`httpHeaderValue${at}`]);
}

export function tokenTyped(settings: Settings): string {
  const { at, exists } = placeOf(settings);
  return exists ? (settings.secureJsonData?.[`httpHeaderValue${at}`] ?? '').replace(/^Bearer /, '') : '';
}

export function withToken(settings: Settings, token: string): Settings {
  const { at } = placeOf(settings);
  return {
    ...settings,
    jsonData: { ...settings.jsonData, [`httpHeaderName${at}`]: HEADER },
    secureJsonFields: { ...settings.secureJsonFields, [`httpHeaderValue${at}`]: false },
    secureJsonData: { ...settings.secureJsonData, [`httpHeaderValue${at}`]: token === '' ? '' : `Bearer ${token}` },
  };
}
