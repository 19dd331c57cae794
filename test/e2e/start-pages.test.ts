/** The pages for newcomers, followed as they are read: what they say comes, comes. */
import { afterEach, describe, expect, it } from 'vitest';
import { LAKE_PYTHON } from '../services/servers.ts';
import { PAHO_PYTHON } from '../support/cache.ts';
import { blocksOf, follower, walk, type Follower } from '../support/followed-page.ts';

const PAGES = [
  ['start/device-makers', PAHO_PYTHON],
  ['start/operators', PAHO_PYTHON],
  ['start/field-engineers', PAHO_PYTHON],
  ['start/data-scientists', LAKE_PYTHON],
  ['start/developers', PAHO_PYTHON],
  ['reading', PAHO_PYTHON],
  ['from', PAHO_PYTHON],
] as const;

let page: Follower | undefined;
afterEach(() => page?.close());

describe('pages for newcomers', () => {
  it.each(PAGES)('%s: every block runs, and says what the page says', async (name, python) => {
    page = await follower(python);
    const blocks = blocksOf(`docs/${name}.md`);
    expect(blocks.length).toBeGreaterThan(3);
    for await (const { block, output, code, missing } of walk(page, blocks)) {
      expect(missing, `${block.body}\n${output}`).toEqual([]);
      expect(code, `${block.body}\n${output}`).toBe(0);
    }
  });
});
