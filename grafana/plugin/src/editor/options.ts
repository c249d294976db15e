// What the boxes of the editors offer.

import { TemplateSrv } from '@grafana/runtime';
import { ComboboxOption } from '@grafana/ui';

export const option = (value: string, description?: string): ComboboxOption<string> => ({
  label: value,
  value,
  description,
});

// Those that have what was typed, in any case of letters.
export function matching(options: Array<ComboboxOption<string>>, typed: string): Array<ComboboxOption<string>> {
  const wanted = typed.toLowerCase();
  return options.filter(({ label, value }) => (label ?? value).toLowerCase().includes(wanted));
}

// The variables of the dashboard, as a text names them.
export function variables(templates: TemplateSrv): string[] {
  return templates.getVariables().map(({ name }) => `$${name}`);
}

// Under the names of Grafana.
export const BUILT_INS = [
  '$__interval',
  '$__interval_ms',
  '$__from',
  '$__to',
  '$__range',
  '$__range_s',
  '$__timeFilter',
  '$__maxDataPoints',
];
