/**
 * Sparkplug B (Eclipse Sparkplug 3.0) on `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`, as a host application hears it.
 *
 * Measurement `sparkplug`, tags group, node, device; a metric's name is the field, its own timestamp the time, so a
 * DATA message with metrics of several moments becomes several readings. BIRTH and DEATH also say `online` in
 * `sparkplug_state`; commands are in `sparkplug_command`. Metrics that a device marks as historical have the tag-free
 * field `historical` beside them; one whose Quality is not good has it beside it, as `NAME_quality`.
 *
 * State: a node's names, types and units by alias (from its BIRTHs; the newest counts), and the last `seq`. An alias
 * that nobody knows, or a gap in `seq` where the gateway has none, asks the node for a rebirth (6.4.22), at most once a
 * minute. With live readings ahead of the backlog, messages come out of order: a gap counts only when the gateway's own
 * sequence has none.
 */
import { Fields, Undecodable, type Decoded, type FieldMeta } from '../../../shared/codecs/codec.ts';
import { fromEpoch, isPlausible } from '../../../shared/codecs/time.ts';
import type { MessageContext } from './context.ts';
import {
  decodeSparkplugPayload,
  withDatatype,
  type SparkplugMetric,
  type SparkplugPayload,
} from './sparkplug-payload.ts';

const ASK_MS = 60_000;
/** 6.4.8. */
const GOOD = 192;

interface Birth {
  /** Of the BIRTH, epoch milliseconds. */
  at: number;
  bdSeq: number | undefined;
  aliases: Record<string, [name: string, datatype: number, unit?: string]>;
  /** Data types of metrics without an alias, and units. */
  names: Record<string, [datatype: number, unit?: string]>;
}

interface Order {
  seq: number;
  epoch: string;
  sequence: number;
  askedMs: number;
}

interface Place {
  group: string;
  type: string;
  node: string;
  device: string | undefined;
}

function placeOf(topic: string): Place | undefined {
  const [namespace, group, type, node, device, ...rest] = topic.split('/');
  if (namespace !== 'spBv1.0' || group === undefined || type === undefined) return undefined;
  if (type === 'STATE' || group === 'STATE') return { group, type: 'STATE', node: '', device };
  if (node === undefined || rest.length > 0) return undefined;
  return { group, type, node, device };
}

const birthKey = ({ group, node }: Place, device: string | undefined): string =>
  `sparkplug/${group}/${node}${device === undefined ? '' : `/${device}`}`;
const orderKey = ({ group, node }: Place): string => `sparkplug-seq/${group}/${node}`;

function tagsOf({ group, node, device }: Place): Record<string, string> {
  return device === undefined ? { group, node } : { group, node, device };
}

