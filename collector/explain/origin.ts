/** How a message became a reading: which mappings, which clock. Told by decoding it once more with each version that was kept. */
import { Undecodable } from '../../shared/codecs/codec.ts';
import type { FrameRecord } from '../../shared/frame/frame.ts';
import { identitySeed, type Reading } from '../../shared/model/reading.ts';
import { BootClocks, CLOCK_PREFIX } from '../decode/boot-clocks.ts';
import type { MessageContext } from '../decode/codecs/context.ts';
import { CODEC_PREFIX, CodecStates, FrozenState } from '../decode/codec-state.ts';
import { decodeRecord } from '../decode/decoder.ts';
import { MessageDecoder } from '../decode/message-decoder.ts';
import type { Mappings } from '../decode/mapping/mappings.ts';
import { MAPPING_PREFIX, mappingsOf, type KeptVersion } from '../decode/mapping/set.ts';
import { TOPIC_LEDGER, type Log } from '../log/log.ts';
import type { Message } from './message.ts';
import type { Row } from './rows.ts';

/** Versions change seldom; what is asked within this time is not read again, milliseconds. */
const VERSIONS_MS = 5000;
/** Newest first. */
const VERSIONS_MAX = 100;

export interface Clock {
  /** What gave the point its time: the device, the gateway's own clock, or that clock put right by an anchor. */
  gave: 'device' | 'gateway' | 'anchor' | 'unknown';
  quality: 'unknown' | 'assumed' | 'synchronised';
  /** Added to the gateway's clock, milliseconds. */
  offsetMs: number;
  anchor: { errorMs: number; basis: string; wallMs: number } | undefined;
}

export interface Origin {
  clock: Clock;
  receivedMs: number;
  mapping:
    | {
        hash: string;
        /** Of the mapping in it that takes the topic; undefined: none does, and the payload alone tells. */
        name: string | undefined;
        /** When it was last put in force. */
        inForceMs: number;
        /** Decoding the message with it gives this very point. */
        gives: boolean;
        /** Other versions that give the same. */
        others: string[];
      }
    | undefined;
}

interface Version {
  hash: string;
  inForce: readonly number[];
  mappings: Mappings;
}

const QUALITIES = ['unknown', 'assumed', 'synchronised'] as const;

export class Origins {
  private readonly log: Log;
  private readonly known = new Map<string, Mappings>();
  private versions: { list: Version[]; readMs: number } | undefined;

  constructor(log: Log) {
    this.log = log;
  }

  private async ofLedger(prefix: string): Promise<{ key: string; value: Buffer }[]> {
    const found: { key: string; value: Buffer }[] = [];
    for (let partition = 0; partition < this.log.partitions; partition++)
      found.push(...(await this.log.state(TOPIC_LEDGER, partition, prefix)));
    return found;
  }

  private async allVersions(): Promise<Version[]> {
    const now = performance.now();
    if (this.versions !== undefined && now - this.versions.readMs < VERSIONS_MS)
      return this.versions.list;
    const list: Version[] = [];
    const kept = (await this.ofLedger(MAPPING_PREFIX))
      .map(({ value }) => JSON.parse(value.toString('utf8')) as KeptVersion)
      .sort((a, b) => b.at - a.at)
      .slice(0, VERSIONS_MAX);
    for (const version of kept) {
      const { hash, at, inForce = [at] } = version;
      const mappings = this.known.get(hash) ?? (await mappingsOf(version).catch(() => undefined)); // Of a format that is read no more.
      if (mappings === undefined) continue;
      this.known.set(hash, mappings);
      list.push({ hash, inForce, mappings });
    }
    this.versions = { list, readMs: now };
    return list;
  }

