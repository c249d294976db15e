// Variables of dashboards, put into a text of WQL: bound as parameters for the server, or written as literals for Explore, where there are
// no variables.
//
// Not here: the range and step of a panel (`$__interval` and its like), which alerts have as well and which the backend puts in.

import { Edit, rewrite, Rewritten } from './places';
import { only, Piece, Slot, slots } from './slots';
import { AGGREGATES, FUNCTIONS, quoteName, quoteText } from './wql';

// What a variable holds. `several` says that it may hold more than one value, whatever it holds now.
export interface Held {
  values: string[];
  several: boolean;
  // A text that is a pattern already: the "custom all value" of a variable.
  raw?: boolean;
}

// Undefined where there is no such variable. The format is that of `${name:format}`, if it is none of WQL's.
export type Lookup = (name: string, format?: string) => Held | undefined;

export type Bound = string | number | Array<string | number>;

export interface Interpolated extends Rewritten {
  params: Record<string, Bound>;
}

export class VariableError extends Error {
  constructor(
    message: string,
    // Where the variable stands in the text as it was written.
    readonly offset: number
  ) {
    super(message);
  }
}

// Under the names of Grafana. What is asked for in a format, such as `${__from:date}`, is a variable like others.
export const BUILT_INS = [
  '__interval',
  '__interval_ms',
  '__from',
  '__to',
  '__range',
  '__range_ms',
  '__range_s',
  '__timeFilter',
  '__maxDataPoints',
];

export function bind(text: string, lookup: Lookup): Interpolated {
  const params: Record<string, Bound> = {};
  const taken = new Set<string>();
  const edits: Edit[] = [];
  for (const slot of slots(text)) {
    const variable = only(slot.pieces);
    const value = valueOf(slot, lookup);
    if (value === undefined) {
      continue;
    }
    if (typeof value === 'object' && 'word' in value) {
      edits.push({ start: slot.start, end: slot.end, by: value.word });
      continue;
    }
    const bare = text.slice(slot.start, slot.end) === `$${variable?.variable}`;
    const names: string[] = [];
    for (const one of slot.kind === 'members' && Array.isArray(value) ? value : [value]) {
      const name = freeName(variable?.variable ?? 'text', one, params, taken);
      params[name] = one;
      names.push(name);
    }
    if (!bare || names.length !== 1 || names[0] !== variable?.variable) {
      edits.push({ start: slot.start, end: slot.end, by: names.map((name) => `$${name}`).join(', ') });
    }
  }
  return { ...rewrite(text, edits), params };
}

// The text with the values of variables written out.
export function writeOut(text: string, lookup: Lookup): string {
  const edits: Edit[] = [];
  for (const slot of slots(text)) {
    const value = valueOf(slot, lookup);
    if (value !== undefined) {
      edits.push({ start: slot.start, end: slot.end, by: written(value, slot) });
    }
  }
  return rewrite(text, edits).text;
}

type Value = Bound | { word: string };

function written(value: Value, slot: Slot): string {
  if (Array.isArray(value)) {
    const list = value.map((one) => literal(one)).join(', ');
    return slot.kind === 'members' ? list : `(${list})`;
  }
  return typeof value === 'object' ? value.word : literal(value);
}

const literal = (value: string | number) => (typeof value === 'number' ? String(value) : quoteText(value));

// Undefined where a variable does not exist: the server says so at its place.
function valueOf(slot: Slot, lookup: Lookup): Value | undefined {
  const variable = only(slot.pieces);
  if (variable === undefined) {
    return composed(slot, lookup);
  }
  if (isBuiltIn(variable)) {
    return undefined;
  }
  const ours = variable.format === undefined || ['text', 'number', 'list', 'pattern', 'name'].includes(variable.format);
  const held = lookup(variable.variable, ours ? undefined : variable.format);
  if (held === undefined) {
    return undefined;
  }
  const { values } = held;
  switch (slot.kind) {
    case 'list':
    case 'members':
      return values;
    case 'pattern':
      return patternOf(held);
    case 'name':
      return { word: values.map(quoteName).join(', ') };
    case 'function':
      return { word: functionOf(one(held, slot, variable.variable), slot) };
    case 'number':
      return number(one(held, slot, variable.variable));
    case 'text':
      return one(held, slot, variable.variable);
  }
}

// A text in quotes with variables in it is bound as one text.
function composed(slot: Slot, lookup: Lookup): string | undefined {
  let found = false;
  const say = (piece: Piece) => {
    if ('text' in piece) {
      return piece.text;
    }
    const held = isBuiltIn(piece) ? undefined : lookup(piece.variable, piece.format);
    if (held === undefined) {
      return `$${piece.variable}`;
    }
    found = true;
    return slot.kind === 'pattern' ? patternOf(held) : held.values.join(',');
  };
  const text = slot.pieces.map(say).join('');
  return found ? text : undefined;
}

function one(held: Held, slot: Slot, name: string): string {
  const [first, second] = held.values;
  if (second !== undefined) {
    throw new VariableError(
      `$${name} has ${held.values.length} values here, and one is wanted: write "in $${name}"`,
      slot.start
    );
  }
  return first ?? '';
}

// As Grafana's Prometheus takes them: what a person typed is a pattern, chosen values are texts.
function patternOf({ values, several, raw }: Held): string {
  if (!several || raw) {
    return values.join('|');
  }
  const escaped = values.map((value) => value.replace(/[\\^$.*+?()[\]{}|#&~-]/g, '\\$&'));
  return escaped.length === 1 ? (escaped[0] ?? '') : `(${escaped.join('|')})`;
}

function functionOf(name: string, slot: Slot): string {
  if (/^p\d+$/.test(name) || AGGREGATES.includes(name) || FUNCTIONS.includes(name)) {
    return name;
  }
  throw new VariableError(`${name} is no function of WQL`, slot.start);
}

const number = (text: string) => (/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? Number(text) : text);

// The name of the variable if it can be had: one name has one value.
function freeName(variable: string, value: Bound, params: Record<string, Bound>, taken: Set<string>): string {
  const base = variable.replace(/\W/g, '_');
  for (let count = 1; ; count += 1) {
    const name = count === 1 && base !== 'text' ? base : `${base}_${count}`;
    const same = JSON.stringify(params[name]) === JSON.stringify(value);
    if (!taken.has(name) || same) {
      taken.add(name);
      return name;
    }
  }
}

const isBuiltIn = ({ variable, format }: { variable: string; format?: string }) =>
  format === undefined && BUILT_INS.includes(variable);
