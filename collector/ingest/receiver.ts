/**
 * What a collector does with an uplink message, whatever carried it: check it whole, append its frames to the log,
 * acknowledge when the log has them (law 2). A status is answered with the time, and, when the ledger has taken it in,
 * with what the log lacks of the gateway's history.
 *
 * Bounded: what has been received and is not yet in the log is counted, and who has his share of it is not read from.
 */
import { Share } from '../../shared/access/shares.ts';
import type { Env } from '../../shared/env/env.ts';
import { Histogram } from '../../shared/telemetry/histogram.ts';
import { messageOf } from '../../shared/errors.ts';
import { KIND_STATUS, readHeader, type FrameHeader } from '../../shared/frame/frame.ts';
import { readNote, type Status } from '../../shared/frame/notes.ts';
import type { RemoteConfig } from '../../shared/model/remote.ts';
import { RangeSet } from '../../shared/model/ranges.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { UP_PREFIX, decodeUp, encodeDown, type EpochAck } from '../../shared/wire/wire.ts';
import type { LedgerView } from '../ledger/view.ts';
import { Twins } from './twins.ts';
import { HEADER_UNSETTLED } from '../log/topics.ts';
import type { CollectorClock } from './clock.ts';
import type { Log, LogRecord } from '../log/log.ts';
import { TooLarge, take, type Taken } from './take.ts';

export interface ReceiverOptions {
  pendingBytesMax: number;
  /** Undefined, or why nothing may be taken now (a nearly full disk). */
  refuse: () => string | undefined;
  /** Throws where the ledger cannot keep apart what is new in it. */
  room?: (gateway: string, frames: readonly { header: FrameHeader }[]) => void;
  /** Takes what a gateway's status tells of itself; what it returns is said to it. */
  told?: (gateway: string, status: Status) => RemoteConfig | undefined;
  /** A status has come from a gateway that runs in this epoch. */
  spoke?: (gateway: string, epoch: string, address: string) => void;
}

/** One gateway's connection. */
export interface Peer {
  readonly gateway: string;
  /** Where it is, when that is known. */
  readonly address?: string;
  /** Whose share it takes. */
  readonly principal: string;
  readonly isOpen: boolean;
  say(payload: Buffer): void;
  /** Stop reading from it, until `relieve`. */
  hold(): void;
}

interface Sequences {
  epoch: string;
  from: number;
  to: number;
}

export interface GatewaySeen {
  gateway: string;
  connected: boolean;
  lastSeenMs: number;
  frames: number;
  messages: number;
}

const spanOf = ({ epoch, firstSequence, count }: FrameHeader): Sequences => ({
  epoch,
  from: firstSequence,
  to: firstSequence + count - 1,
});

/** Of what counts: a status is nobody's only copy. */
const sequencesOf = (records: readonly LogRecord[]): Sequences[] =>
  records
    .map(({ value }) => readHeader(value))
    .filter(({ kind }) => kind !== KIND_STATUS)
    .map(spanOf);

const RETRY_MS = 250;
/** What the ledger says of longer ago says nothing of who is there now. */
const TWINS_MS = 600_000;
/** Looks at whether the ledger has a status, after its arrival. */
const RECLAIM_MS = [500, 1500, 4000, 10_000];

export class Receiver {
  receivedFrames = 0;
  receivedMessages = 0;
  receivedBytes = 0;
  acknowledgedMessages = 0;
  /** From the arrival of an uplink message to its acknowledgement: the log's fsync, and whatever held it up. */
  readonly acknowledgeSeconds = new Histogram();
  reclaimedMessages = 0;

