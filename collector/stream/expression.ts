/**
 * Expressions of derived sensors: numbers, names, `+ - * / % ^`, comparisons, `&& || !`, `a ? b : c`, and functions.
 * A name that is missing, or a result that is no finite number, makes the whole expression undefined: no result is made.
 * Comparisons give 1 or 0. `^` binds to the right. Names with other characters stand in braces: `{air temperature}`.
 */
import { HeadwaterError } from '../../shared/errors.ts';

type Values = (name: string) => number | undefined;
type Node = (values: Values) => number;

export interface Expression {
  readonly names: readonly string[];
  evaluate(values: Values): number | undefined;
}

const FUNCTIONS: Record<string, [least: number, most: number, run: (...args: number[]) => number]> =
  {
    abs: [1, 1, Math.abs],
    sqrt: [1, 1, Math.sqrt],
    exp: [1, 1, Math.exp],
    ln: [1, 1, Math.log],
    log10: [1, 1, Math.log10],
    log2: [1, 1, Math.log2],
    sin: [1, 1, Math.sin],
    cos: [1, 1, Math.cos],
    tan: [1, 1, Math.tan],
    atan2: [2, 2, Math.atan2],
    floor: [1, 1, Math.floor],
    ceil: [1, 1, Math.ceil],
    round: [1, 1, Math.round],
    sign: [1, 1, Math.sign],
    pow: [2, 2, Math.pow],
    min: [1, 100, Math.min],
    max: [1, 100, Math.max],
    clamp: [3, 3, (value, low, high) => Math.min(high, Math.max(low, value))],
  };

const CONSTANTS: Record<string, number> = { pi: Math.PI, e: Math.E };

/** Loosest first. */
const BINARY: Record<string, (a: number, b: number) => number>[] = [
  { '||': (a, b) => (a !== 0 || b !== 0 ? 1 : 0) },
  { '&&': (a, b) => (a !== 0 && b !== 0 ? 1 : 0) },
  { '==': (a, b) => Number(a === b), '!=': (a, b) => Number(a !== b) },
  {
    '<=': (a, b) => Number(a <= b),
    '>=': (a, b) => Number(a >= b),
    '<': (a, b) => Number(a < b),
    '>': (a, b) => Number(a > b),
  },
  { '+': (a, b) => a + b, '-': (a, b) => a - b },
  { '*': (a, b) => a * b, '/': (a, b) => a / b, '%': (a, b) => a % b },
];

const TOKEN =
  /\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_][\w.]*)|\{([^}]+)\}|(\|\||&&|[=!<>]=|[-+*/%^()<>,!?:]))/y;
const LENGTH_MAX = 2000;
const DEPTH_MAX = 50;

interface Token {
  kind: 'number' | 'name' | 'sign' | 'end';
  text: string;
  at: number;
}

/** Ends an evaluation: a name has no value. */
class Missing extends Error {}
const MISSING = new Missing();

class Parser {
  private readonly source: string;
  private readonly where: string;
  private readonly tokens: Token[] = [];
  private next = 0;
  private depth = 0;
  readonly names = new Set<string>();

  constructor(source: string, where: string) {
    this.source = source;
    this.where = where;
    if (source.length > LENGTH_MAX) this.fail(`is longer than ${LENGTH_MAX} characters`);
    TOKEN.lastIndex = 0;
    for (let at = 0; ; at = TOKEN.lastIndex) {
      TOKEN.lastIndex = at;
      if (source.slice(at).trim() === '') break;
      const found = TOKEN.exec(source);
      if (found === null) this.fail(`'${source.slice(at).trim()[0] ?? ''}' is not understood`);
      const [, number, name, braced, sign] = found;
      if (number !== undefined) this.tokens.push({ kind: 'number', text: number, at });
      else if (sign !== undefined) this.tokens.push({ kind: 'sign', text: sign, at });
      else this.tokens.push({ kind: 'name', text: name ?? braced ?? '', at });
    }
    this.tokens.push({ kind: 'end', text: '', at: source.length });
  }

