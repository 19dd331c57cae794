// What has to be so on a machine that was flashed and has booted (docs/flash.md), asked of the machine itself and of its card.
import { execFileSync, spawnSync } from 'node:child_process';
import { ROOT_AT } from './flash-stock.mjs';

/** A line each, NAME=VALUE. */
const ASK = `
service=headwater-gateway.service
main=$(systemctl show -p MainPID --value $service)
data=/var/lib/headwater-gateway
echo "exposure=$(systemd-analyze security --no-pager $service 2>/dev/null | sed -n 's/.*Overall exposure level.*: \\([0-9.]*\\) .*/\\1/p')"
echo "user=$(stat -c %U /proc/$main)"
echo "watchdog=$(systemctl show -p WatchdogUSec --value $service)"
echo "board=$(systemctl show -p RuntimeWatchdogUSec --value)"
echo "key=$(stat -c '%U %a' $data/data/identity/own.pem)"
echo "folder=$(stat -c '%U %a' $data)"
echo "token=$(ls $data/join.token /var/lib/headwater-flash /var/lib/cloud/seed/nocloud/network-config 2>/dev/null | tr '\\n' ' ')"
echo "passwords=$(awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow | tr '\\n' ' ')"
echo "ssh=$(sshd -T | grep -E '^(passwordauthentication|kbdinteractiveauthentication|permitemptypasswords) ' | grep -v ' no$' | tr '\\n' ' ')"
echo "root=$(grep -c -v -E '^(#|$|.*command=)' ~root/.ssh/authorized_keys 2>/dev/null)"
echo "open=$(ss -Hltn | awk '$4 !~ /^(127\\.|\\[::1\\]|\\[::ffff:127)/ {sub(/.*:/, "", $4); print $4}' | sort -un | tr '\\n' ' ')"
echo "writable=$(find /usr/lib/headwater-gateway /etc/headwater -perm /o+w ! -type l | tr '\\n' ' ')"
echo "passwordfile=$(stat -c '%U %a' /etc/headwater/passwords)"
echo "failed=$(systemctl --failed --no-legend --plain | awk '{print $1}' | tr '\\n' ' ')"
echo "grown=$(df --output=size -B 1000000 / | tail -n 1)"
echo "card=$(($(cat /sys/block/[uv]*a/size | head -n 1) / 1954))"
echo "memory=$(awk '/^VmRSS/ {print $2}' /proc/$main/status)"
echo "system=$(free -k | awk '/^Mem/ {print $3}')"
`;

const WANTED = {
  'the unit is exposed less than 2 (systemd-analyze security)': ({ exposure }) =>
    Number(exposure) > 0 && Number(exposure) < 2,
  'the service runs as its own user': ({ user }) => user === 'headwater-gateway',
  'its watchdog is armed': ({ watchdog }) => watchdog === '1min',
  'the board’s watchdog is asked for': ({ board }) => board === '1min',
  'key and data folder are its own, and nobody else reads them': ({ key, folder }) =>
    key === 'headwater-gateway 600' && folder === 'headwater-gateway 700',
  'token, Wi-Fi and first boot are gone': ({ token }) => token === '',
  'nobody has a password': ({ passwords }) => passwords === '',
  'ssh takes keys alone, and root has none': ({ ssh, root }) =>
    ssh === '' && (root === '' || root === '0'),
  'nothing listens to the network but MQTT and ssh': ({ open }) => open === '22 1883',
  'nobody but root writes program and settings': ({ writable }) => writable === '',
  'the passwords of devices are the service’s': ({ passwordfile }) =>
    passwordfile === 'headwater-gateway 600',
  'the file system has grown to the card’s end': ({ grown, card }) => Number(grown) > 0.85 * card,
  'no unit of ours has failed': ({ failed }) => !failed.includes('headwater'),
};

/** Without a board's watchdog where the machine is made so that it has none. */
export function assertMachine(ssh, say, hasNoBoard) {
  const answers = Object.fromEntries(
    ssh
      .run(ASK)
      .split('\n')
      .filter((line) => line.includes('='))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1).trim()]),
  );
  for (const [what, is] of Object.entries(WANTED)) {
    if (hasNoBoard && what.includes('board')) continue;
    if (!is(answers)) throw new Error(`not so: ${what} (${JSON.stringify(answers)})`);
    say(what);
  }
  if (answers.failed !== '') say(`of the stock image: ${answers.failed} failed`);
  say(
    `exposure ${answers.exposure}; the gateway takes ${Math.round(answers.memory / 1024)} MB, the whole system ${Math.round(answers.system / 1024)} MB`,
  );
}

/** Of the card, when the machine is off. */
export function assertCard(card, token) {
  const secret = JSON.parse(Buffer.from(token.trim().slice(4), 'base64url').toString()).s;
  const { status } = spawnSync('grep', ['-q', '-a', '-F', '-e', secret, '-e', token.trim(), card]);
  if (status !== 1) throw new Error('the join token can still be read from the card');
  const own = execFileSync(
    'debugfs',
    ['-R', 'cat /var/lib/headwater-gateway/data/identity/own.pem', `${card}?offset=${ROOT_AT}`],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    },
  );
  if (!own.includes('PRIVATE KEY')) throw new Error('the key was not made on the machine');
}
