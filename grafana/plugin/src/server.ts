// What the plugin asks of the server, through Grafana's data source proxy: Grafana adds the credentials, so they are never here.

import { BackendSrv, FetchError, isFetchError } from '@grafana/runtime';
import { catchError, lastValueFrom, map, Observable, throwError } from 'rxjs';

import { Answer, Cell } from './answer';
import { Bound } from './language/interpolate';
import { Place } from './language/places';

export interface Question {
  text: string;
  params?: Record<string, Bound>;
  range?: { fromMs: number; toMs: number };
  withoutRollups?: boolean;
}

// What the server, or Grafana on the way to it, says is wrong.
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
}

// Names for completion are asked for once in this time.
const NAMES_KEPT_MS = 30_000;

export class Server {
  private readonly names = new Map<string, { asked: number; rows: Promise<Cell[][]> }>();

  constructor(
    private readonly url: string,
    readonly database: string,
    private readonly backend: () => BackendSrv
  ) {}

  // Unsubscribing ends the request, and with it the query.
  ask(question: Question): Observable<Answer> {
    return this.post<Answer>('/api/wql', question);
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
    const rows = this.rows({ text: statement });
    this.names.set(statement, { asked: now, rows });
    rows.catch(() => this.names.delete(statement));
    return rows;
  }

  // What is wrong with a statement, without running it.
  check(question: Question): Promise<Refused | undefined> {
    const asked = this.post<Answer>('/api/wql/explain', question);
    return lastValueFrom(asked).then(
      () => undefined,
      (error: unknown) => (error instanceof Refused ? error : undefined)
    );
  }

  databases(): Promise<string[]> {
    interface Shown {
      results?: Array<{ series?: Array<{ values?: string[][] }> }>;
    }
    const asked = this.backend().fetch<Shown>({
      url: `${this.url}/query`,
      params: { q: 'SHOW DATABASES' },
      showErrorAlert: false,
    });
    return lastValueFrom(asked).then(({ data }) => {
      const values = data.results?.[0]?.series?.[0]?.values ?? [];
      return values.flatMap(([name]) => (name === undefined ? [] : [name]));
    });
  }

  private post<T>(path: string, { text, params, range, withoutRollups }: Question): Observable<T> {
    const body = {
      q: text,
      db: this.database,
      params: params ?? {},
      time: 'ms',
      rollups: withoutRollups ? 'off' : 'on',
      ...(range && { from: `${range.fromMs}ms`, to: `${range.toMs}ms` }),
    };
    return this.backend()
      .fetch<T>({ url: this.url + path, method: 'POST', data: body, showErrorAlert: false })
      .pipe(
        map((response) => response.data),
        catchError((error: unknown) => throwError(() => refusal(error)))
      );
  }
}

interface ServersError {
  error?: { message?: string; hint?: string; line?: number; column?: number };
  // Of Grafana itself.
  message?: string;
}

function refusal(error: unknown): unknown {
  if (!isFetchError(error)) {
    return error;
  }
  const { status, statusText, data }: FetchError<ServersError | undefined> = error;
  const said = typeof data === 'object' ? data : undefined;
  if (said?.error?.message !== undefined) {
    const { message, hint, line, column } = said.error;
    const place = typeof line === 'number' && typeof column === 'number' ? { line, column } : undefined;
    return new Refused(message, status, hint ?? undefined, place);
  }
  const reason = said?.message || statusText || 'no answer';
  if (status === 502 || status === 504) {
    const hint = 'it must run, and be reachable from the machine of Grafana’s server under the URL of this data source';
    return new Refused(`Grafana cannot reach Waterclock: ${reason}`, status, hint);
  }
  if (status === 401 || status === 403) {
    return new Refused(`access is refused: ${reason}`, status, 'look at the token and the user of this data source');
  }
  return new Refused(`${status} ${reason}`, status, 'is there a Waterclock at the URL of this data source?');
}
