/**
 * How far a reading is from what is usual at its hour of the day, in standard deviations, smoothed over a few readings.
 * For each hour mean and variance are kept, weighted exponentially, so that seasons are followed; what is itself unusual
 * moves them less. In the first two weeks it learns and says nothing.
 */
interface Hour {
  mean: number;
  variance: number;
  count: number;
}

interface State {
  sinceMs: number;
  hours: (Hour | null)[];
  smoothed: number;
}

interface Input {
  time: number;
  fields: Record<string, number>;
}

const LEARNING_MS = 14 * 86_400_000;
const WEIGHT = 0.05;
const SMOOTHING = 0.3;
/** Smoothed deviations beyond which a reading is called unusual. */
const UNUSUAL = 3;

export function step(state: State | undefined, reading: Input) {
  const value = Object.values(reading.fields)[0];
  const before = state ?? { sinceMs: reading.time, hours: [], smoothed: 0 };
  if (value === undefined) return { state: before };
  const at = Math.floor(reading.time / 3_600_000) % 24;
  const hour = before.hours[at] ?? { mean: value, variance: 0, count: 0 };
  const off = value - hour.mean;
  const deviation = Math.sqrt(hour.variance);
  const score = deviation > 0 ? Math.abs(off) / deviation : 0;
  const smoothed = before.smoothed + SMOOTHING * (Math.min(score, 20) - before.smoothed);
  const weight = Math.max(WEIGHT, 1 / (hour.count + 1)) / Math.max(1, score / 2);
  const hours = [...before.hours];
  hours[at] = {
    mean: hour.mean + weight * off,
    variance: (1 - weight) * (hour.variance + weight * off * off),
    count: hour.count + 1,
  };
  const isLearning = reading.time - before.sinceMs < LEARNING_MS;
  return {
    state: { sinceMs: before.sinceMs, hours, smoothed },
    fields: isLearning
      ? undefined
      : { expected: hour.mean, score: smoothed, unusual: smoothed > UNUSUAL ? 1 : 0 },
  };
}
