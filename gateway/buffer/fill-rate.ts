/** How soon the buffer will be full, from what came and went in the last minutes. */
const EVERY_US = 5e6;
const SAMPLES_MAX = 120;

interface Sample {
  atUs: number;
  /** Bytes of frames committed so far, and waiting. */
  committed: number;
  waiting: number;
}

export class FillRate {
  private samples: Sample[] = [];

  /** Call as often as wanted: a sample is taken every few seconds. */
  sample(atUs: number, committed: number, waiting: number): void {
    const last = this.samples.at(-1);
    if (last !== undefined && atUs - last.atUs < EVERY_US) return;
    this.samples.push({ atUs, committed, waiting });
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
  }

  /** Hours until `room` bytes are taken: at the rate of the last minutes, and as if nothing were taken away. */
  hours(room: number): { untilFull: number | undefined; ifCut: number | undefined } {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (first === undefined || last === undefined || last.atUs === first.atUs)
      return { untilFull: undefined, ifCut: undefined };
    const hours = (last.atUs - first.atUs) / 3600e6;
    const at = (bytes: number): number | undefined =>
      bytes <= 0 ? undefined : room / (bytes / hours);
    return {
      untilFull: at(last.waiting - first.waiting),
      ifCut: at(last.committed - first.committed),
    };
  }
}
