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

export const orNull = ({ type, ...rest }: Schema): Schema => ({ ...rest, type: [type, 'null'] });
export const object = (properties: Record<string, Schema>): Schema => ({
  type: 'object',
  properties,
});
export const listOf = (properties: Record<string, Schema>): Schema => ({
  type: 'array',
  items: object(properties),
});
