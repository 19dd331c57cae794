/** A progress bar on a terminal; silence elsewhere. */
const BAR_WIDTH = 30;
const EVERY_MS = 100;

const timeText = (seconds: number): string =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

export class Progress {
  private readonly label: string;
  private readonly unit: string;
  private readonly total: number | undefined;
  private readonly started = performance.now();
  private lastMs = 0;
  private readonly isTerminal = process.stderr.isTTY === true;

  /** `total` undefined: only the count is shown. */
  constructor(label: string, total: number | undefined, unit = 'rows') {
    this.label = label;
    this.total = total;
    this.unit = unit;
  }

  show(done: number, force = false): void {
    const now = performance.now();
    if (!this.isTerminal || (!force && now - this.lastMs < EVERY_MS)) return;
    this.lastMs = now;
    const rate = done / Math.max(0.001, (now - this.started) / 1000);
    const share =
      this.total === undefined || this.total === 0 ? undefined : Math.min(1, done / this.total);
    const bar =
      share === undefined
        ? ''
        : ` [${'#'.repeat(Math.round(share * BAR_WIDTH)).padEnd(BAR_WIDTH)}] ${Math.floor(share * 100)} %`;
    const left =
      this.total === undefined || rate === 0 || done >= this.total
        ? ''
        : `, ${timeText((this.total - done) / rate)} left`;
    process.stderr.write(
      `\r${this.label}${bar} ${this.amount(done)}, ${this.amount(rate)}/s${left}   `,
    );
  }

  private amount(count: number): string {
    const [value, unit] = this.unit === 'bytes' ? [count / 1e6, 'MB'] : [count, this.unit];
    return `${Math.round(value).toLocaleString('en')} ${unit}`;
  }

  end(): void {
    if (this.isTerminal) process.stderr.write('\n');
  }
}
