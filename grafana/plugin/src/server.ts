// What the editors and variables ask of the server, beside the queries of panels: names, and what is wrong with a text. All goes through the
// plugin's backend, which alone has the credentials.

import { BackendSrv, FetchError, isFetchError } from '@grafana/runtime';
import { catchError, lastValueFrom, map, Observable, throwError } from 'rxjs';

import { Answer, Cell } from './answer';
import { Bound } from './language/interpolate';
import { Place } from './language/places';

export interface Question {
  query: string;
  params?: Record<string, Bound>;
  range?: { fromMs: number; toMs: number };
  intervalMs?: number;
  maxDataPoints?: number;
}

// What the server, or something on the way to it, says is wrong.
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly hint?: string,
    readonly place?: Place
  ) {
    super(message);
  }

  // Everything that there is to say, in one line.
  get sentence(): string {
    const where = this.place === undefined ? '' : `line ${this.place.line}, column ${this.place.column}: `;
    return `${where}${this.message}${this.hint === undefined ? '' : ` (${this.hint})`}`;
  }

  at(place: Place): Refused {
    return new Refused(this.message, this.status, this.hint, place);
  }

  // The backend says errors of queries in such a sentence.
  static ofSentence(sentence: string, status = 0): Refused {
    const read = /^line (\d+), column (\d+): ([^]*)$/.exec(sentence);
    return read === null
      ? new Refused(sentence, status)
      : new Refused(read[3] ?? '', status, undefined, { line: Number(read[1]), column: Number(read[2]) });
  }
}

// Names for completion are asked for once in this time.
const NAMES_KEPT_MS = 30_000;

export class Server {
  private readonly names = new Map<string, { asked: number; rows: Promise<Cell[][]> }>();

  constructor(
    // Of the data source.
    private readonly uid: string,
    private readonly backend: () => BackendSrv
  ) {}

  // Unsubscribing ends the request, and with it the query.
  ask(question: Question): Observable<Answer> {
    return this.post<Answer>('wql', question);
  }

  rows(question: Question): Promise<Cell[][]> {
    return lastValueFrom(this.ask(question)).then((answer) => answer.rows);
  }

  // Rows of a statement about names, from not long ago.
  namesOf(statement: string): Promise<Cell[][]> {
    const kept = this.names.get(statement);
    const now = Date.now();
    if (kept !== undefined && now - kept.asked < NAMES_KEPT_MS) {
      return kept.rows;
    }
    const rows = this.rows({ query: statement });
    this.names.set(statement, { asked: now, rows });
    rows.catch(() => this.names.delete(statement));
    return rows;
  }

  // What is wrong with a statement, without running it.
  check(question: Question): Promise<Refused | undefined> {
    return lastValueFrom(this.post<Answer>('explain', question)).then(
      () => undefined,
      (error: unknown) => (error instanceof Refused ? error : undefined)
    );
  }

  private post<T>(resource: string, question: Question): Observable<T> {
    const url = `/api/datasources/uid/${this.uid}/resources/${resource}`;
    return this.backend()
      .fetch<T>({ url, method: 'POST', data: question, showErrorAlert: false })
      .pipe(
        map((response) => response.data),
        catchError((error: unknown) => throwError(() => refusal(error)))
      );
  }
}

interface BackendsError {
  error?: { message?: string; hint?: string; line?: number; column?: number };
  // Of Grafana itself.
  message?: string;
}

function refusal(error: unknown): unknown {
  if (!isFetchError(error)) {
    return error;
  }
  const { status, statusText, data }: FetchError<BackendsError | undefined> = error;
  const said = typeof data === 'object' ? data : undefined;
  if (said?.error?.message !== undefined) {
    const { message, hint, line, column } = said.error;
    const place = typeof line === 'number' && typeof column === 'number' ? { line, column } : undefined;
    return new Refused(message, status, hint, place);
  }
  return new Refused(
    `${said?.message || statusText || 'no answer'}`,
    status,
    'Grafana’s log says more about the plugin'
  );
}
