/**
 * Homie 5 (`DOMAIN/5/DEVICE/NODE/PROPERTY`, one `$description` a device) and Homie 3 and 4 (`DOMAIN/DEVICE/NODE/PROPERTY`,
 * attributes as topics of their own). Source: the Homie convention, 4.0.0 and 5.0.
 *
 * Measurement `homie`, tags device and node, the property is the field; its declared data type decides: what is declared
 * a string stays text though it looks like a number, and what is declared a number and is none goes to quarantine.
 * `$state` is the field `state` of `homie_device`. Units and names become what is known of the field. Commands
 * (`…/set`) and targets are not readings.
 *
 * State: data type, unit and name of each property. A domain other than `homie` is one once a device has described
 * itself there as Homie 5.
 */
import { Fields, Undecodable, type Decoded, type FieldMeta } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { scalarTree } from '../../../shared/codecs/scalar.ts';
import { flatten, isObject, own, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';
import type { CodecState, MessageContext } from './context.ts';
import { textOf } from './text.ts';

interface Property {
  datatype?: string;
  unit?: string;
  name?: string;
}

type Properties = Record<string, Property>;

const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const ATTRIBUTES: Record<string, keyof Property> = {
  $datatype: 'datatype',
  $unit: 'unit',
  $name: 'name',
};

function textAt(value: TreeObject, key: string): string | undefined {
  const found = own(value, key);
  return typeof found === 'string' ? found : undefined;
}

function propertyOf(value: Tree): Property {
  if (!isObject(value)) return {};
  const property: Property = {};
  for (const key of ['datatype', 'unit', 'name'] as const) {
    const text = textAt(value, key);
    if (text !== undefined) property[key] = text;
  }
  return property;
}

/** Properties of a `$description` (Homie 5, device attributes). Throws Undecodable. */
function propertiesOf(document: Tree): Properties {
  if (!isObject(document) || !(textAt(document, 'homie') ?? '').startsWith('5.'))
    throw new Undecodable('Homie: $description is not one of version 5');
  const properties: Properties = {};
  const nodes = own(document, 'nodes');
  if (nodes === undefined || !isObject(nodes)) return properties;
  for (const [node, value] of Object.entries(nodes)) {
    const list = isObject(value) ? own(value, 'properties') : undefined;
    if (list === undefined || !isObject(list)) continue;
    for (const [name, property] of Object.entries(list))
      properties[`${node}/${name}`] = propertyOf(property);
  }
  return properties;
}

const NO_NUMBER = /^[-+]?(?:nan|inf|infinity)$/i;

function put(fields: Fields, name: string, text: string, datatype: string): void {
  const wrong = (): never => {
    throw new Undecodable(`Homie: '${name}' is declared ${datatype} and is '${text.slice(0, 40)}'`);
  };
  switch (datatype) {
    case 'integer':
      fields.set(name, /^[-+]?\d+$/.test(text) ? BigInt(text.replace('+', '')) : wrong());
      return;
    case 'float':
      if (NO_NUMBER.test(text)) fields.set(name, Number.NaN);
      else fields.set(name, NUMBER.test(text) ? Number(text) : wrong());
      return;
    case 'boolean':
      fields.set(name, text === 'true' || text === 'false' ? text === 'true' : wrong());
      return;
    case 'json':
      flatten(fields, name, parseJson(text));
      return;
    default:
      fields.set(name, text);
  }
}

/** Without a declaration: what it looks like. */
function guess(fields: Fields, name: string, text: string): void {
  const value = scalarTree(text);
  if (value !== null) fields.set(name, value);
}

function reading(
  measurement: string,
  tags: Record<string, string>,
  name: string,
  text: string,
  property: Property | undefined,
): Decoded {
  const fields = new Fields();
  if (property?.datatype === undefined) guess(fields, name, text);
  else put(fields, name, text, property.datatype);
  const { unit, name: label } = property ?? {};
  const decoded: Decoded = { measurement, tags, fields };
  if (unit !== undefined || label !== undefined) {
    const meta: FieldMeta = {};
    if (unit !== undefined) meta.unit = unit;
    if (label !== undefined) meta.name = label;
    decoded.meta = new Map([[name, meta]]);
  }
  return decoded;
}

const describedAt = (domain: string, device: string): string => `homie/${domain}/5/${device}`;

/** Elsewhere than below `homie/` only a device that has described itself there is one: `sensors/5/…` may be anything, also bytes. */
function isClaimed(domain: string, [version, device, node]: string[], state: CodecState): boolean {
  if (domain === 'homie') return true;
  if (version !== '5' || device === undefined) return false;
  return node === '$description' || state.get(describedAt(domain, device)) !== undefined;
}

/** Throws Undecodable; undefined where nothing says that it is Homie. */
export function decodeHomie(payload: Buffer, context: MessageContext): Decoded[] | undefined {
  const [domain = '', ...levels] = context.topic.split('/');
  if (!isClaimed(domain, levels, context.state)) return undefined;
  const text = textOf(payload);
  return levels[0] === '5'
    ? version5(domain, levels.slice(1), text, context)
    : version4(domain, levels, text, context);
}

function version5(
  domain: string,
  levels: string[],
  text: string,
  { state }: MessageContext,
): Decoded[] | undefined {
  const [device, node, property, more] = levels;
  if (device === undefined || device === '' || node === undefined) return undefined;
  if (device.startsWith('$')) return []; // $broadcast
  const key = describedAt(domain, device);
  if (node === '$description') {
    let properties: Properties;
    try {
      properties = propertiesOf(parseJson(text));
    } catch (error) {
      if (domain === 'homie') throw error;
      return undefined;
    }
    state.set(key, properties);
    return [];
  }
  const known = state.get(key) as Properties | undefined;
  if (node === '$state')
    return [reading('homie_device', { device }, 'state', text, { datatype: 'string' })];
  if (node.startsWith('$')) return []; // $log, $alert
  if (property === undefined) return undefined;
  if (more !== undefined) return []; // …/set, …/$target
  return [reading('homie', { device, node }, property, text, known?.[`${node}/${property}`])];
}

function version4(
  domain: string,
  levels: string[],
  text: string,
  { state }: MessageContext,
): Decoded[] | undefined {
  const [device, node, property, attribute] = levels;
  if (device === undefined || device === '' || node === undefined) return undefined;
  if (device.startsWith('$')) return [];
  if (node === '$state')
    return [reading('homie_device', { device }, 'state', text, { datatype: 'string' })];
  if (node === '$stats' || node === '$fw') {
    // `$stats/uptime`, `$stats/signal` and their like are measured; `$stats/interval` is too.
    return property === undefined || node === '$fw'
      ? []
      : [reading('homie_device', { device }, property, text, undefined)];
  }
  if (node.startsWith('$') || property === undefined || property.startsWith('$')) return [];
  const key = `homie/${domain}/4/${device}/${node}/${property}`;
  const known = state.get(key) as Property | undefined;
  if (attribute === undefined) return [reading('homie', { device, node }, property, text, known)];
  const name = ATTRIBUTES[attribute];
  if (name !== undefined) state.set(key, { ...known, [name]: text });
  return [];
}
