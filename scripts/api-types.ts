/** TypeScript of an OpenAPI 3.1 description: what each operation that answers JSON is asked with, and what it answers. */
import type { OpenApi } from '../shared/http/openapi.ts';

type Schema = Readonly<Record<string, unknown>>;
interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema: Schema;
}
type Content = Record<string, { schema?: Schema }>;
interface Operation {
  operationId: string;
  summary: string;
  parameters: Parameter[];
  requestBody?: { content: Content };
  responses: Record<string, { content?: Content }>;
}

const JSON_TYPE = 'application/json';
const PRIMITIVES: Record<string, string> = {
  string: 'string',
  integer: 'number',
  number: 'number',
  boolean: 'boolean',
  null: 'null',
};

const nameOf = (name: string): string =>
  /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);

const commented = (about: unknown, indent: string): string =>
  typeof about === 'string' ? `${indent}/** ${about.replaceAll('*/', '* /')} */\n` : '';

/** Of an object: a line for each property, the required ones without `?`. */
function objectType(schema: Schema, indent: string): string {
  const properties = (schema['properties'] ?? {}) as Record<string, Schema>;
  const required = new Set((schema['required'] ?? []) as string[]);
  const inner = `${indent}  `;
  const lines = Object.entries(properties).map(
    ([name, each]) =>
      `${commented(each['description'], inner)}${inner}${nameOf(name)}${required.has(name) ? '' : '?'}: ${typeOf(each, inner)};\n`,
  );
  return lines.length === 0 ? 'Record<string, never>' : `{\n${lines.join('')}${indent}}`;
}

export function typeOf(schema: Schema, indent = ''): string {
  const { type, items, additionalProperties } = schema;
  if (Array.isArray(schema['enum']))
    return schema['enum'].map((each) => JSON.stringify(each)).join(' | ');
  for (const some of [schema['oneOf'], schema['anyOf']])
    if (Array.isArray(some))
      return (some as Schema[]).map((each) => typeOf(each, indent)).join(' | ');
  if (Array.isArray(type))
    return type.map((each) => typeOf({ ...schema, type: each as unknown }, indent)).join(' | ');
  if (Array.isArray(schema['x-items']))
    return `[${(schema['x-items'] as Schema[]).map((each) => typeOf(each, indent)).join(', ')}]`;
  if (type === 'array') {
    const item = typeOf((items ?? {}) as Schema, indent);
    const { minItems, maxItems } = schema;
    if (typeof maxItems === 'number' && minItems === maxItems)
      return `[${Array.from({ length: maxItems }, () => item).join(', ')}]`;
    return /^[\w<>, ]+$/.test(item) || item.startsWith('{') ? `${item}[]` : `(${item})[]`;
  }
  if (type === 'object') {
    if (schema['properties'] !== undefined) return objectType(schema, indent);
    return typeof additionalProperties === 'object'
      ? `Record<string, ${typeOf(additionalProperties as Schema, indent)}>`
      : 'Record<string, unknown>';
  }
  return PRIMITIVES[String(type)] ?? 'unknown';
}

const parametersType = (parameters: Parameter[], indent: string): string =>
  objectType(
    {
      properties: Object.fromEntries(
        parameters.map(({ name, description, schema }) => [name, { ...schema, description }]),
      ),
      required: parameters.filter(({ required }) => required === true).map(({ name }) => name),
    },
    indent,
  );

/** Of a body, or of the answer that is no failure: undefined where it is no JSON. */
function jsonOf(content: Content | undefined): Schema | undefined {
  return content?.[JSON_TYPE]?.schema;
}

function operationType(operation: Operation): string | undefined {
  const indent = '    ';
  const done = Object.entries(operation.responses).find(([status]) => status.startsWith('2'));
  const answer = jsonOf(done?.[1].content);
  if (answer === undefined) return undefined;
  const query = operation.parameters.filter((each) => each.in === 'query');
  const body = jsonOf(operation.requestBody?.content);
  return [
    `{\n${indent}query: ${parametersType(query, indent)};`,
    `${indent}body: ${body === undefined ? 'undefined' : typeOf(body, indent)};`,
    `${indent}answer: ${typeOf(answer, indent)};\n  }`,
  ].join('\n');
}

/** `interface NAME { 'GET /path': { query, body, answer } }` */
export function apiTypes(name: string, { paths }: OpenApi): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, each]) => {
      const operation = each as Operation; // As OpenAPI has it.
      const type = operationType(operation);
      const key = `${method.toUpperCase()} ${path}`;
      return type === undefined
        ? []
        : [`${commented(operation.summary, '  ')}  '${key}': ${type};\n`];
    }),
  );
  return `export interface ${name} {\n${operations.join('')}}\n`;
}
