/** What `parser.js` exports, which peggy makes of `influxql.peggy`. */
export function parse(text: string): unknown;
export class SyntaxError extends Error {
  readonly expected: (
    | { type: 'literal'; text: string }
    | { type: 'other'; description: string }
    | { type: 'class' | 'any' | 'end' }
  )[];
  readonly location: { start: { offset: number; line: number; column: number } };
}
