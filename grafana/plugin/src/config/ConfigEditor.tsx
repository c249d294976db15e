// Where the server is and which database is asked. Secrets go to Grafana's server and stay there: the plugin's backend has them with each request.

import { DataSourcePluginOptionsEditorProps } from '@grafana/data';
import { DataSourceHttpSettings, FieldSet, InlineField, Input, SecretInput } from '@grafana/ui';
import React from 'react';

import { DEFAULT_DATABASE, WaterclockOptions, WaterclockSecrets } from '../options';
import { hasToken, tokenTyped, withToken } from './token';

type Props = DataSourcePluginOptionsEditorProps<WaterclockOptions, WaterclockSecrets>;

export function ConfigEditor({ options, onOptionsChange }: Props) {
  const configured = hasToken(options);
  return (
    <>
      <FieldSet label="Waterclock">
        <InlineField label="Database" labelWidth={26} tooltip="The database, or bucket, that is asked">
          <Input
            id="waterclock-database"
            width={40}
            value={options.jsonData.database ?? ''}
            placeholder={DEFAULT_DATABASE}
            onChange={({ currentTarget }) =>
              onOptionsChange({ ...options, jsonData: { ...options.jsonData, database: currentTarget.value } })
            }
          />
        </InlineField>
        <InlineField
          label="Token"
          labelWidth={26}
          tooltip="Sent by Grafana's server as Authorization: Bearer, for a server behind a gateway that asks for it; the browser never has it"
        >
          <SecretInput
            id="waterclock-token"
            width={40}
            isConfigured={configured}
            value={tokenTyped(options)}
            placeholder="none"
            onReset={() => onOptionsChange(withToken(options, ''))}
            onChange={({ currentTarget }) => onOptionsChange(withToken(options, currentTarget.value))}
          />
        </InlineField>
      </FieldSet>
      {/*
        Its successors in @grafana/plugin-ui would bring a query builder for SQL and a formatter into the plugin. Grafana 12 and 13 have it.
        The list of headers reads the settings once: it is made anew when the token becomes one of them.
      */}
      {/* eslint-disable-next-line @typescript-eslint/no-deprecated */}
      <DataSourceHttpSettings
        key={String(tokenTyped(options) !== '' || configured)}
        defaultUrl="http://127.0.0.1:8086"
        showForwardOAuthIdentityOption={false}
        dataSourceConfig={options}
        onChange={onOptionsChange}
      />
    </>
  );
}
