// Makes the secrets that compose.yaml needs, random, mode 0600, in ./secrets. What is there already stays.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = process.argv[2] ?? join(root, 'secrets');
mkdirSync(folder, { recursive: true, mode: 0o700 });
const random = () => randomBytes(24).toString('base64url');
const write = (name, make) => {
  const path = join(folder, name);
  if (existsSync(path)) return;
  writeFileSync(path, make(), { mode: 0o600 });
  process.stdout.write(`wrote ${path}\n`);
};

for (const name of ['influxdb_password', 'uplink_secret', 'api_token', 'grafana_password'])
  write(name, random);
const token = random();
if (!existsSync(join(folder, 'influxdb_token'))) {
  write('influxdb_token', () => token);
  write('influxdb.env', () => `HEADWATER_INFLUXDB_TOKEN=${token}\n`);
}
if (!existsSync(join(folder, 'mqtt_passwords'))) {
  const password = random();
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'cli/bin.mjs'), 'password', 'device'],
    { input: password, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(stderr);
  write('mqtt_passwords', () => stdout);
  write('mqtt_password_of_device', () => `${password}\n`);
}
