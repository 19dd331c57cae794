/**
 * SenML (RFC 8428) from a decoded JSON or CBOR document: base fields are resolved, each record with a value is a
 * reading. The name becomes the tag `name`, the unit the tag `unit` (records of one name may differ in nothing else:
 * RFC 8428, example 5); `v` is the field `value`, `vs` `value_text`, `vb` `value_bool`, `vd` `data_text` (as it was
 * sent, or of CBOR's bytes base64url without padding), `s` `sum`.
 *
 * A record that is wrong in itself goes aside alone; what other records build on (base fields, a version, a label that
 * must be understood) refuses the pack.
 */
import { Fields, POINTS_MAX, Undecodable, type Decoded, type Problem } from './codec.ts';
import { fromEpoch, isPlausible, type DeviceTime } from './time.ts';
import { isObject, own, Untold, type Tree, type TreeObject } from './tree.ts';

/** RFC 8428, table 4: CBOR's integer labels (as text: keys of a tree are). */
const LABELS: Record<string, string> = {
  '-1': 'bver',
  '-2': 'bn',
  '-3': 'bt',
  '-4': 'bu',
  '-5': 'bv',
  '-6': 'bs',
  '0': 'n',
  '1': 'u',
  '2': 'v',
  '3': 'vs',
  '4': 'vb',
  '5': 's',
  '6': 't',
  '7': 'ut',
  '8': 'vd',
};
const NAMES = new Set(Object.values(LABELS));
/** RFC 8428, section 4.5.3: smaller values are relative to now. */
const RELATIVE_BELOW = 2 ** 28;
/** RFC 8428, section 4.5.1: what a resolved name may consist of. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/;
const VERSION = 10;

const labelOf = (key: string): string => LABELS[key] ?? key;

const TEXTS = new Set(['bn', 'bu', 'n', 'u', 'vs']);
const VALUES = new Set(['v', 'vs', 'vb', 'vd', 's']);
/** Nobody else has these. */
const OWN = new Set(['bn', 'bt', 'bu', 'bv', 'bs', 'bver', 'vs', 'vb', 'vd']);

interface Label {
  isTyped: (value: Tree | undefined) => boolean;
  isOwn: boolean;
  isName: boolean;
  isValue: boolean;
}

const isText = (value: Tree | undefined): boolean => typeof value === 'string';
const isNumber = (value: Tree | undefined): boolean =>
  typeof value === 'number' || typeof value === 'bigint';
const isFlag = (value: Tree | undefined): boolean => typeof value === 'boolean';
const isData = (value: Tree | undefined): boolean => isText(value) || value instanceof Uint8Array;

/** What a label asks for: elsewhere `t` is a type, and `v` a value of any. */
function typeOf(label: string): Label['isTyped'] {
  if (label === 'vb') return isFlag;
  if (label === 'vd') return isData;
  return TEXTS.has(label) ? isText : isNumber;
}

/** By name and by number: one look for each member. */
const KNOWN = new Map(
  [...Object.entries(LABELS), ...Object.values(LABELS).map((name) => [name, name])].map(
    ([key = '', label = '']): [string, Label] => [
      key,
      {
        isTyped: typeOf(label),
        isOwn: OWN.has(label),
        isName: label === 'n' || label === 'bn',
        isValue: VALUES.has(label),
      },
    ],
  ),
);

/**
 * Whether a document looks like a SenML pack: an array of records with SenML's labels alone, of which one has a value. Where
 * a value is of another type than its label asks for, it is one only with a label that nobody else has.
 */
export function isSenml(document: Tree): document is TreeObject[] {
  if (!Array.isArray(document) || document.length === 0) return false;
  let named = false;
  let valued = false;
  let isTyped = true;
  let isOwn = false;
  for (const record of document) {
    if (!isObject(record)) return false;
    for (const key of Object.keys(record)) {
      const label = KNOWN.get(key);
      if (label === undefined) return false;
      const value = record[key];
      isTyped &&= label.isTyped(value) || value instanceof Untold;
      isOwn ||= label.isOwn;
      named ||= label.isName;
      valued ||= label.isValue;
    }
  }
  return named && valued && (isTyped || isOwn);
}

/** Throws Undecodable where there are two of it. */
function valueOf(record: TreeObject, label: string): Exclude<Tree, Untold> | undefined {
  const value = record[label];
  if (value instanceof Untold) throw new Undecodable(value.reason);
  return value;
}

function number(record: TreeObject, label: string): number | undefined {
  const value = valueOf(record, label);
  if (value === undefined) return undefined;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'number') throw new Undecodable(`SenML: '${label}' is not a number`);
  return value;
}

function text(record: TreeObject, label: string): string | undefined {
  const value = valueOf(record, label);
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw new Undecodable(`SenML: '${label}' is not a text`);
  return value;
}

/** What the records before have set. */
interface Base {
  name: string;
  time: number;
  unit: string | undefined;
  value: number | undefined;
  sum: number | undefined;
}

