/**
 * Flags of the developers' commands. A command's help is the comment at the top of its file and a line for each flag; what it
 * cannot take is one sentence, and exit code 2. Numbers are checked here, so that none becomes NaN far inside.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** The comment that a file begins with, as text. */
export function headOf(url) {
  const source = readFileSync(fileURLToPath(url), 'utf8');
  const block = /^\/\*\*([\s\S]*?)\*\//.exec(source)?.[1];
  const lines = (block ?? /^(?:\/\/.*\n)+/.exec(source)?.[0] ?? '').split('\n');
  const text = lines.map((line) => line.replace(/^ *(?:\*|\/\/)? ?/, '').trimEnd()).join('\n');
  return text.replaceAll('`', '').trim();
}

const nameOf = (url) =>
  /npm run ([\w:]*\w)/.exec(headOf(url))?.[1] ??
  basename(fileURLToPath(url)).replace(/\.m?[jt]s$/, '');

/** One sentence, and the end: what was asked for cannot be done. */
export function refuse(url, why) {
  process.stderr.write(`${nameOf(url)}: ${why}; --help says what there is\n`);
  process.exit(2);
}

const isNumber = ({ type }) => type === 'integer' || type === 'number';

function kindOf({ type, min = 0, choices, list }) {
  const each = list === true ? ', several with commas between' : '';
  if (choices !== undefined) return `one of ${choices.join(', ')}${each}`;
  if (isNumber({ type }))
    return `${type === 'integer' ? 'a whole number' : 'a number'} from ${min} on${each}`;
  return `text${each}`;
}

function rowOf([name, flag]) {
  const { type, short, default: usual, about = '' } = flag;
  const left = `  ${short === undefined ? '' : `-${short}, `}--${name}`;
  if (type === 'boolean') return [left, about];
  const more =
    usual === undefined || usual === '' ? '' : `; ${[usual].flat().join(',')} when left out`;
  return [
    `${left} ${isNumber(flag) ? 'N' : 'TEXT'}`,
    `${about}${about === '' ? '' : ': '}${kindOf(flag)}${more}`,
  ];
}

/** What `--help` prints. */
export function helpOf(url, options = {}) {
  const help = { type: 'boolean', short: 'h', about: 'this text' };
  const rows = Object.entries({ ...options, help }).map(rowOf);
  const width = Math.max(...rows.map(([left]) => left.length));
  return `${headOf(url)}\n\n${rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`.trimEnd()).join('\n')}\n`;
}

/** The value as its flag says, undefined when it is none. */
function valueOf(flag, text) {
  if (flag.choices !== undefined) return flag.choices.includes(text) ? text : undefined;
  if (!isNumber(flag)) return text;
  const value = text.trim() === '' ? Number.NaN : Number(text);
  const isGood = flag.type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value);
  return isGood && value >= (flag.min ?? 0) ? value : undefined;
}

function checked(url, name, flag, text) {
  const values = (flag.list === true ? text.split(',') : [text]).map((each) => valueOf(flag, each));
  if (values.includes(undefined)) refuse(url, `--${name} is ${kindOf(flag)}, not '${text}'`);
  return flag.list === true ? values : values[0];
}

/** See flags.d.mts. */
export function flagsOf(url, { options = {}, words: allowed, args = process.argv.slice(2) } = {}) {
  const known = Object.entries(options).map(([name, { type, short }]) => [
    name,
    { type: type === 'boolean' ? type : 'string', ...(short === undefined ? {} : { short }) },
  ]);
  const parsed = (() => {
    try {
      return parseArgs({
        args,
        options: { ...Object.fromEntries(known), help: { type: 'boolean', short: 'h' } },
        allowPositionals: allowed !== undefined,
      });
    } catch (error) {
      return refuse(url, String(error.message).split(/\. |\.?\n/)[0]);
    }
  })();
  if (parsed.values.help) {
    process.stdout.write(helpOf(url, options));
    process.exit(0);
  }
  const values = Object.fromEntries(
    Object.entries(options).map(([name, flag]) => {
      const given = parsed.values[name];
      if (flag.type === 'boolean') return [name, given ?? false];
      return [name, given === undefined ? flag.default : checked(url, name, flag, given)];
    }),
  );
  const { choices, max = Number.POSITIVE_INFINITY } = allowed ?? {};
  const wrong = parsed.positionals.find((word) => choices !== undefined && !choices.includes(word));
  if (wrong !== undefined) refuse(url, `'${wrong}' is none of ${choices.join(', ')}`);
  if (parsed.positionals.length > max)
    refuse(url, `'${parsed.positionals[max]}' is one word too many`);
  return { values, words: parsed.positionals };
}
