// Waterclock as Grafana sees it. Each method says what Grafana asks; how it is answered stands in the modules beside.

import {
  DataFrame,
  DataQueryRequest,
  DataQueryResponse,
  DataSourceApi,
  DataSourceGetTagKeysOptions,
  DataSourceGetTagValuesOptions,
  DataSourceInstanceSettings,
  LoadingState,
  MetricFindValue,
  ScopedVars,
  TestDataSourceResponse,
} from '@grafana/data';
import { getBackendSrv, getTemplateSrv, TemplateSrv } from '@grafana/runtime';
import { catchError, from, map, merge, Observable, of, scan, switchMap } from 'rxjs';

import { Answer } from './answer';
import { framesOf } from './frames/frames';
import { health } from './health';
import { writeOut } from './language/interpolate';
import { hasWindow } from './language/window';
import { DEFAULT_DATABASE, WaterclockOptions } from './options';
import { Names } from './names';
import { frameOf, lookupIn, prepare } from './prepare';
import { DEFAULT_QUERY, WaterclockQuery } from './query';
import { Refused, Server } from './server';
import { tagKeys, tagValues } from './adhoc';
import { WaterclockVariables } from './variables/support';

export class WaterclockDataSource extends DataSourceApi<WaterclockQuery, WaterclockOptions> {
  readonly server: Server;
  readonly names: Names;

  // Rows with a time become annotations by Grafana's own rules: text, tags, timeEnd by their names.
  annotations = {};

  constructor(
    settings: DataSourceInstanceSettings<WaterclockOptions>,
    readonly templates: TemplateSrv = getTemplateSrv()
  ) {
    super(settings);
    this.server = new Server(settings.url ?? '', settings.jsonData.database || DEFAULT_DATABASE, getBackendSrv);
    this.names = new Names(this.server);
    this.variables = new WaterclockVariables(this);
  }

  getDefaultQuery(): Partial<WaterclockQuery> {
    return DEFAULT_QUERY;
  }

  filterQuery(query: WaterclockQuery): boolean {
    return !query.hide && (query.query ?? '').trim() !== '';
  }

  // One request for each query, side by side. Unsubscribing, as Grafana does when a person cancels, ends them.
  query(request: DataQueryRequest<WaterclockQuery>): Observable<DataQueryResponse> {
    const targets = request.targets.filter((target) => this.filterQuery(target));
    if (targets.length === 0) {
      return of({ data: [], state: LoadingState.Done });
    }
    const answers = targets.map((target, at) =>
      this.answer(target, request).pipe(map((response) => ({ at, response })))
    );
    // What has come so far, in the order of the queries: one slow query keeps no other from being shown.
    return merge(...answers).pipe(
      scan(
        (sofar: Array<DataQueryResponse | undefined>, { at, response }) => sofar.with(at, response),
        targets.map(() => undefined)
      ),
      map(joined)
    );
  }

  private answer(target: WaterclockQuery, request: DataQueryRequest<WaterclockQuery>): Observable<DataQueryResponse> {
    const { refId } = target;
    const failed = (error: unknown): Observable<DataQueryResponse> => {
      const refused = error instanceof Refused ? error : undefined;
      const message = refused?.sentence ?? (error instanceof Error ? error.message : String(error));
      return of({ data: [], errors: [{ refId, message, status: refused?.status }] });
    };
    return from(prepare(target, request, this.templates, this.names)).pipe(
      switchMap((prepared) =>
        this.server.ask(prepared.question).pipe(
          map((answer) => ({
            data: this.frames(target, request.scopedVars, withNotes(answer, prepared.leftOut), prepared.question.text),
          })),
          catchError((error: unknown) => failed(error instanceof Refused ? prepared.atWritten(error) : error))
        )
      ),
      catchError(failed)
    );
  }

  private frames(target: WaterclockQuery, scopedVars: ScopedVars, answer: Answer, text: string): DataFrame[] {
    return framesOf(answer, {
      refId: target.refId,
      format: target.format ?? 'time_series',
      legend: target.legend && this.templates.replace(target.legend, scopedVars),
      inBuckets: hasWindow(text),
      text,
    });
  }

  testDatasource(): Promise<TestDataSourceResponse> {
    return health(this.server);
  }

  getQueryDisplayText(query: WaterclockQuery): string {
    return query.query;
  }

  // For Explore, where the variables of a dashboard are not known.
  interpolateVariablesInQueries(queries: WaterclockQuery[], scopedVars: ScopedVars): WaterclockQuery[] {
    const lookup = lookupIn(this.templates, scopedVars);
    return queries.map((query) => ({
      ...query,
      datasource: this.getRef(),
      query: writeOut(query.query, lookup),
      legend: query.legend && this.templates.replace(query.legend, scopedVars),
    }));
  }

  getTagKeys(options: DataSourceGetTagKeysOptions<WaterclockQuery> = { filters: [] }): Promise<MetricFindValue[]> {
    return tagKeys(this.names, options);
  }

  getTagValues(options: DataSourceGetTagValuesOptions<WaterclockQuery>): Promise<MetricFindValue[]> {
    return tagValues(this.names, options);
  }

  // What is wrong with a text, at its place in it; asked by the editor while a person types.
  async check(text: string, request: Parameters<typeof frameOf>[0]): Promise<Refused | undefined> {
    const query: WaterclockQuery = { refId: 'check', query: text };
    try {
      const { question, atWritten } = await prepare(query, { ...request, scopedVars: {} }, this.templates, this.names);
      const refused = await this.server.check(question);
      return refused && atWritten(refused);
    } catch (error) {
      return error instanceof Refused ? error : undefined;
    }
  }
}

function withNotes(answer: Answer, notes: string[]): Answer {
  return { ...answer, warnings: [...answer.warnings, ...notes] };
}

function joined(responses: Array<DataQueryResponse | undefined>): DataQueryResponse {
  const errors = responses.flatMap((response) => response?.errors ?? []);
  const done = errors.length > 0 ? LoadingState.Error : LoadingState.Done;
  return {
    data: responses.flatMap((response) => response?.data ?? []),
    ...(errors.length > 0 && { errors }),
    state: responses.includes(undefined) ? LoadingState.Loading : done,
  };
}
