// The settings of a data source. Saved, they are Grafana's server's, and a browser gets all of them back but the secrets.

import { DataSourceSettings } from '@grafana/data';
import { Alert, Stack } from '@grafana/ui';
import { ComponentType, useState } from 'react';

import { Props } from './app';
import { instance } from './grafana';

const UID = 'settings';

export function Settings({ plugin, meta }: Props) {
  const [options, setOptions] = useState({
    id: 1,
    uid: UID,
    orgId: 1,
    name: 'Waterclock',
    type: meta.id,
    typeName: 'Waterclock',
    typeLogoUrl: '',
    access: 'proxy',
    url: '',
    user: '',
    database: '',
    basicAuth: false,
    basicAuthUser: '',
    isDefault: true,
    readOnly: false,
    withCredentials: false,
    jsonData: {},
    secureJsonData: {},
    secureJsonFields: {},
  } as unknown as DataSourceSettings);
  const [said, setSaid] = useState<{ status: string; message: string }>();
  const Editor = plugin.components.ConfigEditor as ComponentType<Record<string, unknown>>;
  const test = async () => {
    setSaid(undefined);
    const saved = await fetch(`/api/datasources/uid/${UID}`, { method: 'PUT', body: JSON.stringify(options) });
    setOptions(await saved.json());
    // What is wrong is thrown.
    const checked = instance(plugin, meta, UID).testDatasource();
    setSaid(await checked.catch((error: { status: string; message: string }) => error));
  };
  return (
    <Stack direction="column" gap={2}>
      <Editor options={options} onOptionsChange={setOptions} />
      <button onClick={test}>Save & test</button>
      {said !== undefined && <Alert severity={said.status === 'success' ? 'success' : 'error'} title={said.message} />}
      <pre data-testid="settings" style={{ fontSize: 11 }}>
        {JSON.stringify(options)}
      </pre>
    </Stack>
  );
}
