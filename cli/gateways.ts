/** `headwater gateways`: the fleet, a line each. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { ask } from './api.ts';
import { linesText } from '../shared/telemetry/log.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  site: { value: 'NAME', about: 'Only those of this site.' },
  json: { about: "The API's JSON instead of text." },
};

export const GATEWAYS_HELP = helpText(
  'gateways [flags]',
  'Lists the gateways that a collector has seen or enrolled: state, last seen, site and labels, how long the certificate is good for, version, where it is, and what became of the settings declared for it.',
  FLAGS,
  `The API token comes from HEADWATER_TOKEN.

Example: headwater gateways --json`,
);

interface Gateway {
  gateway: string;
  connected: boolean;
  lastSeenMs: number | null;
  messages: number;
  doubled: boolean;
  enrolled?: {
    site: string;
    labels: Record<string, string>;
    revokedMs: number | null;
    certificate?: { toMs: number };
  };
  version?: string;
  location?: { latitude: number; longitude: number };
  config?: { state: string; why?: string };
}

const ago = (ms: number): string => {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800
    ? `${Math.round(seconds / 3600)} h ago`
    : `${Math.round(seconds / 86_400)} d ago`;
};

function stateOf({ connected, lastSeenMs, enrolled }: Gateway): string {
  if (enrolled?.revokedMs != null) return 'revoked';
  if (connected) return 'connected';
  return lastSeenMs === null ? 'not seen' : `seen ${ago(lastSeenMs)}`;
}

function certificateOf({ enrolled }: Gateway): string {
  if (enrolled?.certificate === undefined) return 'not enrolled';
  const days = Math.floor((enrolled.certificate.toMs - Date.now()) / 86_400_000);
  return days < 0 ? `certificate over for ${-days} d` : `certificate ${days} d`;
}

const configOf = ({ config }: Gateway): string =>
  config === undefined
    ? ''
    : `settings ${config.state}${config.why === undefined ? '' : `: ${config.why}`}`;

/** As lines for a person. */
export function gatewaysText(gateways: readonly Gateway[]): string {
  const rows = gateways.map((each) => [
    each.gateway,
    stateOf(each),
    `${each.messages} messages`,
    certificateOf(each),
    each.enrolled?.site ?? '',
    Object.entries(each.enrolled?.labels ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
    each.version ?? '',
    each.location === undefined ? '' : `${each.location.latitude},${each.location.longitude}`,
    configOf(each),
    each.doubled ? 'TWO MACHINES' : '',
  ]);
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return linesText(
    rows.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    ),
  );
}

export async function gateways(args: string[]): Promise<void> {
  const { values, help } = parseFlags('gateways', args, FLAGS, 0);
  if (help) {
    process.stdout.write(GATEWAYS_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const answer = await ask(address, '/api/v1/gateways');
  const { site } = values;
  const shown = answer.gateways.filter(
    ({ enrolled }) => typeof site !== 'string' || enrolled?.site === site,
  );
  process.stdout.write(
    values['json'] === true
      ? `${JSON.stringify({ gateways: shown })}\n`
      : shown.length === 0
        ? 'No gateway has been seen or enrolled. What became of join tokens: headwater enroll --list\n'
        : gatewaysText(shown),
  );
}
