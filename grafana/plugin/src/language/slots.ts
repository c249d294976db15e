// Where a text has variables, and what may stand at each place.
//
// Invariant: what a variable holds never becomes language. It becomes a bound value, or one name in backticks, or the name of a function
// that there is.

import { AGGREGATES, FUNCTIONS, meaningful, textOf, Token, tokens } from './wql';

// What a place takes: a text, a number if it is one, a list, a member of a list in brackets, a pattern, a column or table, a function.
export type SlotKind = 'text' | 'number' | 'list' | 'members' | 'pattern' | 'name' | 'function';

export interface Slot {
  start: number;
  end: number;
  kind: SlotKind;
  // `name` of `$name`, `name:format` of `${name:format}`; pieces of a text in quotes that has variables among other characters.
  pieces: Piece[];
}

export type Piece = { variable: string; format?: string } | { text: string };

const FORMATS: Record<string, SlotKind> = {
  text: 'text',
  number: 'number',
  list: 'list',
  pattern: 'pattern',
  name: 'name',
};

const VARIABLE = /\$(?:([A-Za-z_]\w*)|\{([A-Za-z_][\w.]*)(?::([^}]*))?\})/g;

export function slots(text: string): Slot[] {
  const found: Slot[] = [];
  const before: Token[] = [];
  const solid = meaningful(bridged(text));
  solid.forEach((token, at) => {
    const pieces = piecesOf(token);
    if (pieces !== undefined) {
      const kind = kindOf(before, solid[at + 1]);
      const format = only(pieces)?.format;
      found.push({ start: token.start, end: token.end, kind: (format && FORMATS[format]) || kind, pieces });
    }
    before.push(token);
  });
  return found;
}

// The tokens of a text, where `${name:format}` is one like `$name`.
export function bridged(text: string): Token[] {
  const list = tokens(text);
  const joined: Token[] = [];
  let covered = 0;
  for (const token of list) {
    if (token.start < covered) {
      continue;
    }
    const whole = token.text === '$' ? /^\$\{[^}]*\}/.exec(text.slice(token.start))?.[0] : undefined;
    const end = whole === undefined ? token.end : token.start + whole.length;
    joined.push(whole === undefined ? token : { kind: 'number', text: whole, start: token.start, end });
    covered = end;
  }
  return joined;
}

function piecesOf(token: Token): Piece[] | undefined {
  if (token.kind !== 'text' && !token.text.startsWith('$')) {
    return undefined;
  }
  const said = token.kind === 'text' ? textOf(token.text) : token.text;
  const pieces: Piece[] = [];
  let read = 0;
  for (const match of said.matchAll(VARIABLE)) {
    if (match.index > read) {
      pieces.push({ text: said.slice(read, match.index) });
    }
    pieces.push({ variable: match[1] ?? match[2] ?? '', format: match[3] });
    read = match.index + match[0].length;
  }
  if (read === 0) {
    return undefined;
  }
  if (read < said.length) {
    pieces.push({ text: said.slice(read) });
  }
  return pieces;
}

export function only(pieces: Piece[]): { variable: string; format?: string } | undefined {
  const first = pieces[0];
  return pieces.length === 1 && first !== undefined && 'variable' in first ? first : undefined;
}

const NUMBERS = new Set(['<', '<=', '>', '>=', '+', '-', '*', '/', '%', 'limit', 'top', 'bottom', 'fill', 'offset']);
const TEXTS = new Set(['last', 'since', 'between', 'every', 'over', 'session', 'within', 'max', 'keep', 'late']);

function kindOf(before: Token[], next: Token | undefined): SlotKind {
  const last = before[before.length - 1]?.text ?? '';
  const bracket = innermost(before);
  const opener = before[before.findLastIndex((token) => token.text === '|' || token.text === ';') + 1]?.text ?? '';
  if (last === '=~' || last === '!~') {
    return 'pattern';
  }
  if (last === 'in') {
    // `in` of an aggregate names a time zone.
    return bracket?.text === '{' || opener === 'where' || opener === 'extend' ? 'list' : 'text';
  }
  if (last === '=' || last === '!=') {
    return bracket?.text === '{' || opener !== 'extend' ? 'text' : 'number';
  }
  if (bracket?.before === 'in') {
    return 'members';
  }
  if (NUMBERS.has(last)) {
    return 'number';
  }
  if (TEXTS.has(last) || (last === 'and' && opener === 'between')) {
    return 'text';
  }
  if (next?.text === '(') {
    return 'function';
  }
  // The first argument of a function is a column, the others are what it does with it.
  const isCall = bracket !== undefined && (AGGREGATES.includes(bracket.before) || FUNCTIONS.includes(bracket.before));
  return isCall && last === ',' ? 'number' : 'name';
}

// The bracket that is still open, and the word before it.
function innermost(list: Token[]): { text: string; before: string } | undefined {
  const open: Array<{ text: string; before: string }> = [];
  list.forEach((token, at) => {
    if (token.text === '{' || token.text === '(') {
      open.push({ text: token.text, before: list[at - 1]?.text ?? '' });
    } else if (token.text === '}' || token.text === ')') {
      open.pop();
    }
  });
  return open[open.length - 1];
}
