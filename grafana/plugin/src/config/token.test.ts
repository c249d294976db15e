import { DataSourceSettings } from '@grafana/data';

import { WaterclockOptions, WaterclockSecrets } from '../options';
import { hasToken, tokenTyped, withToken } from './token';

type Settings = DataSourceSettings<WaterclockOptions, WaterclockSecrets>;
const settings = (parts: object) => ({ jsonData: {}, secureJsonFields: {}, ...parts }) as Settings;

it('a token is a header among others, and a secret', () => {
  const others = settings({ jsonData: { httpHeaderName1: 'X-Org' }, secureJsonFields: { httpHeaderValue1: true } });
  const typed = withToken(others, 's3cret');
  expect(typed.jsonData).toEqual({ httpHeaderName1: 'X-Org', httpHeaderName2: 'Authorization' });
  expect(typed.secureJsonData).toEqual({ httpHeaderValue2: 'Bearer s3cret' });
  expect([hasToken(typed), tokenTyped(typed)]).toEqual([false, 's3cret']);
  // Saved, Grafana says only that there is one.
  const saved = settings({
    jsonData: typed.jsonData,
    secureJsonFields: { httpHeaderValue1: true, httpHeaderValue2: true },
  });
  expect([hasToken(saved), tokenTyped(saved)]).toEqual([true, '']);
  expect(withToken(saved, 'new').secureJsonData).toEqual({ httpHeaderValue2: 'Bearer new' });
});
