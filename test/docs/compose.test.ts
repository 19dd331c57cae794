/** compose.yaml without an engine: the step that hands out secrets is run, with files of a user that no container has. */
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ROOT, temporaryFolder } from '../support/process.ts';

/** As the images' entry points run: Grafana 472, InfluxDB and ours 1000. */
const USERS: Record<string, number> = {
  influxdb: 1000,
  collector: 1000,
  gateway: 1000,
  grafana: 472,
};

describe('compose.yaml', () => {
  it('each service gets the secrets that it names, readable by its own user alone, whoever owns them on the host; twice as well as once', () => {
    const { services } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')) as {
      services: Record<string, { command: string[] }>;
    };
    const folder = temporaryFolder();
    execFileSync(process.execPath, ['scripts/compose-secrets.mjs', join(folder, 'from')], {
      cwd: ROOT,
      stdio: 'ignore',
    });
    for (const name of readdirSync(join(folder, 'from')))
      chownSync(join(folder, 'from', name), 4321, 4321);
    for (const name of Object.keys(USERS))
      mkdirSync(join(folder, 'for', name), { recursive: true });
    // As compose reads it: `$$` is a dollar.
    const script = (services['secrets']?.command[0] ?? '')
      .replaceAll('$$', '$')
      .replaceAll('/for/', `${folder}/for/`)
      .replaceAll('/from/', `${folder}/from/`);
    for (const _time of [1, 2]) execFileSync('/bin/sh', ['-ec', script]);
    for (const [name, user] of Object.entries(USERS)) {
      const named = [...JSON.stringify(services[name]).matchAll(/\/run\/secrets\/(\w+)/g)].map(
        ([, secret]) => secret,
      );
      expect(readdirSync(join(folder, 'for', name)).sort(), name).toEqual(
        [...new Set(named)].sort(),
      );
      for (const secret of named) {
        const { uid, mode } = statSync(join(folder, 'for', name, String(secret)));
        expect({ uid, mode: mode & 0o777 }, `${name} ${secret}`).toEqual({
          uid: user,
          mode: 0o400,
        });
      }
    }
  });
});