/** NCMD that asks a node for its BIRTHs: one metric, `Node Control/Rebirth` = true. */
export function rebirthCommand(
  group: string,
  node: string,
  ms: number,
): { topic: string; payload: Buffer } {
  const name = Buffer.from('Node Control/Rebirth');
  const time = varint(BigInt(Math.floor(ms)));
  const metric = Buffer.concat([
    Buffer.from([0x0a, name.length]),
    name,
    Buffer.from([0x18]),
    time,
    Buffer.from([0x20, 11, 0x70, 1]),
  ]);
  const payload = Buffer.concat([
    Buffer.from([0x08]),
    time,
    Buffer.from([0x12, metric.length]),
    metric,
  ]);
  return { topic: `spBv1.0/${group}/NCMD/${node}`, payload };
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

class Message {
  private readonly place: Place;
  private readonly payload: SparkplugPayload;
  private readonly context: MessageContext;

  constructor(place: Place, payload: SparkplugPayload, context: MessageContext) {
    this.place = place;
    this.payload = payload;
    this.context = context;
  }

  decode(): Decoded[] {
    const { type } = this.place;
    switch (type) {
      case 'NBIRTH':
      case 'DBIRTH':
        this.learn();
        this.follow(type === 'NBIRTH');
        return [this.state(true), ...this.readings('sparkplug')];
      case 'NDATA':
      case 'DDATA':
        this.follow(false);
        return this.readings('sparkplug');
      case 'NDEATH':
        return this.isOldDeath() ? [] : [this.state(false)];
      case 'DDEATH':
        this.follow(false);
        return [this.state(false)];
      case 'NCMD':
      case 'DCMD':
        return this.readings('sparkplug_command');
      default:
        throw new Undecodable(`Sparkplug: message type '${type.slice(0, 20)}' is not known`);
    }
  }

  private birth(device: string | undefined): Birth | undefined {
    return this.context.state.get(birthKey(this.place, device)) as Birth | undefined;
  }

  private bdSeq(): number | undefined {
    const metric = this.payload.metrics.find(({ name }) => name === 'bdSeq');
    const value = metric?.values[0]?.[1];
    return typeof value === 'bigint' || typeof value === 'number' ? Number(value) : undefined;
  }

  /** Takes names, types and units from a BIRTH, unless a newer one is known. */
  private learn(): void {
    const { place, payload, context } = this;
    const at = payload.timestamp ?? context.receivedMs;
    const before = this.birth(place.device);
    if (before !== undefined && before.at > at) return;
    // Names are the device's: by way of a map, in which `__proto__` is one like any other.
    const names = new Map<string, Birth['names'][string]>();
    const birth: Birth = { at, bdSeq: this.bdSeq(), aliases: {}, names: {} };
    for (const { name, alias, datatype, unit } of payload.metrics) {
      if (name === undefined) throw new Undecodable('Sparkplug: a metric of a BIRTH has no name');
      if (alias !== undefined) {
        // [tck-id-payloads-alias-uniqueness]: whose value would it be?
        if (Object.hasOwn(birth.aliases, String(alias))) {
          this.askRebirth();
          throw new Undecodable(
            `Sparkplug: alias ${alias} is of two metrics, '${birth.aliases[String(alias)]?.[0]}' and '${name}', in one BIRTH; the node is asked for another`,
          );
        }
        birth.aliases[String(alias)] =
          unit === undefined ? [name, datatype] : [name, datatype, unit];
      } else names.set(name, unit === undefined ? [datatype] : [datatype, unit]);
    }
    birth.names = Object.fromEntries(names);
    context.state.set(birthKey(place, place.device), birth);
  }

  /** A death certificate of a session before the present one: it was left with the broker and says nothing of now. */
  private isOldDeath(): boolean {
    const known = this.birth(undefined)?.bdSeq;
    const said = this.bdSeq();
    return known !== undefined && said !== undefined && known !== said;
  }

  /** Keeps count of `seq`, 0 to 255, over a node and its devices. */
  private follow(isFirst: boolean): void {
    const { context, payload } = this;
    const { seq } = payload;
    const { epoch, sequence } = context;
    if (seq === undefined) return;
    const key = orderKey(this.place);
    const before = context.state.get(key) as Order | undefined;
    const isLater = before === undefined || before.epoch !== epoch || sequence > before.sequence;
    if (!isLater) return;
    const order: Order = { seq, epoch, sequence, askedMs: before?.askedMs ?? 0 };
    context.state.set(key, order);
    if (isFirst || before === undefined || before.epoch !== epoch) return;
    if (seq !== (before.seq + 1) % 256 && context.hasAll(before.sequence, sequence))
      this.askRebirth();
  }

  private askRebirth(): void {
    const { context, place } = this;
    const key = orderKey(place);
    const order = (context.state.get(key) as Order | undefined) ?? {
      seq: 0,
      epoch: context.epoch,
      sequence: context.sequence,
      askedMs: 0,
    };
    // A message that waited long in a buffer tells nothing of what the node needs now.
    if (context.latestMs - context.receivedMs > ASK_MS) return;
    if (context.receivedMs - order.askedMs < ASK_MS) return;
    context.state.set(key, { ...order, askedMs: context.receivedMs });
    context.ask({
      gateway: context.gateway,
      ...rebirthCommand(place.group, place.node, context.receivedMs),
    });
  }

  /** Name and type of a metric, from itself or the BIRTH. */
  private named(metric: SparkplugMetric): { name: string; metric: SparkplugMetric; unit?: string } {
    const { device } = this.place;
    const births = [this.birth(device), device === undefined ? undefined : this.birth(undefined)];
    const { name, alias } = metric;
    if (name !== undefined) {
      const known = births
        .map((birth) =>
          birth !== undefined && Object.hasOwn(birth.names, name) ? birth.names[name] : undefined,
        )
        .find((each) => each !== undefined);
      const unit = metric.unit ?? known?.[1];
      const typed =
        metric.datatype === 0 && known !== undefined ? withDatatype(metric, known[0]) : metric;
      return { name, metric: typed, ...(unit === undefined ? {} : { unit }) };
    }
    if (alias === undefined)
      throw new Undecodable('Sparkplug: a metric has neither name nor alias');
    const known = births
      .map((birth) => birth?.aliases[String(alias)])
      .find((each) => each !== undefined);
    if (known === undefined) {
      this.askRebirth();
      throw new Undecodable(
        `Sparkplug: alias ${alias} is not known, since no BIRTH with it has arrived; the node is asked for one, and this message can be replayed after it`,
      );
    }
    const [found, datatype, unit] = known;
    const typed = metric.datatype === 0 ? withDatatype(metric, datatype) : metric;
    return { name: found, metric: typed, ...(unit === undefined ? {} : { unit }) };
  }

  /** Metrics of one time are one reading. */
  private readings(measurement: string): Decoded[] {
    const { payload, context, place } = this;
    const byTime = new Map<number, Decoded>();
    for (const each of payload.metrics) {
      const { name, metric, unit } = this.named(each);
      if (metric.values.length === 0 && metric.problem === undefined) continue;
      const ms = metric.timestamp ?? payload.timestamp ?? 0;
      let reading = byTime.get(ms);
      if (reading === undefined) {
        reading = { measurement, tags: tagsOf(place), fields: new Fields(), meta: new Map() };
        const time = fromEpoch(ms, undefined, 'ms');
        if (time !== undefined && isPlausible(ms, context.latestMs)) reading.time = time;
        byTime.set(ms, reading);
      }
      if (metric.problem !== undefined) reading.fields.problem(`'${name}': ${metric.problem}`);
      for (const [suffix, value] of metric.values) reading.fields.set(`${name}${suffix}`, value);
      if (metric.quality !== undefined && metric.quality !== GOOD)
        reading.fields.set(`${name}_quality`, metric.quality);
      if (unit !== undefined) reading.meta?.set(name, { unit } satisfies FieldMeta);
      if (metric.isHistorical && !reading.fields.has('historical_bool'))
        reading.fields.set('historical', true);
    }
    return [...byTime.values()];
  }

  private state(online: boolean): Decoded {
    const { payload, context, place } = this;
    const fields = new Fields();
    fields.set('online', online);
    const bdSeq = this.bdSeq();
    if (bdSeq !== undefined) fields.set('bdSeq', bdSeq);
    const decoded: Decoded = { measurement: 'sparkplug_state', tags: tagsOf(place), fields };
    // A will was written when the node connected: its timestamp is not when the node died.
    const ms = place.type === 'NDEATH' ? undefined : payload.timestamp;
    const time = ms === undefined ? undefined : fromEpoch(ms, undefined, 'ms');
    if (time !== undefined && isPlausible(time.ms, context.latestMs)) decoded.time = time;
    return decoded;
  }
}

/** Throws Undecodable. */
export function decodeSparkplug(payload: Buffer, context: MessageContext): Decoded[] | undefined {
  const place = placeOf(context.topic);
  if (place === undefined) return undefined;
  // Host applications say here that they are there: nothing of a device.
  if (place.type === 'STATE') return [];
  return new Message(place, decodeSparkplugPayload(payload), context).decode();
}
