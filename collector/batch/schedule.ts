/** Runs jobs when they are due: each for the days of its lookback whose input has changed since they ran. */
import { messageOf } from '../../shared/errors.ts';
import { dateOf } from '../lake/layout.ts';
import { DAY_MS, dueAfter } from './job.ts';
import type { BatchRunner } from './runner.ts';

const LOOK_MS = 15_000;

export class Schedule {
  private readonly runner: BatchRunner;
  /** When a job is due next, epoch milliseconds. */
  private readonly next = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;

  constructor(runner: BatchRunner) {
    this.runner = runner;
  }

  /** What was due while nobody was here is made up for at once: days that have run and not changed do nothing. */
  start(): void {
    const now = this.runner.options.wallMs();
    for (const { name, schedule } of this.runner.options.jobs)
      if (schedule !== undefined) this.next.set(name, now);
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
  }

  private look(): void {
    const { jobs, wallMs, engine, notify } = this.runner.options;
    const now = wallMs();
    for (const { name, schedule, lookbackDays } of jobs) {
      if (schedule === undefined || now < (this.next.get(name) ?? Infinity)) continue;
      this.next.set(name, dueAfter(schedule, now));
      const dates = Array.from({ length: lookbackDays }, (_, day) =>
        dateOf(now - (lookbackDays - day) * DAY_MS),
      );
      const task = this.runner.begin(name, dates, engine, false);
      void this.report(task.id).catch((error: unknown) =>
        notify({ level: 'error', event: 'batch', text: messageOf(error) }),
      );
    }
  }

  /** A job that fails says so where operators look; the others go on. */
  private async report(id: string): Promise<void> {
    const task = this.runner.task(id);
    while (task !== undefined && !task.finished && this.timer !== undefined)
      await new Promise((resolve) => setTimeout(resolve, 500).unref());
    if (task?.failure !== undefined)
      this.runner.options.notify({
        level: 'error',
        event: 'batch_failed',
        text: `job ${task.job}: ${task.failure}`,
      });
  }

  nextOf(name: string): number | undefined {
    return this.next.get(name);
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }
}
