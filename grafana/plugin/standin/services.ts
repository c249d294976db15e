// Grafana's services, as far as the plugin asks for them: requests to Grafana's server, its live channels, and the values of variables.

import {
  DataSourceInstanceSettings,
  LiveChannelAddress,
  LiveChannelEvent,
  ScopedVars,
  toLiveChannelId,
  TypedVariableModel,
} from '@grafana/data';
import {
  BackendSrv,
  BackendSrvRequest,
  DataSourceSrv,
  FetchResponse,
  GrafanaLiveSrv,
  TemplateSrv,
} from '@grafana/runtime';
import { Observable } from 'rxjs';

// As Grafana's: an answer in JSON, or an error with a status and what came with it; unsubscribing aborts.
export function backend(): BackendSrv {
  const fetchJson = <T>({ url, method = 'GET', data, params, headers }: BackendSrvRequest) =>
    new Observable<FetchResponse<T>>((observer) => {
      const aborting = new AbortController();
      const search = params === undefined ? '' : `?${new URLSearchParams(params)}`;
      const sent = {
        method,
        headers: {
          accept: 'application/json',
          ...(data !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        body: data === undefined ? undefined : JSON.stringify(data),
        signal: aborting.signal,
      };
      fetch(url + search, sent)
        .then(async (response) => {
          const text = await response.text();
          const { status, statusText } = response;
          const parsed = parse(text);
          if (response.ok) {
            observer.next({ ...basics(response), data: parsed as T, config: { url } });
            observer.complete();
          } else {
            observer.error({ status, statusText, data: parsed, config: { url } });
          }
        })
        .catch((error: unknown) => observer.error({ status: 0, statusText: String(error), data: {}, config: { url } }));
      return () => aborting.abort();
    });
  return { fetch: fetchJson } as unknown as BackendSrv;
}

// A channel is a stream of events of the stand-in's server, which asks the plugin for it.
export function live(): GrafanaLiveSrv {
  const getStream = <T>(address: LiveChannelAddress) =>
    new Observable<LiveChannelEvent<T>>((observer) => {
      const asked = new URLSearchParams({
        channel: toLiveChannelId(address),
        data: JSON.stringify(address.data ?? null),
      });
      const events = new EventSource(`/standin/live?${asked}`);
      events.onmessage = ({ data }) => observer.next(JSON.parse(data));
      return () => events.close();
    });
  return { getStream } as unknown as GrafanaLiveSrv;
}

// The one data source of the page.
export function sources(settings: () => DataSourceInstanceSettings): DataSourceSrv {
  return { getInstanceSettings: settings } as unknown as DataSourceSrv;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function basics({ status, statusText, ok, headers, redirected, type, url }: Response) {
  return { status, statusText, ok, headers, redirected, type, url };
}

export interface Variable {
  name: string;
  multi: boolean;
  value: string[];
}

// `${name}` and `$name`, handed to a formatter as Grafana hands them.
export class Templates implements TemplateSrv {
  variables: Variable[] = [];

  getVariables(): TypedVariableModel[] {
    return this.variables.map(({ name }) => ({ name, type: 'query' }) as TypedVariableModel);
  }

  replace(target = '', scopedVars?: ScopedVars, format?: string | Function): string {
    return target.replace(/\$(\w+)|\$\{(\w+)\}/g, (whole, bare: string | undefined, braced: string | undefined) => {
      const name = bare ?? braced ?? '';
      const variable = this.variables.find((one) => one.name === name);
      const value = scopedVars?.[name]?.value ?? (variable?.multi ? variable.value : variable?.value[0]);
      if (value === undefined) {
        return whole;
      }
      return typeof format === 'function'
        ? format(value, { name, multi: variable?.multi, includeAll: false })
        : String(value);
    });
  }

  containsTemplate(target?: string): boolean {
    return this.variables.some(({ name }) => target?.includes(`$${name}`));
  }

  updateTimeRange(): void {}
}
