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
import { HeadwaterError } from '../../shared/errors.ts';
import type { KvOp } from '../../shared/kv/kv.ts';
import { failsTheCase } from '../support/broken.ts';

const LIMITED = { ...EMBEDDED_SUPPORTS, recordBytesMax: 10_000 };

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

/** Two members may have the same record, and the one who is late is fenced. */
class Racing extends EmbeddedLog {
  override holds(): boolean {
    return true;
  }
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    if ((step.offsets.get(0) ?? 0) <= (this.committed(group, topic) ?? 0))
      throw new HeadwaterError('LOG_FENCED', 'another one was faster');
    await super.commit(group, topic, step);
  }
}

class StateIsNotFenced extends Racing {
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    const state = step.produce.filter((record) => record.topic === 'suite-state');
    await this.submit(state, []);
    await super.commit(group, topic, step);
  }
}

/** Whatever other groups still have to read. */
class TrimTakesTooMuch extends EmbeddedLog {
  override async open(): Promise<void> {
    await super.open();
    const { progress } = this as unknown as { progress: { readByAll: () => number } };
    progress.readByAll = () => Number.POSITIVE_INFINITY;
  }
}

/** As a log on a server that takes small records only. */
class Limited extends EmbeddedLog {
  protected check(records: readonly LogRecord[]): void {
    if (records.some(({ value }) => value.length > LIMITED.recordBytesMax))
      throw new HeadwaterError('LOG_TOO_LARGE', 'it is too large');
  }
  override async append(topic: string, records: LogRecord[]): Promise<void> {
    this.check(records);
    await super.append(topic, records);
  }
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    this.check(step.produce);
    await super.commit(group, topic, step);
  }
}

class StepLeavesItsFront extends Limited {
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    for (const record of step.produce) {
      this.check([record]);
      await this.submit([record], []);
    }
    await super.commit(group, topic, { ...step, produce: [] });
  }
}

/** Away for a moment, as one whose server crashes. */
class Crashing extends EmbeddedLog {
  static isDown = false;
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    // Not over before it crashes.
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (Crashing.isDown) throw new HeadwaterError('LOG_UNAVAILABLE', 'it is away');
    await super.commit(group, topic, step);
  }
}

class StepIsCutOff extends Crashing {
  override async commit(group: string, topic: string, step: Step): Promise<void> {
    if (Crashing.isDown) await this.submit(step.produce, []);
    await super.commit(group, topic, step);
  }
}

async function crash(): Promise<void> {
  Crashing.isDown = true;
  await new Promise((resolve) => setTimeout(resolve, 100));
  Crashing.isDown = false;
}

const BROKEN: [string, typeof EmbeddedLog, string, typeof EmbeddedLog?][] = [
  ['a watch that always fails', WatchFails, 'a watch of nothing resolves'],
  ['a watch that resolves early', WatchIsEarly, 'a watch resolves only when everything'],
  ['leases that can be stolen', LeasesAreStolen, 'of two members that have the same record'],
  ['a lost removal', RemovalIsLost, 'a removed key stays removed'],
  ['offsets that skip', OffsetsSkip, 'is gone on from without a gap'],
  ['a step in two', StepIsTwo, 'a step commits output, state and offsets together'],
  ['lost appends', AppendsAreLost, 'the first records of a topic, appended at once, all stay'],
  ['polls without bound', PollsAreBoundless, 'a poll returns at most bytesMax'],
  ['a group that stays', NothingIsForgotten, 'a group that is forgotten holds no position'],
  [
    'state that is not fenced',
    StateIsNotFenced,
    'of two members that have the same record',
    Racing,
  ],
  ['a cut that takes too much', TrimTakesTooMuch, 'what a group has not read stays'],
  ['a step that leaves its front', StepLeavesItsFront, 'of which one record is too large', Limited],
  ['a step in two at a crash', StepIsCutOff, 'a step that a crash cuts off', Crashing],
];

it.each(BROKEN)('%s fails the case that says so', async (_, Broken, name, Sound = EmbeddedLog) => {
  const tested = (Tested: typeof EmbeddedLog): LogUnderTest => ({
    supports:
      Tested.prototype instanceof Limited || Tested === Limited ? LIMITED : EMBEDDED_SUPPORTS,
    crash,
    create: ({ folder, topics }: LogPlace) =>
      new Tested({ folder, cacheBytes: 1 << 20, topics, now: () => Date.now() }, () => undefined),
  });
  const adapters = { broken: tested(Broken), sound: tested(Sound) };
  await failsTheCase(LOG_CASES, name, adapters, runLogCase);
});
