/**
 * The hardware below a gateway, as far as Linux tells: what is written to the card and how long it lasts at that rate,
 * temperature, a board that is throttled or has too little voltage, memory. What a machine does not tell is left out.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { gauge, counter, type MetricTable, type Sample } from '../../shared/telemetry/metrics.ts';
import type { GatewayPart } from '../part.ts';

const THERMAL = 'sys/class/thermal';
/** Raspberry Pi's firmware; bits as `vcgencmd get_throttled` has them. */
const THROTTLED = 'sys/devices/platform/soc/soc:firmware/get_throttled';
const TROUBLES = ['under_voltage', 'frequency_capped', 'throttled', 'temperature_limit'];
const DAY_S = 86_400;
/** What was written in the first minutes, with all that a start does, says nothing about a day. */
const SETTLED_S = 600;

/** Undefined where there is no such file, or it may not be read. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export class Board {
  private readonly root: string;
  private readonly enduranceBytes: number;
  private readonly monotonicUs: () => number;
  private first: { bytes: number; atS: number } | undefined;

  /** `root` is '/', and a made-up folder in tests. */
  constructor(root: string, enduranceBytes: number, monotonicUs: () => number) {
    this.root = root;
    this.enduranceBytes = enduranceBytes;
    this.monotonicUs = monotonicUs;
  }

  /** What this process has had written to storage; NaN where it cannot be asked. */
  writtenBytes(): number {
    const text = read(join(this.root, 'proc/self/io')) ?? '';
    return Number(/^write_bytes: (\d+)$/m.exec(text)?.[1] ?? Number.NaN);
  }

  /** At the rate since it settled; NaN before. */
  writtenPerDay(): number {
    const [bytes, atS] = [this.writtenBytes(), this.monotonicUs() / 1e6];
    this.first ??= { bytes, atS };
    const passedS = atS - this.first.atS;
    return passedS < SETTLED_S ? Number.NaN : ((bytes - this.first.bytes) / passedS) * DAY_S;
  }

  /** How long the card lasts at that rate; NaN where nobody has said what it can take. */
  cardYears(): number {
    const perYear = this.writtenPerDay() * 365;
    return this.enduranceBytes === 0 || !(perYear > 0) ? Number.NaN : this.enduranceBytes / perYear;
  }

  temperatures(): Sample[] {
    const folder = join(this.root, THERMAL);
    let zones: string[];
    try {
      zones = readdirSync(folder).filter((name) => name.startsWith('thermal_zone'));
    } catch {
      return [];
    }
    return zones.sort().flatMap((zone) => {
      const [text, type] = [read(join(folder, zone, 'temp')), read(join(folder, zone, 'type'))];
      const value = Number(text) / 1000;
      return text === undefined || Number.isNaN(value)
        ? []
        : [{ labels: { zone: type ?? zone }, value }];
    });
  }

  /** What holds the board back right now. */
  troubles(): Sample[] {
    const text = read(join(this.root, THROTTLED));
    if (text === undefined) return [];
    const bits = Number.parseInt(text, 16);
    return TROUBLES.map((reason, bit) => ({ labels: { reason }, value: (bits >> bit) & 1 }));
  }
}

const METRICS: MetricTable<Board> = {
  headwater_board_written_bytes_total: counter(
    'What this process has had written to storage, file system included; NaN where the system does not tell.',
    (board) => board.writtenBytes(),
  ),
  headwater_board_written_bytes_per_day: gauge(
    'The same in a day, at the rate of this run; NaN in its first ten minutes.',
    (board) => board.writtenPerDay(),
  ),
  headwater_board_card_years: gauge(
    'How long the card lasts at that rate by `board.enduranceBytes`; NaN where that is not given.',
    (board) => board.cardYears(),
  ),
  headwater_board_temperature_celsius: gauge('Temperature, by zone.', (board) =>
    board.temperatures(),
  ),
  headwater_board_held_back: gauge(
    '1 while a Raspberry Pi is held back, by reason: under_voltage, frequency_capped, throttled, temperature_limit.',
    (board) => board.troubles(),
  ),
  headwater_board_memory_available_bytes: gauge('Memory that is left on the machine.', () =>
    freemem(),
  ),
};

export const boardPart: GatewayPart<Board> = {
  name: 'board',
  open: ({ context: { config, env } }) => {
    const board = new Board('/', config['board.enduranceBytes'], () => env.clock.monotonicUs());
    board.writtenPerDay(); // From now on it is counted.
    return board;
  },
  metrics: METRICS,
};