  private readonly env: Env;
  private readonly options: ReceiverOptions;
  private readonly log: Log;
  private readonly ledger: LedgerView | undefined;
  private readonly notify: Notify;
  private readonly onRelief: () => void;
  private readonly clock: CollectorClock;
  /** Gateway → its latest connection. */
  private readonly peers = new Map<string, Peer>();
  private readonly twins: Twins;
  /** Of one name at several collectors, as the ledger tells it. */
  private readonly elsewhere: Twins;
  readonly tooLarge: TooLarge;
  private readonly seen = new Map<string, GatewaySeen>();
  /** Connection → epoch → what is committed, over the connection's life. */
  private readonly committed = new WeakMap<Peer, Map<string, RangeSet>>();
  /** Received, and not yet in the log. */
  readonly pending: Share;
  private stopped = false;

  constructor(
    env: Env,
    options: ReceiverOptions,
    log: Log,
    ledger: LedgerView | undefined,
    notify: Notify,
    clock: CollectorClock,
    onRelief: () => void,
  ) {
    this.clock = clock;
    clock.onChange(() => this.askAll());
    this.env = env;
    this.options = options;
    this.log = log;
    this.ledger = ledger;
    this.notify = notify;
    this.onRelief = onRelief;
    this.pending = new Share('pending', options.pendingBytesMax);
    this.tooLarge = new TooLarge(log, notify, () => env.clock.monotonicUs());
    this.twins = new Twins(() => env.clock.monotonicUs(), notify);
    this.elsewhere = new Twins(() => env.clock.monotonicUs(), notify);
    if (ledger !== undefined) {
      ledger.askGateways = () => this.askAll();
      ledger.onSpoke = (gateway, epoch, spokeMs) => {
        // Those that come here are told by what they say here.
        if (this.twins.isDoubled(gateway) || this.nowMs - spokeMs > TWINS_MS) return;
        const from = ledger.fromOf(gateway, epoch) ?? 'another collector';
        const peer = this.peers.get(gateway);
        const isNew = this.elsewhere.see(gateway, epoch, from);
        if (isNew && peer?.isOpen === true) peer.say(encodeDown({ ask: true }));
      };
    }
  }

  /** Gateways of whose name there are two. */
  get doubledGateways(): number {
    return this.twins.count() + this.elsewhere.count((each) => !this.twins.isDoubled(each));
  }

  /** What of the gateways is not as it should be. */
  warnings(): string[] {
    const elsewhere = this.elsewhere.warnings((gateway) => !this.twins.isDoubled(gateway));
    return [...this.twins.warnings(), ...elsewhere, ...this.tooLarge.warnings()];
  }

  isDoubled(gateway: string): boolean {
    return this.twins.isDoubled(gateway) || this.elsewhere.isDoubled(gateway);
  }

  /** It has not more than half of its share: it is read from again. */
  isRelieved(principal: string): boolean {
    return this.pending.room(principal) >= this.pending.of(principal);
  }

  gateways(): GatewaySeen[] {
    return [...this.seen.values()];
  }

  left(gateway: string, stillThere: boolean): void {
    const seen = this.seen.get(gateway);
    if (seen !== undefined) seen.connected = stillThere;
  }

  private get nowMs(): number {
    return Math.round(this.clock.nowMs());
  }