function labelled(record: TreeObject): TreeObject {
  const result: TreeObject = {};
  for (const key of Object.keys(record)) {
    const label = labelOf(key);
    // RFC 8428, section 4.4: a label that ends with '_' must be understood, or the pack is to be refused.
    if (label.endsWith('_'))
      throw new Undecodable(`SenML: '${label}' must be understood and is not`);
    if (!NAMES.has(label)) continue;
    // As an integer and as its name: nobody knows which is meant.
    const isAgain = result[label] !== undefined;
    result[label] = isAgain ? new Untold(`SenML: two '${label}'`) : (own(record, key) as Tree);
  }
  return result;
}

function timeOf(seconds: number, receivedMs: number): DeviceTime | undefined {
  const epoch = seconds < RELATIVE_BELOW ? receivedMs / 1000 + seconds : seconds;
  const time = fromEpoch(epoch, undefined, 's');
  return time !== undefined && isPlausible(time.ms, receivedMs) ? time : undefined;
}

function valuesOf(record: TreeObject, base: Base): Fields {
  const fields = new Fields();
  const kinds = ['v', 'vs', 'vb', 'vd'].filter((label) => record[label] !== undefined);
  if (kinds.length > 1) throw new Undecodable(`SenML: a record has both ${kinds.join(' and ')}`);
  const sum = number(record, 's');
  const isEmpty = kinds.length === 0 && sum === undefined;
  const v = valueOf(record, 'v');
  const vb = valueOf(record, 'vb');
  const vd = valueOf(record, 'vd');
  if (typeof v === 'bigint' && (base.value ?? 0) === 0) fields.set('value', v);
  else if (v !== undefined) fields.set('value', (number(record, 'v') ?? 0) + (base.value ?? 0));
  // RFC 8428, section 4.5.3: with a base value or base sum a record without either still says it.
  else if (isEmpty && base.value !== undefined) fields.set('value', base.value);
  const string = text(record, 'vs');
  if (string !== undefined) fields.set('value', string);
  if (vb !== undefined) {
    if (typeof vb !== 'boolean') throw new Undecodable("SenML: 'vb' is not true or false");
    fields.set('value', vb);
  }
  if (vd !== undefined) {
    if (typeof vd !== 'string' && !(vd instanceof Uint8Array))
      throw new Undecodable("SenML: 'vd' is neither text nor bytes");
    fields.set('data', typeof vd === 'string' ? vd : Buffer.from(vd).toString('base64url'));
  }
  if (sum !== undefined) fields.set('sum', sum + (base.sum ?? 0));
  else if (isEmpty && base.sum !== undefined) fields.set('sum', base.sum);
  return fields;
}

/** Takes what a record sets for itself and those behind it. Throws Undecodable. */
function rebase(base: Base, record: TreeObject): void {
  base.name = text(record, 'bn') ?? base.name;
  base.time = number(record, 'bt') ?? base.time;
  base.unit = text(record, 'bu') ?? base.unit;
  base.value = number(record, 'bv') ?? base.value;
  base.sum = number(record, 'bs') ?? base.sum;
  const version = number(record, 'bver');
  if (version !== undefined && version > VERSION)
    throw new Undecodable(`SenML: version ${version} is not known`);
}

/** Undefined: it says something for those behind it alone. Throws Undecodable. */
function pointOf(record: TreeObject, base: Base, receivedMs: number): Decoded | undefined {
  const fields = valuesOf(record, base);
  if (fields.isEmpty) {
    const own = text(record, 'n');
    if (own === undefined) return undefined;
    throw new Undecodable(`SenML: '${own.slice(0, 40)}' has no value`);
  }
  const name = `${base.name}${text(record, 'n') ?? ''}`;
  if (!NAME.test(name)) throw new Undecodable(`SenML: '${name.slice(0, 40)}' is no name`);
  const unit = text(record, 'u') ?? base.unit;
  const tags: Record<string, string> = unit === undefined ? { name } : { name, unit };
  const seconds = base.time + (number(record, 't') ?? 0);
  // Neither a base time nor a time: now, which is the gateway's receipt.
  const time = seconds === 0 ? undefined : timeOf(seconds, receivedMs);
  return time === undefined ? { tags, fields } : { tags, fields, time };
}

/** Throws Undecodable; then nothing of the pack is taken. */
export function decodeSenml(
  value: Tree,
  receivedMs: number,
): { points: Decoded[]; problems: Problem[] } {
  if (!Array.isArray(value) || value.length === 0 || !value.every(isObject))
    throw new Undecodable('SenML: not an array of records');
  if (value.length > POINTS_MAX)
    throw new Undecodable(`SenML: more than ${POINTS_MAX} records in one message`);
  const base: Base = { name: '', time: 0, unit: undefined, value: undefined, sum: undefined };
  const points: Decoded[] = [];
  const problems: Problem[] = [];
  for (const [index, each] of value.entries()) {
    const record = labelled(each);
    rebase(base, record);
    try {
      const point = pointOf(record, base, receivedMs);
      if (point !== undefined) points.push(point);
    } catch (error) {
      if (!(error instanceof Undecodable)) throw error;
      const payload = Buffer.from(JSON.stringify(each, plain));
      problems.push({ reason: error.message, part: { index, payload } });
    }
  }
  return { points, problems };
}

/** What JSON cannot say, for people. */
const plain = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? String(value) : value;
