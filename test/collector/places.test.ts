/** Places in the log that are a stage's own, the order of what is read, and who is heard at several collectors. */
import { describe, expect, it } from 'vitest';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { DecodeStage } from '../../collector/decode/stage.ts';
import { Twins } from '../../collector/ingest/twins.ts';
import { LedgerView } from '../../collector/ledger/view.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { Order } from '../../collector/log/kafka-order.ts';
import {
  TOPIC_RAW,
  type Log,
  type LogRecord,
  type Produced,
  type StoredRecord,
} from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { CheckedPlaces, OwnPlaces } from '../../collector/stage/own-place.ts';
import { Heard } from '../../collector/stream/delivery/heard.ts';
import { frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const record = (offset: number, value = `${offset}`): StoredRecord => ({
  ...{ partition: 0, offset, key: 'k', headers: {}, value: Buffer.from(value) },
});
const kept = (produced: readonly Produced[]): LogRecord[] => [...produced];

describe('the order of what is read of a partition', () => {
  const orderOf = (low: number): Order => {
    const order = new Order('t', () => low);
    order.begin(0, 5);
    return order;
  };

  it('gaps that nobody deleted are none: ends of transactions, and what was compacted', () => {
    const order = orderOf(0);
    for (const offset of [5, 6, 9, 20]) expect(order.sees(0, offset, true)).toBeUndefined();
    expect(order.sees(0, 22, false)).toBeUndefined();
    // The end of then, which comes late.
    expect(order.sees(0, 21, false)).toBeUndefined();
  });

  it('a partition that begins behind what comes next is told, by a record and by its end alone', () => {
    expect(orderOf(8).sees(0, 8, true)?.message).toMatch(/begins at offset 8, and 5 comes next/);
    expect(orderOf(8).sees(0, 8, false)?.message).toMatch(/what lies between was deleted/);
  });

  it('one that goes back is another topic', () => {
    const order = orderOf(0);
    expect(order.sees(0, 5, true)).toBeUndefined();
    expect(order.sees(0, 0, true)).toMatchObject({ code: 'LOG_UNAVAILABLE' });
    // A place beyond the end, of another log: what is there is read.
    const beyond = orderOf(0);
    expect(beyond.sees(0, 3, false)).toBeUndefined();
    expect(beyond.sees(0, 0, true)).toBeUndefined();
    expect(beyond.sees(0, 1, true)).toBeUndefined();
    order.begin(0, -1);
    expect(order.sees(0, 0, true)).toBeUndefined();
  });
});

describe('a place of its own', () => {
  it('is found again by its partition', () => {
    const places = new OwnPlaces('state', 'at/');
    const records = places.records(new Map([[1, 7]]));
    expect(places.in(records, 1)).toBe(7);
    expect(places.in(records, 2)).toBeUndefined();
  });

  it('the record before it is read once more: the same is passed over, another one begins from the first', () => {
    const written = new CheckedPlaces('ledger', 'at/');
    const records = kept(written.after([record(3), record(4)], new Map([[0, 5]])));
    const same = new CheckedPlaces('ledger', 'at/');
    expect(same.load(records, 0, 0)).toBe(4);
    expect(same.fresh([record(4), record(5)])).toEqual([record(5)]);
    // What was committed without a record keeps what was read last.
    expect(same.load(kept(same.after([], new Map([[0, 5]]))), 0, 0)).toBe(4);
    const other = new CheckedPlaces('ledger', 'at/');
    expect(other.load(records, 0, 0)).toBe(4);
    expect(() => other.fresh([record(4, 'other'), record(5)])).toThrow(/made anew, or put back/);
    expect(other.load(records, 0, 2)).toBe(2);
    // Once that is committed it is a place like any other.
    const again = kept(other.after([record(2)], new Map([[0, 3]])));
    expect(other.load(again, 0, 0)).toBe(2);
  });

  it("of the decode stage: what somebody else has committed in its group's name skips nothing", async () => {
    const folder = temporaryFolder();
    const options = {
      folder,
      cacheBytes: 1 << 20,
      topics: topics(Infinity),
      now: () => Date.now(),
    };
    const log = new EmbeddedLog(options, () => undefined);
    await log.open();
    const limits = { perClient: 1000, perGateway: 1000 };
    const decoded = async (messages: number): Promise<void> => {
      const stage = new DecodeStage(log, new Mappings([]), limits, () => undefined);
      const ledger = new LedgerView(log);
      await ledger.start();
      stage.start();
      const received = (): number =>
        ledger
          .answer()
          .gateways.flatMap(({ epochs }) => epochs.flatMap((each) => each.received))
          .reduce((sum, [from, to]) => sum + to - from + 1, 0);
      await until(`${messages} messages`, () => received() === messages || undefined, 10_000);
      await stage.close();
      await ledger.close();
    };
    await log.append(TOPIC_RAW, [frameOf(1, 3)]);
    await decoded(3);
    await log.append(TOPIC_RAW, [frameOf(4, 3)]);
    await log.commit('headwater-decode', TOPIC_RAW, { produce: [], offsets: new Map([[0, 2]]) });
    await decoded(6);
    await log.close();
  });

  it('of a target: one that is new hears from now on, one that is known what happened while it was away', () => {
    const first = new Heard('mail');
    expect(first.load([], 0, undefined, 1000)).toBeUndefined();
    expect(first.load([], 1, undefined, 1000)).toBeUndefined();
    const unsaid = first.unsaid();
    expect(unsaid).toHaveLength(2);
    expect(first.unsaid()).toEqual([]);
    const later = new Heard('mail');
    // Nothing had happened in either partition, and this is an hour later.
    later.load(unsaid, 0, undefined, 3_601_000);
    expect(later.sinceMs(0)).toBe(1000);
    const said = later.records(new Map([[0, 9]]));
    expect(later.load([...unsaid.slice(1), ...said], 0, 4, 9e9)).toBe(9);
    // As an older version left it.
    expect(new Heard('mail').load([], 0, 12, 5000)).toBeUndefined();
  });
});

describe('a name at two collectors of one log', () => {
  const spoken = (epoch: string, spokeMs: number): LogRecord => ({
    ...{ key: `decoded/gw/${epoch}`, headers: {} },
    value: Buffer.from(JSON.stringify({ spokeMs, ranges: [] })),
  });

  async function heard(records: readonly LogRecord[]): Promise<{ count: number; said: string[] }> {
    let take: (records: LogRecord[]) => void = () => undefined;
    const log = {
      kind: 'kafka',
      watch: (_topic: string, onRecords: typeof take) => {
        take = onRecords;
        return Promise.resolve({ close: () => Promise.resolve() });
      },
    } as unknown as Log; // All that a view asks of it.
    const view = new LedgerView(log);
    await view.start();
    const said: string[] = [];
    const twins = new Twins(
      () => 0,
      ({ text }) => said.push(text),
    );
    view.onSpoke = (gateway, epoch) => {
      twins.see(gateway, epoch, view.fromOf(gateway, epoch) ?? 'elsewhere');
    };
    for (const each of records) take([each]);
    return { count: twins.count(), said };
  }
  const link = (epoch: string, from: string): LogRecord => ({
    ...{ key: 'link/gw', headers: {} },
    value: Buffer.from(JSON.stringify({ connected: true, at: 1, epoch, from })),
  });

  it('whose epochs take turns is two gateways, named with where they are', async () => {
    const { count, said } = await heard([
      link('e1', '10.0.0.1 at collector a'),
      spoken('e1', 10),
      link('e2', '10.0.0.2 at collector b'),
      spoken('e2', 20),
      spoken('e1', 30),
    ]);
    expect(count).toBe(1);
    expect(said[0]).toMatch(/gw, from 10\.0\.0\.2 at collector b and 10\.0\.0\.1 at collector a/);
  });

  it('that was started again, whose old frames still come, or what a collector was late to write, is one', async () => {
    const { count } = await heard([
      spoken('e1', 10),
      spoken('e2', 20),
      // The backlog of the first run, and a status that lay in a collector's queue.
      spoken('e1', 10),
      spoken('e1', 15),
      spoken('e2', 30),
      spoken('e3', 40),
    ]);
    expect(count).toBe(0);
  });
});
