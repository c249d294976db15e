// WQL in Monaco, which Grafana's editor is: colours, completion from the live server, marks at the places of errors.

import { Monaco, MonacoEditor, monacoTypes } from '@grafana/ui';

import { Cell } from '../answer';
import { offsetOf } from '../language/places';
import { Choice, complete, meaningful, TokenKind, tokens } from '../language/wql';
import { Refused } from '../server';

export const LANGUAGE = 'wql';

// What completion asks, by the model that is typed in.
export interface Context {
  rowsOf: (statement: string) => Promise<Cell[][]>;
  variables: () => string[];
}

const contexts = new WeakMap<monacoTypes.editor.ITextModel, Context>();

export function attach(editor: MonacoEditor, context: Context): void {
  const model = editor.getModel();
  if (model !== null) {
    contexts.set(model, context);
  }
}

// Monaco knows a language for as long as the page stands.
export function register(monaco: Monaco): void {
  if (monaco.languages.getLanguages().some(({ id }) => id === LANGUAGE)) {
    return;
  }
  monaco.languages.register({ id: LANGUAGE });
  monaco.languages.setLanguageConfiguration(LANGUAGE, {
    comments: { lineComment: '#' },
    brackets: [
      ['{', '}'],
      ['(', ')'],
    ],
    autoClosingPairs: ['{}', '()', '""', "''", '``'].map((pair) => ({ open: pair.charAt(0), close: pair.charAt(1) })),
  });
  monaco.languages.setTokensProvider(LANGUAGE, { getInitialState: () => new After(''), tokenize });
  monaco.languages.registerCompletionItemProvider(LANGUAGE, {
    triggerCharacters: [' ', '{', '(', ',', '=', '~', '|', '"', "'", '`', '$'],
    provideCompletionItems: async (model, position) => ({ suggestions: await suggestions(monaco, model, position) }),
  });
}

// A line is read after the last word before it: what a word is depends on that.
class After implements monacoTypes.languages.IState {
  constructor(readonly word: string) {}

  clone(): After {
    return new After(this.word);
  }

  equals(other: monacoTypes.languages.IState): boolean {
    return other instanceof After && other.word === this.word;
  }
}

const SCOPES: Record<TokenKind, string> = {
  comment: 'comment',
  blank: '',
  text: 'string',
  quoted: 'identifier',
  time: 'number',
  number: 'number',
  word: 'identifier',
  sign: 'delimiter',
  other: 'delimiter',
  keyword: 'keyword',
  function: 'type',
};

function tokenize(line: string, state: monacoTypes.languages.IState): monacoTypes.languages.ILineTokens {
  const word = state instanceof After ? state.word : '';
  const lead = word === '' ? '' : `${word} `;
  const all = tokens(lead + line).filter((token) => token.start >= lead.length);
  const last = meaningful(all).at(-1);
  return {
    tokens: all.map(({ kind, text, start }) => ({
      startIndex: start - lead.length,
      scopes: text.startsWith('$') ? 'variable' : SCOPES[kind],
    })),
    endState: last === undefined ? new After(word) : new After(last.kind === 'text' ? '""' : last.text),
  };
}

async function suggestions(monaco: Monaco, model: monacoTypes.editor.ITextModel, position: monacoTypes.Position) {
  const context = contexts.get(model);
  if (context === undefined) {
    return [];
  }
  const text = model.getValue();
  const cursor = model.getOffsetAt(position);
  const variable = /\$\{?\w*$/.exec(text.slice(0, cursor))?.[0];
  const found =
    variable === undefined
      ? await complete(text, cursor, context.rowsOf)
      : { from: cursor - variable.length, to: cursor, choices: context.variables().map(asChoice) };
  if (found === undefined) {
    return [];
  }
  const range = monaco.Range.fromPositions(model.getPositionAt(found.from), model.getPositionAt(found.to));
  const quoted = /["'`]/.test(text.charAt(found.from));
  return found.choices.map(({ label, insert, kind }, at): monacoTypes.languages.CompletionItem => ({
    label,
    insertText: insert,
    detail: kind,
    kind: kindOf(monaco, kind),
    range,
    filterText: quoted ? insert : label,
    sortText: String(at).padStart(4, '0'),
  }));
}

const asChoice = (name: string): Choice => ({ label: name, insert: name, kind: 'variable' });

function kindOf(monaco: Monaco, kind: string): monacoTypes.languages.CompletionItemKind {
  const { CompletionItemKind } = monaco.languages;
  switch (kind) {
    case 'word':
      return CompletionItemKind.Keyword;
    case 'function':
      return CompletionItemKind.Function;
    case 'table':
    case 'rollup':
    case 'let':
      return CompletionItemKind.Struct;
    case 'value':
      return CompletionItemKind.Value;
    case 'variable':
      return CompletionItemKind.Variable;
    default:
      return CompletionItemKind.Field;
  }
}

// Marks the word at the place of an error, and nothing if there is none.
export function mark(monaco: Monaco, editor: MonacoEditor, refused: Refused | undefined): void {
  const model = editor.getModel();
  if (model === null) {
    return;
  }
  const markers =
    refused?.place === undefined ? [] : [markerAt(monaco, model, refused, offsetOf(model.getValue(), refused.place))];
  monaco.editor.setModelMarkers(model, 'waterclock', markers);
}

function markerAt(monaco: Monaco, model: monacoTypes.editor.ITextModel, { message, hint }: Refused, start: number) {
  const word = /^[\p{L}\p{N}_$]+|^[^]/u.exec(model.getValue().slice(start))?.[0] ?? '';
  const from = model.getPositionAt(word === '' ? Math.max(0, start - 1) : start);
  const to = model.getPositionAt(start + word.length);
  return {
    severity: monaco.MarkerSeverity.Error,
    message: hint === undefined ? message : `${message}\n${hint}`,
    startLineNumber: from.lineNumber,
    startColumn: from.column,
    endLineNumber: to.lineNumber,
    endColumn: to.column,
  };
}
