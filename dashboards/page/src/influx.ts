/** Panels of the dashboards ask in InfluxQL, with Grafana's words in it: filled in here as Grafana does. */
import type { VariableSpec } from '../../model.ts';
import { Refused, get } from './net.ts';
import { shortText, type Value } from './series.ts';

export interface Asked {
  fromMs: number;
  toMs: number;
  everyMs: number;
  /** By a variable's name; '' for all of them. */
  chosen: Record<string, string>;
}

export interface Frame {
  name: string;
  tags: Record<string, string>;
  columns: string[];
  values: Value[][];
}

interface Result {
  series?: (Omit<Frame, 'tags'> & { tags?: Frame['tags'] })[];
  error?: string;
}

const literal = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
const name = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"');

export function filledIn(query: string, { fromMs, toMs, everyMs, chosen }: Asked): string {
  const of = (variable: string): string | undefined => chosen[variable];
  return query
    .replaceAll('$timeFilter', `time >= ${fromMs}ms AND time <= ${toMs}ms`)
    .replaceAll('$__interval', `${everyMs}ms`)
    .replaceAll(/\/\^\$(\w+)\$\//g, (whole, variable: string) => {
      const value = of(variable);
      return value === undefined ? whole : `/^${value === '' ? '.*' : literal(value)}$/`;
    })
    .replaceAll(/\$(\w+)/g, (whole, variable: string) => {
      const value = of(variable);
      return value === undefined ? whole : name(value);
    });
}

/** A title, or a name of a line, with what is chosen in it. */
export const wordsFilled = (text: string, chosen: Asked['chosen']): string =>
  text.replaceAll(/\$(\w+)/g, (whole, variable: string) => {
    const value = Object.hasOwn(chosen, variable) ? chosen[variable] : undefined;
    return value === undefined ? whole : shortText(value);
  });

/** Throws Refused and Gone. */
export async function framesOf(query: string): Promise<Frame[]> {
  const asked = new URLSearchParams({ db: 'headwater', epoch: 'ms', q: query });
  const { results } = await get('/query', asked);
  return (results as Result[]).flatMap(({ series = [], error }) => {
    if (error !== undefined) throw new Refused(200, error);
    return series.map((each) => ({ ...each, tags: each.tags ?? {} }));
  });
}

/** What can be chosen for a variable. */
export async function choicesOf(
  { query, only = '' }: VariableSpec,
  asked: Asked,
): Promise<string[]> {
  const frames = await framesOf(filledIn(query, asked));
  const isTagValues = query.startsWith('SHOW TAG VALUES');
  const all = frames.flatMap(({ values }) =>
    values.map((row) => String(row[isTagValues ? 1 : 0] ?? '')),
  );
  const fits = new RegExp(only);
  return [...new Set(all)].filter((each) => each !== '' && fits.test(each)).sort();
}
