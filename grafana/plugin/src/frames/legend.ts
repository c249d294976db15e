// What a series is called: `{{host}}` in a legend is the value of the tag host, `{{column}}` the column's name.

import { Labels } from '@grafana/data';

const SLOT = /\{\{\s*([^{}]+?)\s*\}\}/g;

export function legendOf(template: string, labels: Labels, column: string): string {
  return template.replace(SLOT, (_, name: string) => labels[name] ?? (name === 'column' ? column : ''));
}
