// What the boxes of the editors offer.

import { TemplateSrv } from '@grafana/runtime';
import { ComboboxOption } from '@grafana/ui';

import { BUILT_INS } from '../language/interpolate';

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

// What a text may name: the variables of the dashboard, and what Grafana knows everywhere.
export function names(templates: TemplateSrv): string[] {
  return [...variables(templates), ...BUILT_INS.map((name) => `$${name}`)];
}
