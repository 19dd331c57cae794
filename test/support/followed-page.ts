/**
 * Follows a page of the docs as its reader would: `sh` blocks run one after another in one folder, `python` and `js` blocks
 * as programs, `yaml` blocks are the file that the text before them names. What a `text` block says must be in the output of
 * the block before it, line for line, `…` for anything.
 *
 * Ports of the page are replaced by free ones. Servers go on in the background until the end or `stop NAME`; `npm ci` has
 * been done already. Nothing else is changed.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { ROOT, temporaryFolder } from './process.ts';

export interface Block {
  language: string;
  body: string;
  /** The last file that the text before it names. */
  file: string | undefined;
}

export function blocksOf(page: string): Block[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const blocks: Block[] = [];
  let end = 0;
  for (const match of text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)) {
    const before = text.slice(end, match.index);
    const file = [...before.matchAll(/`([\w.-]+\.\w+)`/g)].at(-1)?.[1];
    blocks.push({ language: match[1] ?? '', body: match[2] ?? '', file });
    end = match.index + match[0].length;
  }
  return blocks;
}

/** What is published is seen a moment later: a block that only asks is asked again. */
const TRIES_USUAL = 40;
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

export interface Step {
  block: Block;
  output: string;
  code: number | null;
  /** Lines that the page promises and that did not come. */
  missing: string[];
}

/** Each block of a page in its turn. Lines that only ask are asked again until what was published has arrived. */
export async function* walk(
  page: Follower,
  blocks: readonly Block[],
  tries = TRIES_USUAL,
): AsyncGenerator<Step> {
  for (const [index, block] of blocks.entries()) {
    if (block.language === 'text') continue;
    const next = blocks[index + 1];
    const said = next?.language === 'text' ? next.body : '';
    let { output, code } = page.run(block);
    // What was done is not done again.
    const asking = block.body.split('\n').filter((line) => line !== '' && asksOnly(line));
    const again = { ...block, body: asking.join('\n') };
    const canWait = block.language === 'sh' && asking.length > 0;
    for (let each = 0; each < tries && canWait && missing(said, output).length > 0; each++) {
      await delay(100);
      const once = page.run(again);
      output += once.output;
      code = once.code;
    }
    yield { block, output, code, missing: missing(said, output) };
  }
}

/** Waits for the ready line, so that the next command finds the server; its output goes on into a file. */
const SERVER = `serve() {
  name=$1; shift
  node "$ROOT/cli/bin.mjs" "$name" "$@" > "$WORK/$name.log" 2>&1 &
  echo $! > "$WORK/$name.pid"
  for _ in $(seq 600); do
    grep -q '^ready ' "$WORK/$name.log" && return 0
    kill -0 "$(cat "$WORK/$name.pid")" 2>/dev/null || break
    sleep 0.1
  done
  cat "$WORK/$name.log"; return 1
}
`;

/** Commands whose address is not given get that of this run. */
const HEADWATER = `#!/bin/bash
${SERVER}
command=$1
case "$command" in
  up) shift; serve up --mqtt "127.0.0.1:$MQTT" --http "127.0.0.1:$HTTP" --gateway-http "127.0.0.1:$GATEWAY" --uplink 127.0.0.1:0 "$@" ;;
  collector) shift; serve collector --http "127.0.0.1:$HTTP" --uplink 127.0.0.1:0 "$@" ;;
  gateway) shift; serve gateway --mqtt "127.0.0.1:$MQTT" --http "127.0.0.1:$GATEWAY" "$@" ;;
  publish|simulate|replay) exec node "$ROOT/cli/bin.mjs" "$@" --mqtt "127.0.0.1:$MQTT" ;;
  try|help|doctor|completion|password|token) exec node "$ROOT/cli/bin.mjs" "$@" ;;
  mapping) exec node "$ROOT/cli/bin.mjs" "$@" --http "127.0.0.1:$HTTP" --gateway-http "127.0.0.1:$GATEWAY" ;;
  *) exec node "$ROOT/cli/bin.mjs" "$@" --http "127.0.0.1:$HTTP" ;;
esac
`;
const NPM = `#!/bin/bash
[ "$1" = ci ] && exit 0
[ "$1" = start ] || exit 1
shift; [ "$1" = -- ] && shift
exec headwater up "$@"
`;
const NPX = '#!/bin/bash\nshift\nexec "$@"\n';
const STOP =
  '#!/bin/bash\npid=$(cat "$WORK/$1.pid"); kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done\n';

export interface Follower {
  /** Runs a block; its output, and its exit code. */
  run(block: Block): { output: string; code: number | null };
  /** With the ports of this run. */
  placed(text: string): string;
  close(): void;
}

/** `environment` is that of everything that the page starts. */
export async function follower(
  python: string,
  environment: Record<string, string> = { HEADWATER_LAKE_FLUSH_SECONDS: '1' },
): Promise<Follower> {
  const work = temporaryFolder();
  const bin = join(work, 'bin');
  mkdirSync(bin);
  const scripts = { headwater: HEADWATER, npm: NPM, npx: NPX, stop: STOP };
  for (const [name, text] of Object.entries(scripts)) {
    writeFileSync(join(bin, name), text);
    chmodSync(join(bin, name), 0o755);
  }
  symlinkSync(join(ROOT, 'node_modules'), join(work, 'node_modules'));
  const ports: Record<string, number> = {};
  for (const each of ['1883', '8080', '8081', '8885', '8886']) ports[each] = await freePort();
  const placed = (text: string): string =>
    text
      .replaceAll(
        /127\.0\.0\.1:(1883|8080|8081|8885|8886)/g,
        (_, port) => `127.0.0.1:${ports[port]}`,
      )
      .replaceAll(/(127\.0\.0\.1",? |-p )1883/g, `$1${ports['1883']}`);
  const env = {
    ...process.env,
    PATH: `${bin}:${process.env['PATH'] ?? ''}`,
    ...environment,
    ...{ ROOT, WORK: work },
    ...{ MQTT: `${ports['1883']}`, HTTP: `${ports['8080']}`, GATEWAY: `${ports['8081']}` },
  };
  const start = (command: string, args: string[]): { output: string; code: number | null } => {
    const { stdout, status, error } = spawnSync(command, args, {
      ...{ cwd: work, env, encoding: 'utf8', timeout: 90_000 },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return { output: `${stdout}${error?.message ?? ''}`, code: status };
  };
  return {
    placed,
    run: ({ language, body, file }) => {
      const text = placed(body);
      if (language === 'sh') return start('bash', ['-c', `exec 2>&1\n${text}`]);
      const name = file ?? 'file';
      if (language === 'yaml') writeFileSync(join(work, name), body);
      else if (language === 'python') return start(python, ['-c', text]);
      else if (language === 'js') {
        writeFileSync(join(work, 'block.mjs'), text);
        return start(process.execPath, ['block.mjs']);
      }
      return { output: '', code: 0 };
    },
    close: () => {
      for (const name of ['gateway', 'collector', 'up'])
        spawnSync('bash', ['-c', `[ ! -e ${name}.pid ] || kill "$(cat ${name}.pid)"`], {
          cwd: work,
        });
    },
  };
}