  /** Takes an uplink message in. Throws when anything in it is wrong: then nothing of it was taken. */
  receive(peer: Peer, topic: string, payload: Buffer): void {
    const { gateway } = peer;
    if (topic !== `${UP_PREFIX}${gateway}`)
      throw new Error(`topic '${topic}' is not this gateway's`);
    const { lane, frames } = decodeUp(payload);
    const foreign = frames.find(({ header }) => header.gateway !== gateway);
    if (foreign !== undefined)
      throw new Error(`a frame speaks for gateway '${foreign.header.gateway}'`);
    this.options.room?.(gateway, frames);
    const arrivedMs = this.nowMs;
    const headers: Record<string, string> = { arrived: String(arrivedMs), lane: String(lane) };
    if (!this.clock.isSettled) headers[HEADER_UNSETTLED] = 'true';
    // The payload is a view on the socket's buffer: what waits for the log is copied out of it.
    const records = frames.map(({ frame }) => ({
      key: gateway,
      value: Buffer.from(frame),
      headers,
    }));
    const sequences: Sequences[] = [];
    let hasStatus = false;
    for (const { header, frame } of frames) {
      if (header.kind === KIND_STATUS) {
        this.clock.heard(gateway, header.wallUs / 1000);
        const time = { echoUs: header.monotonicUs, wallUs: this.env.clock.wallUs() };
        // Who does not know the time says so at once: the gateway need not wait for it.
        peer.say(encodeDown(this.clock.isTold ? { time } : { timeless: true }));
        hasStatus = true;
        const address = peer.address ?? 'an unknown address';
        if (this.twins.see(gateway, header.epoch, address)) peer.say(encodeDown({ ask: true }));
        this.options.spoke?.(gateway, header.epoch, address);
        this.hear(peer, frame, header);
      } else {
        sequences.push(spanOf(header));
      }
    }
    this.peers.set(gateway, peer);
    this.note(gateway, records.length, sequences);
    const bytes = payload.length;
    this.receivedBytes += bytes;
    this.pending.add(peer.principal, bytes);
    if (this.pending.room(peer.principal) <= 0) {
      this.pending.refused++;
      peer.hold();
    }
    void this.store(peer, records, sequences, bytes).then((stored) => {
      if (stored && hasStatus) void this.reclaim(peer, arrivedMs);
    });
  }

  /** What its status says of the gateway itself, and what is declared for it. */
  private hear(peer: Peer, frame: Buffer, header: FrameHeader): void {
    const { told } = this.options;
    if (told === undefined) return;
    let status: Status;
    try {
      status = readNote(KIND_STATUS, frame, header);
    } catch {
      return; // The log keeps it, and decoding says what is wrong with it.
    }
    const config = told(peer.gateway, status);
    if (config !== undefined) peer.say(encodeDown({ config }));
  }

  /** Something else is declared: who is connected hears it. */
  sayAll(config: (gateway: string) => RemoteConfig | undefined): void {
    for (const [gateway, peer] of this.peers) {
      const own = peer.isOpen ? config(gateway) : undefined;
      if (own !== undefined) peer.say(encodeDown({ config: own }));
    }
  }

  /** What was said of the time is no more, or something is wanted again: who is connected asks, and says what it holds. */
  private askAll(): void {
    for (const [gateway, peer] of this.peers) {
      if (peer.isOpen) peer.say(encodeDown({ ask: true }));
      else this.peers.delete(gateway);
    }
  }

  private note(gateway: string, frames: number, sequences: Sequences[]): void {
    const messages = sequences.reduce((sum, { from, to }) => sum + to - from + 1, 0);
    this.receivedFrames += frames;
    this.receivedMessages += messages;
    let seen = this.seen.get(gateway);
    if (seen === undefined) {
      seen = { gateway, connected: true, lastSeenMs: 0, frames: 0, messages: 0 };
      this.seen.set(gateway, seen);
    }
    seen.connected = true;
    seen.lastSeenMs = this.nowMs;
    seen.frames += frames;
    seen.messages += messages;
  }

