/**
 * Lists of series by what questions name. What is worked out of a list is kept as long as the list itself: the store gives the
 * same one until a series comes or goes, so that a question need not look through all of them.
 */
interface Named {
  measurement: string;
  tags: Readonly<Record<string, string>>;
}

/** Worked out once for a list. */
export function once<S, T>(make: (list: readonly S[]) => T): (list: readonly S[]) => T {
  const made = new WeakMap<readonly S[], T>();
  return (list) => {
    const known = made.get(list);
    if (known !== undefined) return known;
    const fresh = make(list);
    made.set(list, fresh);
    return fresh;
  };
}

function grouped<S>(list: readonly S[], keyOf: (series: S) => string): Map<string, S[]> {
  const groups = new Map<string, S[]>();
  for (const each of list) {
    const key = keyOf(each);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [each]);
    else group.push(each);
  }
  return groups;
}

const measurements = once(
  (list: readonly Named[]) =>
    new Map(
      [...grouped(list, ({ measurement }) => measurement)].sort(([a], [b]) => (a < b ? -1 : 1)),
    ),
);
const tagValues = once((_list: readonly Named[]) => new Map<string, Map<string, Named[]>>());

/** In order of their names. */
export const byMeasurement = <S extends Named>(list: readonly S[]): ReadonlyMap<string, S[]> =>
  measurements(list) as Map<string, S[]>; // Of the list's own.

/** By their values of a tag; '': those that have none. */
export function byTag<S extends Named>(list: readonly S[], name: string): ReadonlyMap<string, S[]> {
  const known = tagValues(list);
  let values = known.get(name);
  if (values === undefined) {
    values = grouped(list, ({ tags }) => tags[name] ?? '');
    known.set(name, values);
  }
  return values as Map<string, S[]>; // Of the list's own.
}
