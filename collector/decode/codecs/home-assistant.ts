/**
 * Home Assistant's MQTT discovery (`homeassistant/COMPONENT/[NODE/]OBJECT/config`): metadata, not readings. From it come
 * unit and name of the fields of the state topics that it names; an empty payload takes them back.
 * Both forms are read: one entity a message, and a device with its `components` (abbreviations and `~` included).
 * Source: Home Assistant's documentation, "MQTT", discovery.
 *
 * What is known never becomes part of a series: readings that came before their discovery stay the same series.
 */
import { Undecodable, type Decoded, type FieldMeta } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { isObject, own, type TreeObject } from '../../../shared/codecs/tree.ts';
import type { CodecState, MessageContext } from './context.ts';

/** Of one entity: which field of its state topic, and what is known of it. */
interface Entity extends FieldMeta {
  topic: string;
  /** Flattened name of the field without mapping; 'value' for a bare one. */
  field: string;
}

/** Abbreviations that matter here. */
const SHORT: Record<string, string> = {
  stat_t: 'state_topic',
  val_tpl: 'value_template',
  unit_of_meas: 'unit_of_measurement',
  dev: 'device',
  cmps: 'components',
};

function text(config: TreeObject, key: string): string | undefined {
  const short = Object.keys(SHORT).find((each) => SHORT[each] === key);
  const value = own(config, key) ?? (short === undefined ? undefined : own(config, short));
  return typeof value === 'string' ? value : undefined;
}

/** The value that a template takes, as flattened: only plain paths are understood. */
function fieldOf(template: string | undefined): string | undefined {
  if (template === undefined) return 'value';
  const inner = /^\s*\{\{\s*([^|}]+?)\s*(?:\|[^}]*)?\}\}\s*$/.exec(template)?.[1];
  if (inner === 'value') return 'value';
  const path =
    inner === undefined ? null : /^value_json((?:\.\w+|\[(?:"[^"]+"|'[^']+'|\d+)\])+)$/.exec(inner);
  if (path === null) return undefined;
  return [...(path[1] as string).matchAll(/\.(\w+)|\[(?:"([^"]+)"|'([^']+)'|(\d+))\]/g)]
    .map(([, dotted, double, single, index]) => dotted ?? double ?? single ?? index)
    .join('_');
}

function entityOf(
  config: TreeObject,
  deviceName: string | undefined,
  outer: TreeObject,
): Entity | undefined {
  const base = text(config, '~') ?? text(outer, '~');
  const given = text(config, 'state_topic') ?? text(outer, 'state_topic');
  const field = fieldOf(text(config, 'value_template'));
  if (given === undefined || field === undefined) return undefined;
  const topic = base === undefined ? given : given.replace(/^~|~$/g, base);
  const entity: Entity = { topic, field };
  const unit = text(config, 'unit_of_measurement');
  if (unit !== undefined) entity.unit = unit;
  const name = [deviceName, text(config, 'name')].filter((each) => each !== undefined).join(' ');
  if (name !== '') entity.name = name;
  return entity;
}

function entitiesOf(config: TreeObject): Entity[] {
  const device = own(config, 'device') ?? own(config, 'dev');
  const deviceName = device !== undefined && isObject(device) ? text(device, 'name') : undefined;
  const components = own(config, 'components') ?? own(config, 'cmps');
  const list =
    components !== undefined && isObject(components)
      ? Object.values(components).filter((each) => isObject(each))
      : [config];
  return list.flatMap((each) => entityOf(each, deviceName, config) ?? []);
}

const configKey = (topic: string): string => `ha-config/${topic}`;
/** Of what discovery has said of a topic, in the codec state. */
export const topicKey = (topic: string): string => `ha/${topic}`;

/** Puts the entities of one configuration in the place of those that it had before. */
function replace(state: CodecState, config: string, entities: Entity[]): void {
  const before = (state.get(configKey(config)) as string[] | undefined) ?? [];
  const topics = new Set([...before, ...entities.map(({ topic }) => topic)]);
  for (const topic of topics) {
    const known =
      (state.get(topicKey(topic)) as Record<string, Record<string, FieldMeta>> | undefined) ?? {};
    const { [config]: _old, ...others } = known;
    const own_ = entities.filter((each) => each.topic === topic);
    const fields = Object.fromEntries(
      own_.map(({ field, topic: _topic, ...meta }) => [field, meta]),
    );
    const next = own_.length === 0 ? others : { ...others, [config]: fields };
    state.set(topicKey(topic), Object.keys(next).length === 0 ? undefined : next);
  }
  state.set(
    configKey(config),
    entities.length === 0 ? undefined : [...new Set(entities.map(({ topic }) => topic))],
  );
}

/** Throws Undecodable. */
export function decodeDiscovery(payload: Buffer, context: MessageContext): Decoded[] | undefined {
  if (!/^[^/]+\/[^/]+\/(?:[^/]+\/)?[^/]+\/config$/.test(context.topic)) return undefined;
  if (payload.length === 0) {
    replace(context.state, context.topic, []);
    return [];
  }
  const config = parseJson(payload.toString('utf8'));
  if (!isObject(config)) throw new Undecodable('Home Assistant: a configuration is not an object');
  replace(context.state, context.topic, entitiesOf(config));
  return [];
}

/** What discovery has said of the fields of a topic; `key` is its `topicKey`. */
export function discovered(state: CodecState, key: string): Map<string, FieldMeta> | undefined {
  const known = state.get(key) as Record<string, Record<string, FieldMeta>> | undefined;
  if (known === undefined) return undefined;
  return new Map(Object.values(known).flatMap((fields) => Object.entries(fields)));
}