  private async store(
    peer: Peer,
    records: LogRecord[],
    sequences: Sequences[],
    bytes: number,
  ): Promise<boolean> {
    const { clock } = this.env;
    const beganUs = clock.monotonicUs();
    let kept: readonly LogRecord[] = [];
    try {
      while (!this.stopped && peer.isOpen) {
        const found = this.options.refuse() === undefined ? await this.append(records) : undefined;
        if (found !== undefined) {
          const { taken, tooLarge } = found;
          this.acknowledge(peer, tooLarge.length === 0 ? sequences : sequencesOf(taken));
          this.acknowledgeSeconds.observe((clock.monotonicUs() - beganUs) / 1e6);
          kept = tooLarge;
          return true;
        }
        // Not acknowledged: the gateway keeps it. Trying on spares the link a second transfer.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
      return false;
    } finally {
      this.pending.give(peer.principal, bytes);
      if (kept.length > 0) void this.keep(peer, kept);
      this.onRelief();
    }
  }

  private async append(records: LogRecord[]): Promise<Taken | undefined> {
    try {
      return await take(this.log, records);
    } catch {
      // The log reports its own trouble; here it only means: not yet.
      return undefined;
    }
  }

  /**
   * Its gateway keeps it: it is not acknowledged. A status is nobody's only copy, and the next one is on its way. What is tried
   * again here has its room in its gateway's share of what is not in the log yet; beyond that it is tried when it comes again.
   */
  private async keep(peer: Peer, given: readonly LogRecord[]): Promise<void> {
    const { gateway, principal } = peer;
    const records = given.filter(({ value }) => readHeader(value).kind !== KIND_STATUS);
    if (records.length === 0) return;
    const bytes = records.reduce((sum, { value }) => sum + value.length, 0);
    // Half of the share at most: what is behind them goes on.
    if (2 * bytes > this.pending.room(principal) - this.pending.of(principal)) {
      this.tooLarge.leave(gateway, records, peer);
      return;
    }
    this.pending.add(principal, bytes);
    try {
      await this.tooLarge.keep(
        gateway,
        records,
        () => this.stopped || !peer.isOpen,
        (taken) => this.acknowledge(peer, sequencesOf(taken)),
      );
    } finally {
      this.pending.give(principal, bytes);
      this.onRelief();
    }
  }

  private acknowledge(peer: Peer, sequences: Sequences[]): void {
    if (sequences.length === 0) return;
    let epochs = this.committed.get(peer);
    if (epochs === undefined) this.committed.set(peer, (epochs = new Map()));
    const touched = new Map<string, EpochAck>();
    for (const { epoch, from, to } of sequences) {
      let committed = epochs.get(epoch);
      if (committed === undefined) epochs.set(epoch, (committed = new RangeSet()));
      committed.add(from, to);
      this.acknowledgedMessages += to - from + 1;
      const merged = committed.around(from);
      if (merged === undefined) continue;
      const ack = touched.get(epoch) ?? { epoch, ranges: [] };
      if (!ack.ranges.some(([low, high]) => low === merged[0] && high === merged[1]))
        ack.ranges.push([...merged]);
      touched.set(epoch, ack);
    }
    peer.say(encodeDown({ acks: [...touched.values()] }));
  }

  /** Asks for what the log lacks, once the ledger knows what the gateway holds. */
  private async reclaim(peer: Peer, arrivedMs: number): Promise<void> {
    const { ledger } = this;
    if (ledger === undefined) return;
    for (const waitMs of RECLAIM_MS) {
      await new Promise((resolve) => setTimeout(resolve, waitMs).unref());
      if (this.stopped || !peer.isOpen) return;
      const want = ledger.wanted(peer.gateway, arrivedMs);
      if (want === undefined) continue;
      if (want.length === 0) return;
      for (const { ranges } of want)
        for (const [from, to] of ranges) this.reclaimedMessages += to - from + 1;
      // What had been acknowledged on this connection is acknowledged anew.
      this.committed.delete(peer);
      peer.say(encodeDown({ want }));
      this.notify({
        level: 'warn',
        event: 'reclaim',
        text: `the log lacks messages of gateway ${peer.gateway} that were acknowledged; it still holds them and is asked for them again`,
      });
      return;
    }
  }

  /** Why a message was refused, for the gateway and the operator. */
  refused(peer: Peer, error: unknown): void {
    const text = messageOf(error);
    this.notify({
      level: 'warn',
      event: 'uplink_invalid',
      text: `gateway ${peer.gateway}: ${text}`,
    });
    peer.say(encodeDown({ error: text }));
  }

  stop(): void {
    this.stopped = true;
  }
}
