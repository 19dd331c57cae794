/** OpenAPI 3.1, made from the table of routes. */
import type { Parameter, Parameters, Route } from './route.ts';
import { TAGS, TEXT, object, type Schema } from './schema.ts';

const FAILURES: Record<number, string> = {
  400: 'A parameter or the body is not as it has to be.',
  401: 'The token is missing or wrong.',
  403: 'The token does not cover this.',
  429: 'Too much at once, or too many wrong tokens: `Retry-After` says when to come again.',
  503: 'Not now.',
};
const FAILURE = object({ error: object({ code: TEXT, message: TEXT }) });

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
  const required = Object.entries(body.fields).flatMap(([name, each]) =>
    each.required === true ? [name] : [],
  );
  const properties = Object.fromEntries(
    Object.entries(body.fields).map(([name, each]) => [
      name,
      { ...schemaOf(each), description: each.about },
    ]),
  );
  const schema = { ...object(properties), ...(required.length === 0 ? {} : { required }) };
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
        : { content: { [type ?? 'application/json']: schema === undefined ? {} : { schema } } }),
    },
  ]);
  const failures = right === 'open' ? [] : Object.entries(FAILURES);
  return {
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
          { description, content: { 'application/json': { schema: FAILURE } } },
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