  /** Throws LOG_UNAVAILABLE. */
  async of({ identity, timeMs, ...row }: Row, message: Message): Promise<Origin> {
    const { header, record, headers } = message;
    const { gateway, bootId } = header;
    const clocks = new BootClocks();
    for (const { key, value } of await this.ofLedger(`${CLOCK_PREFIX}${gateway}/${bootId}`))
      clocks.load(key, value);
    const believed = BootClocks.believes(header);
    const resolved = believed ? undefined : clocks.resolve(header);
    const offsetUs = resolved?.offsetUs ?? 0;
    const receivedUs = (record?.receivedUs ?? header.wallUs) + offsetUs;
    const receivedMs = Math.floor(receivedUs / 1000);
    const best = resolved && clocks.bestOf(header);
    const clock: Clock = {
      gave: timeMs !== receivedMs ? 'device' : believed ? 'gateway' : 'anchor',
      quality: QUALITIES[header.clockQuality] ?? 'unknown',
      offsetMs: offsetUs / 1000,
      anchor: best && {
        errorMs: best.errorUs / 1000,
        basis: best.basis,
        wallMs: best.wallUs / 1000,
      },
    };
    if (record === undefined) return { clock, receivedMs, mapping: undefined };
    if (!believed && resolved === undefined) clock.gave = 'unknown';
    const arrivedMs = Number(headers['arrived'] ?? 0);
    const codecs = new CodecStates();
    for (const { key, value } of await this.ofLedger(`${CODEC_PREFIX}${gateway}/`))
      if (value.length > 0) codecs.load(key, value);
    const context = {
      gateway,
      epoch: header.epoch,
      sequence: record.sequence,
      topic: record.topic,
      receivedMs,
      latestMs: Math.max(receivedMs, arrivedMs),
      state: new FrozenState(codecs.of(gateway)),
      hasAll: () => false,
      ask: () => undefined,
    };
    const seed = identitySeed(gateway, header.epoch);
    const isSame = (reading: Reading): boolean =>
      reading.index === identity.index &&
      reading.measurement === row.measurement &&
      reading.timeMs === timeMs &&
      Object.entries(row.fields).every(([name, value]) => reading.fields[name] === value);
    const versions = await this.allVersions();
    const giving = versions.filter(({ mappings }) => {
      try {
        return decodeRecord(record, seed, context, mappings).readings.some(isSame);
      } catch (error) {
        if (error instanceof Undecodable) return false;
        throw error;
      }
    });
    const chosen = choose(versions, giving, row.saidMs ?? arrivedMs);
    if (chosen === undefined) return { clock, receivedMs, mapping: undefined };
    const mapping = {
      hash: chosen.hash,
      name: nameOf(record, context, chosen.mappings),
      inForceMs: chosen.inForceMs,
      gives: giving.some(({ hash }) => hash === chosen.hash),
      others: giving.filter((each) => each.hash !== chosen.hash).map(({ hash }) => hash),
    };
    return { clock, receivedMs, mapping };
  }
}

/** Of the mapping that took the message: many match its topic and leave it to the next. */
function nameOf(
  record: FrameRecord,
  context: MessageContext,
  mappings: Mappings,
): string | undefined {
  const decoder = new MessageDecoder(record, context, mappings);
  try {
    decoder.decode();
  } catch (error) {
    if (!(error instanceof Undecodable)) throw error;
  }
  return decoder.used?.name;
}

/** Of versions that give a point, the one that was in force when it was said; else the newest before it; else any. */
function choose(
  versions: readonly Version[],
  giving: readonly Version[],
  saidMs: number,
): (Version & { inForceMs: number }) | undefined {
  const some = giving.length > 0 ? giving : versions;
  let chosen: (Version & { inForceMs: number }) | undefined;
  for (const version of some) {
    const before = version.inForce.filter((at) => at <= saidMs);
    const inForceMs = before.at(-1) ?? version.inForce[0] ?? 0;
    const isBetter =
      chosen === undefined ||
      (before.length > 0 && (chosen.inForceMs > saidMs || inForceMs > chosen.inForceMs));
    if (isBetter) chosen = { ...version, inForceMs };
  }
  return chosen;
}
