/** JSON schemas of replies, in short: as OpenAPI 3.1 has them. */

export type Schema = Readonly<Record<string, unknown>>;

export const TEXT: Schema = { type: 'string' };
export const INTEGER: Schema = { type: 'integer' };
export const NUMBER: Schema = { type: 'number' };
export const BOOLEAN: Schema = { type: 'boolean' };
export const TAGS: Schema = {
  type: 'object',
  additionalProperties: TEXT,
  description: 'Tag names and values.',
};
/** What a field of a reading holds. */
export const VALUE: Schema = { oneOf: [NUMBER, TEXT, BOOLEAN] };

export const TEXTS: Schema = { type: 'array', items: TEXT };
/** Of a reading, by their names. */
export const FIELDS: Schema = { type: 'object', additionalProperties: VALUE };

/** With null; of an enumeration, too. */
export const orNull = ({ type, ...rest }: Schema): Schema => ({
  ...rest,
  type: [type, 'null'],
  ...(Array.isArray(rest['enum']) ? { enum: [...(rest['enum'] as unknown[]), null] } : {}),
});
export const textsOf = (...choices: readonly string[]): Schema => ({ ...TEXT, enum: choices });
/** From, to: both inclusive. */
export const RANGES: Schema = {
  type: 'array',
  items: { type: 'array', items: INTEGER, minItems: 2, maxItems: 2 },
};

const LEFT_OUT = new WeakSet<Schema>();
/** A property that may be left out; all others of an `object` are always there. */
export function maybe(schema: Schema): Schema {
  const own = { ...schema };
  LEFT_OUT.add(own);
  return own;
}
export function object(properties: Record<string, Schema>): Schema {
  const required = Object.entries(properties).flatMap(([name, each]) =>
    LEFT_OUT.has(each) ? [] : [name],
  );
  return { type: 'object', properties, ...(required.length === 0 ? {} : { required }) };
}
export const listOf = (properties: Record<string, Schema>): Schema => ({
  type: 'array',
  items: object(properties),
});

/** Problem details, RFC 9457; `code` and `message` at the top are where InfluxDB's clients look. */
export const FAILURE = object({
  type: TEXT,
  title: TEXT,
  status: INTEGER,
  detail: TEXT,
  code: TEXT,
  message: TEXT,
  error: object({ code: TEXT, message: TEXT }),
});
