// The editor of a dashboard's variable.

import { QueryEditorProps } from '@grafana/data';
import { Combobox, InlineField, Input, RadioButtonGroup, Stack, Text } from '@grafana/ui';
import React from 'react';

import type { WaterclockDataSource } from '../datasource';
import { Code } from '../editor/Code';
import { requestOf } from '../editor/context';
import { matching, names as namesOf, option, variables } from '../editor/options';
import { WaterclockOptions } from '../options';
import { WaterclockQuery } from '../query';
import { VariableKind, VariableQuery } from './query';
import { statementOf } from './statement';

type Props = QueryEditorProps<WaterclockDataSource, WaterclockQuery, WaterclockOptions, VariableQuery>;

const KINDS: Array<{ label: string; value: VariableKind; description: string }> = [
  { label: 'Values', value: 'values', description: 'Values of a tag' },
  { label: 'Tags', value: 'tags', description: 'Names of tags' },
  { label: 'Fields', value: 'fields', description: 'Names of fields' },
  { label: 'Tables', value: 'tables', description: 'Names of tables' },
  { label: 'WQL', value: 'wql', description: 'The first column of any statement' },
];

export function VariableEditor(props: Props) {
  const { datasource, query, onChange, onRunQuery } = props;
  const { names, templates, server } = datasource;
  const { kind = 'values', table = '', tag = '', conditions = '' } = query;
  const change = (changed: Partial<VariableQuery>) => {
    onChange({ ...query, kind, refId: query.refId || 'variable', ...changed });
    onRunQuery();
  };
  const ours = variables(templates).map((name) => option(name, 'variable'));
  return (
    <Stack direction="column" gap={1}>
      <InlineField label="Of" labelWidth={14} transparent>
        <RadioButtonGroup
          aria-label="Kind"
          options={KINDS}
          value={kind}
          onChange={(wanted) => change({ kind: wanted })}
        />
      </InlineField>
      {kind !== 'tables' && kind !== 'wql' && (
        <InlineField label="Table" labelWidth={14} transparent>
          <Combobox
            aria-labelledby="table"
            data-testid="waterclock-variable-table"
            options={async (typed) => matching([...(await names.tables()).map((name) => option(name)), ...ours], typed)}
            value={table === '' ? null : option(table)}
            onChange={({ value }) => change({ table: value })}
            createCustomValue
            width={30}
          />
        </InlineField>
      )}
      {kind === 'values' && (
        <>
          <InlineField label="Tag" labelWidth={14} transparent>
            <Combobox
              aria-labelledby="tag"
              data-testid="waterclock-variable-tag"
              options={async (typed) =>
                matching([...(await names.tags(table)).map((name) => option(name)), ...ours], typed)
              }
              value={tag === '' ? null : option(tag)}
              onChange={({ value }) => change({ tag: value })}
              createCustomValue
              width={30}
            />
          </InlineField>
          <InlineField
            label="Where"
            labelWidth={14}
            transparent
            tooltip="Conditions on tags, which may name other variables: region in $region"
          >
            <Input
              key={conditions}
              aria-label="Where"
              defaultValue={conditions}
              placeholder="region in $region"
              width={40}
              onBlur={({ currentTarget }) => change({ conditions: currentTarget.value })}
            />
          </InlineField>
        </>
      )}
      {kind === 'wql' ? (
        <Code
          text={query.query ?? ''}
          onChange={(text) => onChange({ ...query, kind, query: text })}
          onRun={(text) => change({ query: text })}
          check={(text) => datasource.check(text, requestOf(props))}
          rowsOf={(statement) => server.namesOf(statement)}
          variables={() => namesOf(templates)}
        />
      ) : (
        <Text variant="code" color="secondary">
          {statementOf({ ...query, kind }) ?? ''}
        </Text>
      )}
    </Stack>
  );
}
