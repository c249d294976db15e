// What Explore shows before there is a query: a click puts an example in.

import { QueryEditorHelpProps } from '@grafana/data';
import { Button, Stack, Text } from '@grafana/ui';
import React from 'react';

import { WaterclockQuery } from '../query';

const EXAMPLES: Array<{ says: string; query: string }> = [
  { says: 'One line for each series', query: 'cpu | every $__interval avg(usage)' },
  { says: 'Points pooled by a tag', query: 'cpu{host=~"web-.*"} | every $__interval avg(usage), max(usage) by region' },
  { says: 'Rate of a counter', query: 'requests | every $__interval rate(total) by service' },
  {
    says: 'Gaps filled, but none over ten minutes',
    query: 'temp | every 1m avg(celsius) by room | fill linear max 10m',
  },
  { says: 'The five highest, as a table', query: 'mem | max(used_percent) by host | top 5 by max_used_percent' },
  { says: 'What there is', query: 'show tables' },
];

export function Help({ onClickExample }: QueryEditorHelpProps<WaterclockQuery>) {
  return (
    <Stack direction="column" gap={1}>
      <Text element="h3">WQL: a table and stages, joined by |</Text>
      {EXAMPLES.map(({ says, query }) => (
        <Stack key={query} direction="row" gap={2} alignItems="center" wrap="wrap">
          <Button size="sm" variant="secondary" onClick={() => onClickExample({ refId: 'A', query, editor: 'code' })}>
            {says}
          </Button>
          <Text variant="code">{query}</Text>
        </Stack>
      ))}
      <Text element="p">
        Variables are bound as values: host=$host for one, host in $host for several, host=~$host as a pattern. A
        variable where a name stands becomes a name: avg($field) by $tag.
      </Text>
    </Stack>
  );
}
