/** The Log suite finds what is broken: each of these logs breaks one law, and the case that states it fails. */
import { it } from 'vitest';
import {
  LOG_CASES,
  runLogCase,
  type LogPlace,
  type LogUnderTest,
} from '../../contracts/suite/log.ts';
import { EMBEDDED_SUPPORTS, EmbeddedLog } from '../../collector/log/embedded.ts';
import type { LogRecord, Produced, Step, StoredRecord, Watch } from '../../collector/log/log.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { failsTheCase } from '../support/broken.ts';

type Listener = (records: LogRecord[]) => void;

class WatchFails extends EmbeddedLog {
  override watch(): Promise<Watch> {
    return Promise.reject(new Error('no watch today'));
  }
}

class WatchIsEarly extends EmbeddedLog {
  override watch(topic: string, onRecords: Listener): Promise<Watch> {
    setTimeout(() => void super.watch(topic, onRecords).catch(() => undefined), 100);
    return Promise.resolve({ close: () => Promise.resolve() });
  }
}

class LeasesAreStolen extends EmbeddedLog {
  override holds(): boolean {
    return true;
  }
}

class RemovalIsLost extends EmbeddedLog {
  override async submit(produce: Produced[], more: KvOp[]): Promise<void> {
    const kept = produce.filter(({ topic, value }) => topic !== 'suite-state' || value.length > 0);
    await super.submit(kept, more);
  }
}

class OffsetsSkip extends EmbeddedLog {
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    const offsets = new Map([...step.offsets].map(([partition, next]) => [partition, next + 1]));
    await super.commit(group, topic, { ...step, offsets });
  }
}

class StepIsTwo extends EmbeddedLog {
  override async commit(_group: string, _topic: string, step: Step): Promise<void> {
    await this.submit(step.produce, []); // The position stays behind.
  }
}

class AppendsAreLost extends EmbeddedLog {
  private count = 0;
  override async append(topic: string, records: LogRecord[]): Promise<void> {
    if (this.count++ % 20 !== 7) await super.append(topic, records);
  }
}

class PollsAreBoundless extends EmbeddedLog {
  override async read(name: string, from: number): Promise<StoredRecord[]> {
    return await super.read(name, from, 1 << 30);
  }
}

class NothingIsForgotten extends EmbeddedLog {
  override forget(): Promise<void> {
    return Promise.resolve();
  }
}

it.each([
  ['a watch that always fails', WatchFails, 'a watch of nothing resolves'],
  ['a watch that resolves early', WatchIsEarly, 'a watch resolves only when everything'],
  ['leases that can be stolen', LeasesAreStolen, 'of two members that have the same record'],
  ['a lost removal', RemovalIsLost, 'a removed key stays removed'],
  ['offsets that skip', OffsetsSkip, 'is gone on from without a gap'],
  ['a step in two', StepIsTwo, 'a step commits output, state and offsets together'],
  ['lost appends', AppendsAreLost, 'the first records of a topic, appended at once, all stay'],
  ['polls without bound', PollsAreBoundless, 'a poll returns at most bytesMax'],
  ['a group that stays', NothingIsForgotten, 'a group that is forgotten holds no position'],
])('%s fails the case that says so', async (_, Broken, name) => {
  const tested = (Tested: typeof EmbeddedLog): LogUnderTest => ({
    supports: EMBEDDED_SUPPORTS,
    create: ({ folder, topics }: LogPlace) =>
      new Tested({ folder, cacheBytes: 1 << 20, topics, now: () => Date.now() }, () => undefined),
  });
  const adapters = { broken: tested(Broken), sound: tested(EmbeddedLog) };
  await failsTheCase(LOG_CASES, name, adapters, runLogCase);
});
