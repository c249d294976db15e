// The types of what the server's page and this plugin share. The sources are JavaScript, because the page is served as it is written.

declare module '*/src/server/page/language.js' {
  export type TokenKind =
    'comment' | 'blank' | 'text' | 'quoted' | 'time' | 'number' | 'word' | 'sign' | 'other' | 'keyword' | 'function';
  export interface Token {
    kind: TokenKind;
    text: string;
    start: number;
    end: number;
  }
  export const VERBS: string[];
  export const STAGES: string[];
  export const AGGREGATES: string[];
  export const FUNCTIONS: string[];
  export function tokens(text: string): Token[];
  export function meaningful(list: Token[]): Token[];
  export function nameOf(token: Token | undefined): string | undefined;
  export function quoteName(name: string): string;
  export function quoteText(text: string): string;
}

declare module '*/src/server/page/complete.js' {
  import { Cell } from 'answer';

  export interface Choice {
    label: string;
    insert: string;
    kind: string;
  }
  export interface Completion {
    from: number;
    to: number;
    choices: Choice[];
  }
  export function complete(
    text: string,
    cursor: number,
    rowsOf: (statement: string) => Promise<Cell[][]>
  ): Promise<Completion | undefined>;
}
