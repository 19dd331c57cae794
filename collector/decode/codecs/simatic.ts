/**
 * Siemens' Industrial Edge: the common payload format of its databus, version 1 (`ie/d/j/simatic/v1/CONNECTOR/dp/r/CONNECTION/COLLECTION`).
 * Source: github.com/industrial-edge/common-databus-payload-format, docs/payload-format.
 *
 * Values come under ids that may change with the next configuration; the connector's metadata (`ie/m/…/dp`) says what each
 * is called. Measurement `simatic`, tags connector, connection and collection, the data point's name is the field; until
 * the metadata has come its id is. A quality that is not good stands beside the value, as NAME_quality. Writes (`dp/w`) are
 * not readings.
 *
 * State: the names of each topic's ids.
 */
import { Fields, type Decoded } from '../../../shared/codecs/codec.ts';
import { deviceTime } from '../../../shared/codecs/device-time.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { USUAL_TIME_RULES, type DeviceTime } from '../../../shared/codecs/time.ts';
import { flatten, isObject, own, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';
import type { MessageContext } from './context.ts';
import { textOf } from './text.ts';

const TOPIC =
  /^ie\/(?<kind>[md])\/j\/simatic\/v1\/(?<connector>[^/]+)\/dp(?:\/(?<mode>[rw])\/(?<connection>[^/]+)(?:\/(?<collection>.+))?)?$/;
/** Qualities from here on are good. */
const GOOD = 2;

const keyOf = (topic: string): string => `simatic/${topic}`;

const membersOf = (value: Tree | undefined): TreeObject[] =>
  Array.isArray(value) ? value.filter(isObject) : [];

/** Names by id, for each topic of a connector. */
function learn(document: Tree, { state }: MessageContext): void {
  if (!isObject(document)) return;
  for (const connection of membersOf(own(document, 'connections')))
    for (const collection of membersOf(own(connection, 'dataPoints'))) {
      const topic = own(collection, 'topic');
      if (typeof topic !== 'string') continue;
      const names: Record<string, string> = {};
      for (const point of membersOf(own(collection, 'dataPointDefinitions'))) {
        const [id, name] = [own(point, 'id'), own(point, 'name')];
        if (typeof id === 'string' && typeof name === 'string') names[id] = name;
      }
      state.set(keyOf(topic), names);
    }
}

/** Values of one time are one point. */
function pointsOf(
  values: readonly TreeObject[],
  names: Readonly<Record<string, string>>,
  tags: Record<string, string>,
  latestMs: number,
): Decoded[] {
  const points = new Map<string, Decoded>();
  for (const each of values) {
    const [id, value, quality] = [own(each, 'id'), own(each, 'val'), own(each, 'qc')];
    if ((typeof id !== 'string' && typeof id !== 'number') || value === undefined) continue;
    const time: DeviceTime | undefined = deviceTime(
      own(each, 'ts') ?? null,
      latestMs,
      USUAL_TIME_RULES,
    );
    const key = time === undefined ? '' : `${time.ms} ${time.ns}`;
    let point = points.get(key);
    if (point === undefined) {
      point = { measurement: 'simatic', tags, fields: new Fields() };
      if (time !== undefined) point.time = time;
      points.set(key, point);
    }
    const name = Object.hasOwn(names, id) ? (names[id] as string) : String(id); // Just asked.
    flatten(point.fields, name, value);
    if (typeof quality === 'number' && quality < GOOD) point.fields.set(`${name}_quality`, quality);
  }
  return [...points.values()];
}

/** Throws Undecodable; undefined where it is no message of data points. */
export function decodeSimatic(payload: Buffer, context: MessageContext): Decoded[] | undefined {
  const groups = TOPIC.exec(context.topic)?.groups;
  if (groups === undefined) return undefined;
  const { kind, mode, connector = '', connection, collection } = groups;
  if (kind === 'd' && mode === 'w') return [];
  if ((kind === 'm') !== (mode === undefined)) return undefined;
  const document = parseJson(textOf(payload));
  if (kind === 'm') {
    learn(document, context);
    return [];
  }
  const values = isObject(document) ? own(document, 'vals') : undefined;
  if (!Array.isArray(values)) return undefined;
  const names = (context.state.get(keyOf(context.topic)) ?? {}) as Record<string, string>;
  const tags: Record<string, string> = { connector };
  if (connection !== undefined) tags['connection'] = connection;
  if (collection !== undefined) tags['collection'] = collection;
  return pointsOf(values.filter(isObject), names, tags, context.latestMs);
}
