/** What holds of the code as text. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from './support/process.ts';

const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(ROOT, file)));
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const sources = files.filter(
  (file) => file.endsWith('.ts') && !file.startsWith('test/') && !file.includes('/generated/'),
);
const importsOf = (file: string): string[] =>
  [...read(file).matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, name]) => name as string);

describe('tidy', () => {
  it('gateway → shared ← collector, and shared uses neither', () => {
    const wrong = sources.flatMap((file) =>
      importsOf(file)
        .filter((name) => {
          if (file.startsWith('gateway/'))
            return name.includes('/collector/') || name.includes('/cli/');
          if (file.startsWith('collector/'))
            return name.includes('/gateway/') || name.includes('/cli/');
          return file.startsWith('shared/') && /\/(gateway|collector|cli)\//.test(name);
        })
        .map((name) => `${file} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  it('contracts/ needs nothing else of ours', () => {
    const folders = new Map([
      ['contracts/', /^(\.\/|node:)/],
      ['contracts/suite/', /^(\.\.?\/|node:)/],
    ]);
    const wrong = sources
      .filter((file) => file.startsWith('contracts/'))
      .flatMap((file) => {
        const folder = file.slice(0, file.lastIndexOf('/') + 1);
        return importsOf(file)
          .filter(
            (name) =>
              !(folders.get(folder)?.test(name) ?? false) ||
              /^\.\.\/\.\.|\.\.\/(shared|collector)/.test(name),
          )
          .map((name) => `${file} imports ${name}`);
      });
    expect(wrong).toEqual([]);
  });

  it.each([
    'classic-level',
    '@duckdb/node-api',
    'node-rdkafka',
    'cborg',
    'csv-parse/sync',
    '@msgpack/msgpack',
    'quickjs-emscripten-core',
    '@aws-sdk/client-s3',
    '@peculiar/x509',
    'amaro',
    'nodemailer',
    'cron-parser',
  ])('%s is imported in one file', (name) => {
    const users = sources.filter(
      (file) =>
        importsOf(file).includes(name) || read(file).includes(`createRequire(folder)('${name}')`),
    );
    expect(users).toHaveLength(1);
  });

  it('the SBOM has every package of the lock files, with version, licence and hash, and is the same each time', () => {
    const sbom = (): string =>
      execFileSync(process.execPath, ['scripts/sbom.mjs'], {
        cwd: ROOT,
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024,
      });
    const text = sbom();
    expect(text).not.toContain(ROOT);
    expect(sbom()).toBe(text);
    const { bomFormat, components } = JSON.parse(text) as {
      bomFormat: string;
      components: { purl: string; licenses?: unknown[]; hashes?: unknown[] }[];
    };
    expect(bomFormat).toBe('CycloneDX');
    const listed = new Map(
      components.map((each) => [decodeURIComponent(each.purl.replace('pkg:npm/', '')), each]),
    );
    for (const folder of ['', 'collector/kafka-client/']) {
      const { packages } = JSON.parse(read(`${folder}package-lock.json`)) as {
        packages: Record<string, { version: string; link?: boolean }>;
      };
      for (const [path, { version, link }] of Object.entries(packages)) {
        if (!path.includes('node_modules/') || link === true) continue;
        const name = `${path.split('node_modules/').at(-1)}@${version}`;
        expect(listed.get(name)?.hashes, name).toHaveLength(1);
        expect(listed.get(name)?.licenses, name).toHaveLength(1);
      }
    }
  });

  it('the production SBOM has what an installation brings and what the page is bundled of, and no tools', () => {
    const text = execFileSync(process.execPath, ['scripts/sbom.mjs', '--production'], {
      cwd: ROOT,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    const { components, dependencies } = JSON.parse(text) as {
      components: { 'bom-ref': string; name: string; version: string; scope: string }[];
      dependencies: { ref: string; dependsOn: string[] }[];
    };
    const wanted = new Set<string>();
    for (const folder of ['', 'collector/kafka-client/']) {
      const { packages } = JSON.parse(read(`${folder}package-lock.json`)) as {
        packages: Record<string, { version: string; link?: boolean; dev?: boolean }>;
      };
      for (const [path, { version, link, dev }] of Object.entries(packages)) {
        const name = path.split('node_modules/').at(-1) as string;
        if (!path.includes('node_modules/') || link === true) continue;
        if (dev !== true || name === 'preact' || name === 'uplot') wanted.add(`${name}@${version}`);
      }
    }
    const listed = new Map(
      components
        .filter((each) => !each['bom-ref'].startsWith('@headwater/'))
        .map((each) => [`${each.name}@${each.version}`, each]),
    );
    expect([...listed.keys()].toSorted()).toEqual([...wanted].toSorted());
    for (const [name, { scope }] of listed)
      if (/^(preact|uplot)@/.test(name)) expect(scope).toBe('required');
    const refs = new Set(components.map((each) => each['bom-ref'])).add('headwater@0.1.0');
    for (const { ref, dependsOn } of dependencies)
      for (const each of [ref, ...dependsOn])
        if (!each.startsWith('@headwater/kafka-client@')) expect(refs, each).toContain(each);
  });

  it('the gateway has few dependencies, and none of the collector', () => {
    const names = ['gateway', 'shared'].flatMap((part) =>
      Object.keys(
        (JSON.parse(read(`${part}/package.json`)) as { dependencies: object }).dependencies,
      ),
    );
    expect([...new Set(names)].sort()).toEqual([
      '@headwater/shared',
      '@peculiar/x509', // Loaded when a certificate is asked for.
      'aedes',
      'aedes-persistence',
      'classic-level',
      'mqtt',
      'mqtt-packet', // Comes with both: named, since one of its caches is switched off.
      'reflect-metadata', // What it stands on.
      'ws',
      'yaml',
    ]);
  });

  it('a module opens by saying what it is, and stays short', () => {
    for (const file of sources) {
      const text = read(file);
      expect(text.startsWith('/**'), `${file} has no header`).toBe(true);
      expect(text.split('\n').length, file).toBeLessThan(620);
    }
  });

  it('nothing is left for later, and no type is given up', () => {
    for (const file of files.filter(
      (each) => each.endsWith('.ts') && each !== 'test/tidy.test.ts',
    )) {
      expect(read(file), file).not.toMatch(
        /\b(TODO|FIXME|XXX|HACK)\b|: any\b|\bas any\b|@ts-ignore|@ts-nocheck|\benum [A-Z]|\.only\(/,
      );
    }
  });

  it('locks name no registry, and commits no machine', () => {
    for (const file of files.filter(
      (each) => /\.(ts|mjs|js|json|md|ya?ml|sh|txt)$/.test(each) && each !== 'test/tidy.test.ts',
    )) {
      expect(read(file), file).not.toMatch(
        /"resolved": "https?:|\/root\/|\/work\/|\/home\/[a-z]+\//,
      );
    }
    expect(files.some((file) => file === 'package-lock.json')).toBe(true);
    expect(JSON.stringify(JSON.parse(read('package-lock.json')))).not.toContain('node-rdkafka');
  });

  it('every global of time and chance is in shared/env, the commands or the tests', () => {
    const allowed =
      /^(shared\/env\/|cli\/|scripts\/|dashboards\/page\/|gateway\/ops\/page\.ts$)|main\.ts$/;
    const users = sources.filter(
      (file) =>
        !allowed.test(file) && /\bDate\.now\(\)|Math\.random\(\)|new Date\(\)/.test(read(file)),
    );
    expect(users).toEqual([]);
  });

  it('compose.yaml pins its images and has no default password', () => {
    const text = read('compose.yaml');
    for (const [, image] of text.matchAll(/image: (.+)/g)) expect(image).toMatch(/:\d+\.\d+\.\d+$/);
    expect(text).not.toMatch(/_PASSWORD: |admin:admin|changeme/);
    // Only what asks devices for a password is published beyond loopback.
    for (const [, port] of text.matchAll(/ports: \["([^"]+)"/g))
      expect(port).toMatch(/^127\.0\.0\.1:|^\$\{HEADWATER_MQTT_BIND:-0\.0\.0\.0\}:1883:1883$/);
  });

  it('compose.yaml hands each service secrets that its own user can read, and no file secret of the host', () => {
    const { services } = parse(read('compose.yaml')) as {
      services: Record<string, { secrets?: unknown; volumes?: string[]; user?: string }>;
    };
    const given = read('compose.yaml');
    for (const [name, { secrets, volumes }] of Object.entries(services)) {
      expect(secrets, name).toBeUndefined();
      if (volumes?.includes(`${name}-secrets:/run/secrets:ro`))
        expect(given).toMatch(new RegExp(`give ${name} \\d+ \\w`));
    }
    // As each image's entry point runs: Grafana 472, InfluxDB and ours 1000.
    expect(given).toMatch(/give grafana 472 /);
    expect(given.match(/\/run\/secrets\/\w+/g)?.sort()).toEqual(
      [
        'influxdb_password',
        'influxdb_token',
        'uplink_secret',
        'api_token',
        'uplink_secret',
        'mqtt_passwords',
        'grafana_password',
      ]
        .map((name) => `/run/secrets/${name}`)
        .sort(),
    );
  });

  it('the package of the collector has what its code reads of the installation', () => {
    const deb = read('scripts/deb.mjs');
    const collector = deb.slice(deb.indexOf('  collector: {'));
    const wanted = sources
      .filter((file) => /^(collector|cli)\//.test(file))
      .flatMap((file) => [...read(file).matchAll(/fileOfPackage\('([^']+)'\)/g)])
      .map(([, name]) => name as string);
    expect(wanted).toContain('dist/page');
    for (const name of wanted) expect(collector.includes(`'${name}'`), name).toBe(true);
  });

  it('the Dockerfile installs every workspace, and its context leaves out what no image needs', () => {
    const { workspaces } = JSON.parse(read('package.json')) as { workspaces: string[] };
    for (const name of workspaces)
      expect(
        read('Dockerfile').match(new RegExp(`^COPY ${name}/package.json ${name}/$`, 'gm')),
        name,
      ).toHaveLength(2);
    const context = read('.dockerignore').split('\n');
    expect(context).toContain('*');
    // The build of the image needs whatever the build is made of.
    const needed = (file: string): string[] => [
      file,
      ...[...read(`scripts/${file}`).matchAll(/(?:from|import\() ?'\.\/([^']+)'/g)].flatMap(
        ([, name = '']) => needed(name),
      ),
    ];
    const all = needed('build.mjs');
    expect(all.length).toBeGreaterThan(1);
    for (const file of all) expect(context).toContain(`!scripts/${file}`);
  });
});