  private fail(why: string): never {
    throw new HeadwaterError('RULE_INVALID', `${this.where}: '${this.source}': ${why}`);
  }

  private get token(): Token {
    return this.tokens[this.next] as Token; // The end is never passed.
  }

  private take(sign: string): boolean {
    if (this.token.kind !== 'sign' || this.token.text !== sign) return false;
    this.next++;
    return true;
  }

  private expect(sign: string): void {
    if (this.take(sign)) return;
    const found = this.token.kind === 'end' ? 'it ends' : `'${this.token.text}' stands`;
    this.fail(`${found} where '${sign}' is expected`);
  }

  parse(): Node {
    const node = this.choice();
    if (this.token.kind !== 'end') this.fail(`'${this.token.text}' is not expected there`);
    return node;
  }

  private choice(): Node {
    if (++this.depth > DEPTH_MAX) this.fail('is nested too deeply');
    const condition = this.binary(0);
    let node = condition;
    if (this.take('?')) {
      const yes = this.choice();
      this.expect(':');
      const no = this.choice();
      node = (values) => (condition(values) !== 0 ? yes(values) : no(values));
    }
    this.depth--;
    return node;
  }

  private binary(level: number): Node {
    const operators = BINARY[level];
    if (operators === undefined) return this.unary();
    let left = this.binary(level + 1);
    for (;;) {
      const { kind, text } = this.token;
      const run = kind === 'sign' && Object.hasOwn(operators, text) ? operators[text] : undefined;
      if (run === undefined) return left;
      this.next++;
      const [a, b] = [left, this.binary(level + 1)];
      left = (values) => run(a(values), b(values));
    }
  }

  private unary(): Node {
    if (++this.depth > DEPTH_MAX) this.fail('is nested too deeply');
    let node: Node;
    if (this.take('-')) {
      const operand = this.unary();
      node = (values) => -operand(values);
    } else if (this.take('!')) {
      const operand = this.unary();
      node = (values) => (operand(values) === 0 ? 1 : 0);
    } else node = this.power();
    this.depth--;
    return node;
  }

  private power(): Node {
    const base = this.primary();
    if (!this.take('^')) return base;
    const exponent = this.unary();
    return (values) => base(values) ** exponent(values);
  }

  private primary(): Node {
    const { kind, text } = this.token;
    if (kind === 'number') {
      this.next++;
      const value = Number(text);
      return () => value;
    }
    if (kind === 'name') {
      this.next++;
      if (this.take('(')) return this.call(text);
      const constant = Object.hasOwn(CONSTANTS, text) ? CONSTANTS[text] : undefined;
      if (constant !== undefined) return () => constant;
      this.names.add(text);
      return (values) => {
        const value = values(text);
        if (value === undefined) throw MISSING;
        return value;
      };
    }
    if (this.take('(')) {
      const inner = this.choice();
      this.expect(')');
      return inner;
    }
    return this.fail(kind === 'end' ? 'it ends too early' : `'${text}' is not expected there`);
  }

  private call(name: string): Node {
    const known = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
    if (known === undefined)
      this.fail(`there is no function '${name}'; known are ${Object.keys(FUNCTIONS).join(', ')}`);
    const [least, most, run] = known;
    const args: Node[] = [];
    if (!this.take(')')) {
      do args.push(this.choice());
      while (this.take(','));
      this.expect(')');
    }
    if (args.length < least || args.length > most)
      this.fail(`${name} takes ${least === most ? least : `${least} to ${most}`} values`);
    return (values) => run(...args.map((arg) => arg(values)));
  }
}

/** Throws RULE_INVALID; `where` begins its sentence. */
export function parseExpression(source: string, where: string): Expression {
  const parser = new Parser(source, where);
  const node = parser.parse();
  return {
    names: [...parser.names],
    evaluate: (values) => {
      try {
        const value = node(values);
        return Number.isFinite(value) ? value : undefined;
      } catch (error) {
        if (error === MISSING) return undefined;
        throw error;
      }
    },
  };
}
