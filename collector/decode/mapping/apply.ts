/** The points that a rule makes of a document. */
import { POINTS_MAX, Undecodable, type Decoded } from '../../../shared/codecs/codec.ts';
import type { Tree } from '../../../shared/codecs/tree.ts';
import { childOf, root, select, valueAt, type Match } from './path.ts';
import { Point } from './point.ts';
import { holds, kindOf, type Rule, type RuleContext } from './rule.ts';

/** Throws Undecodable. */
export function applyRule(rule: Rule, document: Tree, context: RuleContext): Decoded[] {
  const isWhole =
    rule.each.segments.length === 0 && rule.is === undefined && rule.when.length === 0;
  if (isWhole && rule.parallel === undefined)
    return [new Point(rule, root(document), context).decode()];
  const decoded: Decoded[] = [];
  for (const match of select(document, rule.each)) {
    if (rule.is !== undefined && kindOf(match.node) !== rule.is) continue;
    if (!rule.when.every((condition) => holds(condition, match))) continue;
    for (const each of rule.parallel === undefined ? [match] : rows(match, rule.parallel))
      decoded.push(new Point(rule, each, context).decode());
    if (decoded.length > POINTS_MAX)
      throw new Undecodable(`more than ${POINTS_MAX} points in one message`);
  }
  return decoded;
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
