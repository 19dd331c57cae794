/** InfluxQL's text into what it says, with the errors that InfluxDB's clients know. */
import { HeadwaterError } from '../../shared/errors.ts';
import type { Statement } from './ast.ts';
import { SyntaxError as GrammarError, parse } from './generated/parser.js';

export const QUERY_CHARS_MAX = 256 * 1024;
/** What nests deeper is nobody's dashboard; the parser calls itself for each. */
const NESTED_MAX = 100;

function refuse(why: string): never {
  throw new HeadwaterError('QUERY_INVALID', `error parsing query: ${why}`);
}

function depth(text: string): number {
  let now = 0;
  let most = 0;
  for (const char of text) {
    if (char === '(') most = Math.max(most, ++now);
    else if (char === ')') now--;
  }
  return most;
}

/** Throws QUERY_INVALID: "error parsing query: found X, expected Y at line 1, char 5". */
export function parseQuery(text: string): Statement[] {
  if (text.length > QUERY_CHARS_MAX) refuse(`it has more than ${QUERY_CHARS_MAX} characters`);
  if (depth(text) > NESTED_MAX) refuse(`its parentheses nest deeper than ${NESTED_MAX}`);
  if (/[-+]{200}|(?:[-+]\s){100}/.test(text)) refuse('it has a row of signs');
  try {
    return parse(text) as Statement[]; // As the grammar makes them.
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const { start } = error.location;
    const found = /^(?:\w+|.)/s.exec(text.slice(start.offset))?.[0] ?? 'EOF';
    const expected = [
      ...new Set(
        error.expected.flatMap((each) =>
          each.type === 'literal' ? [each.text] : each.type === 'other' ? [each.description] : [],
        ),
      ),
    ].filter((each) => each !== '');
    return refuse(
      `found ${found}, expected ${expected.sort().join(', ')} at line ${start.line}, char ${start.column}`,
    );
  }
}
