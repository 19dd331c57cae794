/** Whether a value is what a JSON schema of the API says, and nothing that it does not say. */
type Schema = Readonly<Record<string, unknown>>;

const kindOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;

const isOfType = (type: string, value: unknown): boolean =>
  type === 'integer' ? Number.isInteger(value) : kindOf(value) === type;

/** What is wrong, each with its place; a property that no schema names is wrong. */
export function violations(schema: Schema, value: unknown, at = '$'): string[] {
  const { type, oneOf } = schema;
  if (Array.isArray(oneOf)) {
    const all = (oneOf as Schema[]).map((each) => violations(each, value, at));
    const fitting = all.filter((list) => list.length === 0).length;
    if (fitting === 1) return [];
    return fitting > 1
      ? [`${at} is several of what it may be`]
      : (all.toSorted((a, b) => a.length - b.length)[0] ?? []);
  }
  if (Array.isArray(schema['anyOf'])) {
    const all = (schema['anyOf'] as Schema[]).map((each) => violations(each, value, at));
    return all.toSorted((a, b) => a.length - b.length)[0] ?? [];
  }
  if (Array.isArray(schema['enum']) && !schema['enum'].includes(value))
    return [`${at} is ${JSON.stringify(value)}, not one of ${schema['enum'].join(', ')}`];
  if (type === undefined) return [];
  const types = [type].flat() as string[];
  if (!types.some((each) => isOfType(each, value)))
    return [
      `${at} is ${kindOf(value)} (${JSON.stringify(value)?.slice(0, 60)}), not ${types.join(' or ')}`,
    ];
  const tuple = schema['x-items'] as Schema[] | undefined;
  if (Array.isArray(value) && tuple !== undefined)
    return tuple.flatMap((each, index) =>
      violations(each, value[index] as unknown, `${at}[${index}]`),
    );
  if (Array.isArray(value)) {
    const {
      items,
      minItems = 0,
      maxItems = Infinity,
    } = schema as { items?: Schema; minItems?: number; maxItems?: number };
    const size =
      value.length < minItems || value.length > maxItems ? [`${at} has ${value.length} items`] : [];
    return [
      ...size,
      ...(items === undefined
        ? []
        : value.flatMap((each, index) => violations(items, each, `${at}[${index}]`))),
    ];
  }
  return kindOf(value) === 'object'
    ? objectViolations(schema, value as Record<string, unknown>, at)
    : [];
}

function objectViolations(schema: Schema, value: Record<string, unknown>, at: string): string[] {
  const properties = (schema['properties'] ?? {}) as Record<string, Schema>;
  const more = schema['additionalProperties'];
  const isOpen = schema['properties'] === undefined;
  const missing = ((schema['required'] ?? []) as string[]).filter(
    (name) => !Object.hasOwn(value, name),
  );
  return [
    ...missing.map((name) => `${at}.${name} is missing`),
    ...Object.entries(value).flatMap(([name, each]) => {
      const own = Object.hasOwn(properties, name) ? properties[name] : undefined;
      if (own !== undefined) return violations(own, each, `${at}.${name}`);
      if (typeof more === 'object') return violations(more as Schema, each, `${at}.${name}`);
      return isOpen || more === true ? [] : [`${at}.${name} is not described`];
    }),
  ];
}
