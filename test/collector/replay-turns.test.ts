/** What is decoded again keeps nobody else waiting: between some messages and the next the event loop has its turn. */
import { expect, it } from 'vitest';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import type { ConsumerOptions, LogConsumer } from '../../collector/log/log.ts';
import { LakeSite, frameOf } from '../support/lake-site.ts';
import { temporaryFolder, until } from '../support/process.ts';

const FRAMES = 6;
const MESSAGES = 600;

/** Turns of the event loop so far, and how many there were between the records of a replay and their commit. */
let turns = 0;
const between: number[] = [];

class Watched extends EmbeddedLog {
  override async consumer(options: ConsumerOptions): Promise<LogConsumer> {
    const consumer = await super.consumer(options);
    if (!options.group.startsWith('headwater-replay-')) return consumer;
    let from = 0;
    return {
      poll: async (waitMs) => {
        const records = await consumer.poll(waitMs);
        from = turns;
        return records;
      },
      commit: async (step) => {
        between.push(turns - from);
        await consumer.commit(step);
      },
      ended: () => consumer.ended(),
      close: () => consumer.close(),
    };
  }
}

it('a replay gives others their turn while it decodes', async () => {
  const site = new LakeSite(temporaryFolder(), { Log: Watched });
  await site.open();
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  try {
    const frames = Array.from({ length: FRAMES }, (_, n) => frameOf(1 + n * MESSAGES, MESSAGES));
    await site.append(frames);
    count();
    const { id } = await site.jobs.create({ which: 'all' });
    await until('the replay', () => site.jobs.isFinished(id) || undefined);
    expect(between.reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(FRAMES - 1);
  } finally {
    isOver = true;
    await site.close();
  }
});
