// Waterclock as Grafana sees it. Each method says what Grafana asks; how it is answered stands in the modules beside.
//
// Invariant: queries are answered by the plugin's backend, which makes the frames, for panels as for alerts. The browser adds what only it
// knows (variables, ad-hoc filters) and no credentials.

import {
  DataQueryError,
  DataQueryRequest,
  DataQueryResponse,
  DataSourceGetTagKeysOptions,
  DataSourceGetTagValuesOptions,
  DataSourceInstanceSettings,
  LoadingState,
  MetricFindValue,
  ScopedVars,
} from '@grafana/data';
import { DataSourceWithBackend, getBackendSrv, getGrafanaLiveSrv, getTemplateSrv, TemplateSrv } from '@grafana/runtime';
import { from, map, merge, Observable, of, switchMap } from 'rxjs';

import { tagKeys, tagValues } from './adhoc';
import { writeOut } from './language/interpolate';
import { goesOn, stream } from './live';
import { Names } from './names';
import { WaterclockOptions } from './options';
import { lookupIn, prepare, Prepared, questionOf } from './prepare';
import { DEFAULT_QUERY, WaterclockQuery } from './query';
import { Refused, Server } from './server';
import { WaterclockVariables } from './variables/support';

export class WaterclockDataSource extends DataSourceWithBackend<WaterclockQuery, WaterclockOptions> {
  readonly server: Server;
  readonly names: Names;

  // Rows with a time become annotations by Grafana's own rules: text, tags, timeEnd by their names. Texts are those of a table.
  annotations = { getDefaultQuery: () => ({ ...DEFAULT_QUERY, format: 'table' as const }) };

  constructor(
    settings: DataSourceInstanceSettings<WaterclockOptions>,
    readonly templates: TemplateSrv = getTemplateSrv()
  ) {
    super(settings);
    this.server = new Server(this.uid, getBackendSrv);
    this.names = new Names(this.server);
    this.variables = new WaterclockVariables(this);
  }

  getDefaultQuery(): Partial<WaterclockQuery> {
    return DEFAULT_QUERY;
  }

  filterQuery(query: WaterclockQuery): boolean {
    return !query.hide && (query.query ?? '').trim() !== '';
  }

  // Unsubscribing, as Grafana does when a person cancels, ends the queries in the server.
  query(request: DataQueryRequest<WaterclockQuery>): Observable<DataQueryResponse> {
    const targets = request.targets.filter((target) => this.filterQuery(target));
    if (targets.length === 0) {
      return of({ data: [], state: LoadingState.Done });
    }
    return from(Promise.all(targets.map((target) => this.prepared(target, request)))).pipe(
      switchMap((all) => {
        const failed = all.flatMap((one) => ('message' in one ? [one] : []));
        const prepared = all.flatMap((one) => ('target' in one ? [one] : []));
        const live = getGrafanaLiveSrv();
        const going = live ? prepared.filter(({ target }) => goesOn(target, request)) : [];
        const asked = prepared.filter((one) => !going.includes(one));
        return merge(
          ...(asked.length > 0 || failed.length > 0 ? [this.answers(asked, failed, request)] : []),
          ...going.map((one) => stream(live, this.uid, one.target, request).pipe(map((said) => atWritten(said, [one]))))
        );
      })
    );
  }

  private answers(
    asked: Prepared[],
    failed: DataQueryError[],
    request: DataQueryRequest<WaterclockQuery>
  ): Observable<DataQueryResponse> {
    const targets = asked.map(({ target }) => target);
    const answered: Observable<DataQueryResponse> =
      targets.length > 0 ? super.query({ ...request, targets }) : of({ data: [] });
    return answered.pipe(
      map((response) => {
        const said = atWritten(response, asked);
        return failed.length === 0 ? said : withErrors(said, [...failed, ...(said.errors ?? [])]);
      })
    );
  }

  // What cannot be asked is the error of its query, and keeps no other from being asked.
  private async prepared(
    target: WaterclockQuery,
    request: DataQueryRequest<WaterclockQuery>
  ): Promise<Prepared | DataQueryError> {
    try {
      return await prepare(target, request, this.templates, this.names);
    } catch (error) {
      const refused = error instanceof Refused ? error : undefined;
      return { refId: target.refId, message: refused?.sentence ?? String(error), status: refused?.status };
    }
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
  async check(text: string, request: Parameters<typeof questionOf>[1]): Promise<Refused | undefined> {
    try {
      const query: WaterclockQuery = { refId: 'check', query: text };
      const { target, atWritten } = await prepare(query, { scopedVars: {} }, this.templates, this.names);
      const refused = await this.server.check(questionOf(target, request));
      return refused && atWritten(refused);
    } catch (error) {
      return error instanceof Refused ? error : undefined;
    }
  }
}

// Errors with their places in the texts as they were written.
function atWritten(response: DataQueryResponse, asked: Prepared[]): DataQueryResponse {
  const moved = (error: DataQueryError): DataQueryError => {
    const prepared = asked.find(({ target }) => target.refId === error.refId);
    const message = error.message ?? error.data?.message;
    return prepared === undefined || message === undefined
      ? error
      : { ...error, message: prepared.atWritten(Refused.ofSentence(message, error.status)).sentence };
  };
  // Where Grafana itself could not answer there is one, of no query.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const errors = response.errors ?? (response.error ? [response.error] : []);
  return errors.length === 0 ? response : withErrors(response, errors.map(moved));
}

// Grafana looks at the first one by itself, too.
function withErrors(response: DataQueryResponse, errors: DataQueryError[]): DataQueryResponse {
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  return { ...response, error: errors[0], errors, state: LoadingState.Error };
}
