/** OpenAPI 3.1, made from the table of routes. */
import type { Parameter, Parameters, Route } from './route.ts';
import { FAILURE, TAGS, TEXT, maybe, object, type Schema } from './schema.ts';

const FAILURES: Record<number, string> = {
  400: 'A parameter or the body is not as it has to be.',
  401: 'The token is missing or wrong.',
  403: 'The token does not cover this.',
  404: 'That does not run here, or is not there.',
  413: 'The body is too large.',
  422: 'The query asks for more than one query may have.',
  429: 'Too much at once, or too many wrong tokens: `Retry-After` says when to come again.',
  503: 'Not now.',
};
/** As InfluxDB's clients read it. */
const INFLUXDB_FAILURE = object({ error: TEXT });

/** `GET /api/v1/batch/run` → `getBatchRun`: what generators name functions by. */
const operationIdOf = ({ method, path, errors }: Route<unknown>): string =>
  [
    method.toLowerCase(),
    // `/query` is not `/api/v1/query`.
    ...(errors === 'influxdb' ? ['Influxdb'] : []),
    ...path
      .replace(/^\/api\/v1/, '')
      .split(/[^A-Za-z0-9]+/)
      .filter((word) => word !== '')
      .map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`),
  ].join('');

function schemaOf({ choices, integer, isMap }: Parameter): Schema {
  if (isMap === true) return TAGS;
  if (integer !== undefined) return { type: 'integer', minimum: integer.min, maximum: integer.max };
  return choices === undefined ? TEXT : { ...TEXT, enum: choices };
}

const parametersOf = (place: 'query' | 'header', known: Parameters): object[] =>
  Object.entries(known).map(([name, parameter]) => ({
    name,
    in: place,
    description: parameter.about,
    ...(parameter.required === true ? { required: true } : {}),
    ...(parameter.isMap === true ? { style: 'deepObject' } : {}),
    schema: schemaOf(parameter),
  }));

function bodyOf({ body }: Route<unknown>): object {
  if (body === undefined) return {};
  if ('type' in body) return { requestBody: { content: { [body.type]: { schema: body.schema } } } };
  const properties = Object.entries(body.fields).map(([name, each]): [string, Schema] => {
    const schema = { ...schemaOf(each), description: each.about };
    return [name, each.required === true ? schema : maybe(schema)];
  });
  const schema = object(Object.fromEntries(properties));
  return { requestBody: { content: { 'application/json': { schema } } } };
}

function operation(route: Route<unknown>): object {
  const { about, right, query = {}, headers = {}, replies } = route;
  const needs = right === 'open' ? '' : ` Needs scope \`${right.scope}\`.`;
  const answers = Object.entries(replies).map(([status, { about, schema, type }]) => [
    status,
    {
      description: about,
      ...(schema === undefined && type === undefined
        ? {}
        : {
            content: Object.fromEntries(
              [type ?? 'application/json']
                .flat()
                .map((each) => [each, schema === undefined ? {} : { schema }]),
            ),
          }),
    },
  ]);
  const failures = right === 'open' ? [] : Object.entries(FAILURES);
  const [failureType, failure] =
    route.errors === 'influxdb'
      ? ['application/json', INFLUXDB_FAILURE]
      : [
          route.path.startsWith('/api/v1/') ? 'application/problem+json' : 'application/json',
          FAILURE,
        ];
  return {
    operationId: operationIdOf(route),
    summary: `${about}${needs}`,
    parameters: [
      ...parametersOf('query', query === 'any' ? {} : query),
      ...parametersOf('header', headers),
    ],
    ...bodyOf(route),
    responses: {
      ...Object.fromEntries(
        failures.map(([status, description]) => [
          status,
          { description, content: { [failureType]: { schema: failure } } },
        ]),
      ),
      ...Object.fromEntries(answers),
    },
    ...(right === 'open' ? { security: [] } : {}),
  };
}

export interface OpenApi {
  openapi: '3.1.0';
  paths: Record<string, Record<string, object>>;
  [key: string]: unknown;
}

export function openApi(
  title: string,
  description: string,
  routes: readonly Route<unknown>[],
): OpenApi {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes)
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operation(route);
  return {
    openapi: '3.1.0',
    info: { title, version: '1', description },
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    paths,
    security: [{ token: [] }],
  };
}
