/** The pages for newcomers, followed as they are read: what they say comes, comes. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { LAKE_PYTHON } from '../services/servers.ts';
import { CACHE } from '../support/cache.ts';
import { blocksOf, follower, type Follower } from '../support/followed-page.ts';
import { join } from 'node:path';

const PAHO = join(CACHE, 'paho-2.1.0', 'bin', 'python');
const PAGES = [
  ['start/device-makers', PAHO],
  ['start/operators', PAHO],
  ['start/field-engineers', PAHO],
  ['start/data-scientists', LAKE_PYTHON],
  ['start/developers', PAHO],
  ['reading', PAHO],
] as const;

/** What is published is seen a moment later: a block that only asks is asked again. */
const TRIES = 40;
const asksOnly = (body: string): boolean =>
  !/publish|simulate|npm|mosquitto_pub|--data '|headwater (?:gateway|collector|up|enroll)|stop /.test(
    body,
  );

const missing = (said: string, output: string): string[] =>
  said
    .trim()
    .split('\n')
    .filter((line) => {
      const parts = line.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      return !new RegExp(parts.join('[^\\n]*')).test(output);
    });

let page: Follower | undefined;
afterEach(() => page?.close());

describe('pages for newcomers', () => {
  it.each(PAGES)('%s: every block runs, and says what the page says', async (name, python) => {
    page = await follower(python);
    const blocks = blocksOf(`docs/${name}.md`);
    expect(blocks.length).toBeGreaterThan(3);
    for (const [index, block] of blocks.entries()) {
      if (block.language === 'text') continue;
      const next = blocks[index + 1];
      const said = next?.language === 'text' ? next.body : '';
      let { output, code } = page.run(block);
      // Lines that only ask are asked again until what was published has arrived; what was done is not done again.
      const asking = block.body.split('\n').filter((line) => line !== '' && asksOnly(line));
      const again = { ...block, body: asking.join('\n') };
      const canWait = block.language === 'sh' && asking.length > 0;
      for (let each = 0; each < TRIES && canWait && missing(said, output).length > 0; each++) {
        await delay(100);
        const once = page.run(again);
        output += once.output;
        code = once.code;
      }
      expect(missing(said, output), `${block.body}\n${output}`).toEqual([]);
      expect(code, `${block.body}\n${output}`).toBe(0);
    }
  });
});
