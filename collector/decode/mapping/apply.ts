/** The points that a rule makes of a document. */
import { POINTS_MAX, Undecodable, type Decoded } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import { childOf, root, select, valueAt, type Match } from './path.ts';
import { Point } from './point.ts';
import { holds, kindOf, type Rule, type RuleContext } from './rule.ts';
import { splitTimed } from './timed.ts';

/** Throws Undecodable. */
export function applyRule(rule: Rule, document: Tree, context: RuleContext): Decoded[] {
  const isWhole =
    rule.each.segments.length === 0 && rule.is === undefined && rule.when.length === 0;
  if (isWhole && rule.parallel === undefined) return pointsAt(rule, root(document), context);
  const decoded: Decoded[] = [];
  for (const match of select(document, rule.each)) {
    if (rule.is !== undefined && kindOf(match.node) !== rule.is) continue;
    if (!rule.when.every((condition) => holds(condition, match))) continue;
    for (const each of rule.parallel === undefined ? [match] : rows(match, rule.parallel))
      decoded.push(...pointsAt(rule, each, context));
    if (decoded.length > POINTS_MAX)
      throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  }
  return decoded;
}

/** A place that is JSON inside a text, where the rule says so; else the place as it is. */
function documentIn(rule: Rule, node: Tree): Tree {
  if (typeof node !== 'string' || ![...rule.types.values()].includes('json')) return node;
  try {
    return parseJson(node);
  } catch (error) {
    // The point itself says what is wrong with it.
    if (error instanceof Undecodable) return node;
    throw error;
  }
}

/** The point of a place, and those of its earlier measurements, which have its tags. */
function pointsAt(rule: Rule, match: Match, context: RuleContext): Decoded[] {
  const { timed } = rule;
  const split =
    timed === undefined
      ? undefined
      : splitTimed(documentIn(rule, match.node), context.receivedMs, context.times, timed);
  if (split === undefined) return [new Point(rule, match, context).decode()];
  const { rest, earlier } = split;
  if (earlier.length > POINTS_MAX)
    throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  const point = new Point(rule, { ...match, node: rest }, context).decode();
  const above = [...match.above, rest];
  const points = earlier.map(({ node, time }, index) => {
    const own = new Point(rule, { node, above, names: match.names, index }, context).decode();
    const { measurement, tags = {} } = point;
    const at = time ?? point.time;
    return {
      fields: own.fields,
      tags: { ...tags },
      ...(measurement === undefined ? {} : { measurement }),
      ...(own.meta === undefined ? {} : { meta: own.meta }),
      ...(at === undefined ? {} : { time: at }),
    };
  });
  return point.fields.isEmpty ? points : [point, ...points];
}

/** Lists side by side, as a place for each index; `^` leads from there to where the lists are. */
function rows(match: Match, parallel: NonNullable<Rule['parallel']>): Match[] {
  const lists = parallel.map(([name, path]): [string, Tree] => [name, valueAt(match, path) ?? []]);
  const count = Math.max(...lists.map(([, list]) => (Array.isArray(list) ? list.length : 0)));
  if (count > POINTS_MAX) throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  const above = [...match.above, match.node];
  return Array.from({ length: count }, (_, index) => ({
    node: Object.fromEntries(
      lists.map(([name, list]) => [name, childOf(list, String(index)) ?? null]),
    ),
    above,
    names: match.names,
    index,
  }));
}
