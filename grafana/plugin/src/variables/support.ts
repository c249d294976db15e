// Variables of dashboards. They may name other variables, which Grafana resolves in order.

import { CustomVariableSupport, DataQueryRequest, DataQueryResponse, createDataFrame, FieldType } from '@grafana/data';
import { from, map, Observable, of, switchMap } from 'rxjs';

import type { WaterclockDataSource } from '../datasource';
import { prepare, questionOf } from '../prepare';
import { VariableQuery } from './query';
import { VariableEditor } from './VariableEditor';
import { optionsOf, statementOf } from './statement';

export class WaterclockVariables extends CustomVariableSupport<WaterclockDataSource, VariableQuery> {
  editor = VariableEditor;

  constructor(private readonly datasource: WaterclockDataSource) {
    super();
  }

  query(request: DataQueryRequest<VariableQuery>): Observable<DataQueryResponse> {
    const [target] = request.targets;
    const text = target && statementOf(target);
    if (target === undefined || text === undefined) {
      return of({ data: [] });
    }
    const { server, templates, names } = this.datasource;
    const asked = { ...request, filters: [] };
    return from(prepare({ refId: target.refId, query: text }, asked, templates, names)).pipe(
      switchMap((prepared) => server.ask(questionOf(prepared.target, request))),
      map((answer) => {
        const options = optionsOf(answer);
        const field = (name: 'text' | 'value') => ({
          name,
          type: FieldType.string,
          config: {},
          values: options.map((option) => option[name]),
        });
        return { data: [createDataFrame({ refId: target.refId, fields: [field('text'), field('value')] })] };
      })
    );
  }

  getDefaultQuery(): Partial<VariableQuery> {
    return { kind: 'values' };
  }
}
