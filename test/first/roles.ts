/** What each kind of newcomer does first, and how long it may take. */
import { existsSync } from 'node:fs';
import { LAKE_PYTHON } from '../services/servers.ts';
import { PAHO_PYTHON } from '../support/cache.ts';
import { blocksOf, follower, walk } from '../support/followed-page.ts';
import { anyone } from './anyone.ts';

export interface Told {
  steps: { what: string; seconds: number }[];
  /** What was not as it should be. */
  failure: string | undefined;
  /** What this machine has no means for. */
  left: string[];
}

interface Role {
  goalSeconds: number;
  /** What its lines use beside Node, for test/services/install.sh; `.ci/run` brings the same. */
  needs: string[];
  walk: () => Promise<Told>;
}

/** Of about a third of a second each. */
const TRIES = 300;
/** Of what a line printed that did not do: the last of many tries. */
const SHOWN_CHARS = 2000;

const firstLine = (body: string): string =>
  (body.trim().split('\n')[0] ?? '').replace('npx --no-install ', '').slice(0, 90);

/** A page of the docs from its first line to its last. */
const reader =
  (name: string, python: string): Role['walk'] =>
  async () => {
    const told: Told = { steps: [], failure: undefined, left: [] };
    // As it is for a newcomer: the lake gathers for its minute.
    const page = await follower(python, {});
    const blocks = blocksOf(`docs/start/${name}.md`).filter(({ language, body }) => {
      const isMissing = language === 'python' && !existsSync(python);
      if (isMissing) told.left.push(`${firstLine(body)} …: ${python} is not there`);
      return !isMissing;
    });
    let began = performance.now();
    for await (const { block, output, code, missing } of walk(page, blocks, TRIES)) {
      const seconds = (performance.now() - began) / 1000;
      told.steps.push({ what: firstLine(block.body), seconds });
      if (code !== 0 || missing.length > 0) {
        told.failure = `${block.body.trim()}\nended with ${code}, without: ${missing.join(' | ')}\n${output.slice(-SHOWN_CHARS)}`;
        break;
      }
      began = performance.now();
    }
    page.close();
    return told;
  };

export const ROLES: Record<string, Role> = {
  anyone: { goalSeconds: 60, needs: ['chromium'], walk: anyone },
  'device-makers': {
    goalSeconds: 120,
    needs: ['paho', 'mosquitto'],
    walk: reader('device-makers', PAHO_PYTHON),
  },
  operators: {
    goalSeconds: 180,
    needs: [],
    walk: reader('operators', PAHO_PYTHON),
  },
  'data-scientists': {
    goalSeconds: 300,
    needs: ['lake-python'],
    walk: reader('data-scientists', LAKE_PYTHON),
  },
  'field-engineers': {
    goalSeconds: 600,
    needs: [],
    walk: reader('field-engineers', PAHO_PYTHON),
  },
};
